"""Where a net's numbers lie in compiled code.

A matrix of (rows, columns) is stored in *panels* of `LANES` columns: panel after panel, row after
row, `LANES` numbers each, the last panel filled up with zeros. A kernel walks down a panel with one
vector per row, whatever the width of the net, so that no width needs code of its own.

Weights have a multiple of `LANES` rows, so that the columns of one layer's output, themselves cut
into panels, meet whole blocks of the next layer's weights.

Kernels that only read parameters also read them where they are, in the net's flat buffer: there a
panel is `LANES` columns of a row-major matrix, whose rows are further apart. What a vector reads
beyond the last column is never used; a vector must be readable after the end of the buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn.backends._spec import NetSpec
from accelnn.backends.numba.vectors import DEEP, LANES, WIDE

__all__ = [
    "ACTIVATION",
    "BIAS",
    "CODE",
    "FLAT",
    "HAS_BIAS",
    "INPUTS",
    "INPUT_PANEL",
    "INPUT_PANELS",
    "OUTPUTS",
    "OUTPUT_PANEL",
    "OUTPUT_PANELS",
    "PANEL",
    "ROW",
    "WEIGHTS",
    "Layout",
    "aligned_empty",
    "aligned_zeros",
    "with_room",
]

# Columns of the table of layers: widths, and how many panels they make;
INPUTS, OUTPUTS, INPUT_PANELS, OUTPUT_PANELS = 0, 1, 2, 3
# where weights and biases start, in panels and in the flat buffer;
WEIGHTS, BIAS, HAS_BIAS, FLAT = 4, 5, 6, 7
# the first panel of input and output among the panels of a batch: each layer's output in turn, and
# last the samples, which not every kernel stores;
INPUT_PANEL, OUTPUT_PANEL = 8, 9
# the number of the activation of its output, or `OWN_CODE` and the address of its code;
ACTIVATION, CODE = 10, 11
# how far apart the rows of a panel of weights are, and how far apart panels.
ROW, PANEL = 12, 13

_CACHE_LINE = 64


class Layout(NamedTuple):
    """The places of everything in a net of one architecture and dtype.

    Attributes
    ----------
    table : numpy.ndarray of int64
        A row per layer, with the columns named above.
    in_place : numpy.ndarray of int64
        The same for parameters in the flat buffer.
    size : int
        Numbers in the packed parameters.
    input_panels, output_panels : int
        Panels of the samples, and of all layers' outputs.
    scratch : int
        Numbers that one thread needs in passing.
    """

    table: np.ndarray
    in_place: np.ndarray
    size: int
    input_panels: int
    output_panels: int
    scratch: int

    @classmethod
    def of(
        cls, spec: NetSpec, dtype: np.dtype, activations: Sequence[tuple[int, int]] = ()
    ) -> Layout:
        """Lay out a net, whose hidden layers have activations of these numbers and addresses."""
        activations = [*activations, *[(0, 0)] * (len(spec.sizes) - 1 - len(activations))]
        lanes = LANES[dtype.type]
        panels = [-(-width // lanes) for width in spec.sizes]
        samples = sum(panels[1:])
        table, start, flat, output = [], 0, 0, 0
        for i, (inputs, outputs) in enumerate(zip(spec.sizes, spec.sizes[1:], strict=False)):
            bias = start + panels[i] * panels[i + 1] * lanes**2
            shape = (inputs, outputs, panels[i], panels[i + 1])
            table.append(
                (
                    *shape,
                    start,
                    bias,
                    spec.bias,
                    flat,
                    samples if i == 0 else output - panels[i],
                    output,
                    *activations[i],
                    lanes,
                    panels[i] * lanes**2,
                )
            )
            start = bias + panels[i + 1] * lanes
            flat += (inputs + spec.bias) * outputs
            output += panels[i + 1]
        # A panel of the first layer's gradient, a part of weights transposed, or a block of a
        # gradient, of which the last two may be written beyond their end.
        scratch = max(panels[0] * lanes, DEEP + lanes, lanes + WIDE) * lanes
        packed = np.array(table, dtype=np.int64)
        in_place = packed.copy()
        in_place[:, WEIGHTS] = packed[:, FLAT]
        in_place[:, BIAS] = packed[:, FLAT] + packed[:, INPUTS] * packed[:, OUTPUTS]
        in_place[:, ROW], in_place[:, PANEL] = packed[:, OUTPUTS], lanes
        return cls(packed, in_place, start, panels[0], output, scratch)


def aligned_zeros(size: int, dtype: np.dtype) -> np.ndarray:
    """Return a flat array of zeros that starts on a cache line."""
    return _aligned(np.zeros(size + _CACHE_LINE // dtype.itemsize, dtype), size)


def aligned_empty(size: int, dtype: np.dtype) -> np.ndarray:
    """Return a flat array of any numbers that starts on a cache line."""
    return _aligned(np.empty(size + _CACHE_LINE // dtype.itemsize, dtype), size)


def _aligned(raw: np.ndarray, size: int) -> np.ndarray:
    start = -address_of(raw) % _CACHE_LINE // raw.itemsize
    return raw[start : start + size]


def address_of(array: np.ndarray) -> int:
    """Return where an array starts; ``array.ctypes`` takes longer."""
    address: int = array.__array_interface__["data"][0]
    return address


def with_room(flat: np.ndarray, lanes: int) -> np.ndarray:
    """Return the array if so many numbers can be read after its end, as in a net, else a copy."""
    base = flat.base
    if isinstance(base, np.ndarray) and base.flags.c_contiguous:
        end, end_of_base = (address_of(a) + a.nbytes for a in (flat, base))
        if end_of_base - end >= lanes * flat.itemsize:
            return flat
    copy = np.zeros(flat.size + lanes, flat.dtype)
    copy[: flat.size] = flat
    return copy[: flat.size]
