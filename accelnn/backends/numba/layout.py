"""Where a net's numbers lie in compiled code.

A matrix of (rows, columns) is stored in *panels* of `LANES` columns: panel after panel, row after
row, `LANES` numbers each, the last panel filled up with zeros. A kernel walks down a panel with one
vector per row, whatever the width of the net, so that no width needs code of its own.

Weights have a multiple of `LANES` rows, so that the columns of one layer's output, themselves cut
into panels, meet whole blocks of the next layer's weights.
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
    "WEIGHTS",
    "Layout",
    "aligned_zeros",
]

# Columns of the table of layers: widths, and how many panels they make;
INPUTS, OUTPUTS, INPUT_PANELS, OUTPUT_PANELS = 0, 1, 2, 3
# where weights and biases start, in panels and in the flat buffer;
WEIGHTS, BIAS, HAS_BIAS, FLAT = 4, 5, 6, 7
# the first panel of input and output among the panels of a batch: each layer's output in turn, and
# last the samples, which not every kernel stores;
INPUT_PANEL, OUTPUT_PANEL = 8, 9
# and the number of the activation of its output, or `OWN_CODE` and the address of its code.
ACTIVATION, CODE = 10, 11

_CACHE_LINE = 64


class Layout(NamedTuple):
    """The places of everything in a net of one architecture and dtype.

    Attributes
    ----------
    table : numpy.ndarray of int64
        A row per layer, with the columns named above.
    size : int
        Numbers in the packed parameters.
    output_panels : int
        Panels of all layers' outputs.
    scratch : int
        Numbers that one thread needs in passing.
    """

    table: np.ndarray
    size: int
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
                )
            )
            start = bias + panels[i + 1] * lanes
            flat += (inputs + spec.bias) * outputs
            output += panels[i + 1]
        # A panel of the first layer's gradient, a part of weights transposed, or a block of a
        # gradient, of which the last two may be written beyond their end.
        scratch = max(panels[0] * lanes, DEEP + lanes, lanes + WIDE) * lanes
        return cls(np.array(table, dtype=np.int64), start, output, scratch)


def aligned_zeros(size: int, dtype: np.dtype) -> np.ndarray:
    """Return a flat array of zeros that starts on a cache line."""
    spare = _CACHE_LINE // dtype.itemsize
    raw = np.zeros(size + spare, dtype)
    start = -raw.ctypes.data % _CACHE_LINE // dtype.itemsize
    return raw[start : start + size]
