"""The layout of a net with one hidden layer that stays in shared memory while it trains.

`kernels/resident.cu` describes the kernel. Sizes are compiled into it; this module chooses them:
how the net is divided among the blocks, so that each part fits in a block's shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from accelnn.backends.cupy.source import Variant

__all__ = ["RESIDENT", "THREADS", "Layout", "layout_of"]

RESIDENT = "train_resident"
THREADS = 256
# A warp computes all outputs of a sample.
MOST_OUTPUTS = 32
# Wider layers would not fit, so no layouts are tried.
MOST_HIDDEN = 1_024
# Pixels per load, if the number of inputs is a multiple of it.
VECTOR = 4
# Hidden units of a thread's tile: its sums, four per unit, stay in registers.
MOST_TILE = {"float32": 10, "float64": 5}
# The numbers of blocks of the last layer that are tried.
LAST_BLOCKS = (1, 2, 4, 6, 8, 12, 16)
# The most parts that sums are split into to keep threads busy.
MOST_PARTS = 8

# Cycle estimates, fitted to nine layouts on an H200: per row and four samples of each thread of a
# warp, and per hidden unit of their tile; the minimum of a pass over all rows; per sample that a
# block owns, per number that a block of the last layer waits for, and per number of other blocks.
# With a kernel of before: with the current one, the layout that they choose for 784-50-10 at batch
# 100 takes 4.22 µs per update on an NVIDIA H200, and four other layouts 4.21 to 5.37.
ROW, UNIT, PASS, SAMPLE, LAST_NUMBER, NUMBER = 6.0, 2.0, 400.0, 600.0, 250.0, 100.0
LAST_PRODUCTS = 32


class Layout(NamedTuple):
    """The sizes that are compiled into the kernel, which derives all others from them.

    Attributes
    ----------
    inputs, hidden, outputs, bias : int
        The net.
    samples : int
        Samples per batch; the last one may be shorter.
    vector : int
        Inputs per load.
    slots : int
        Buffers of the optimiser's state.
    rows, columns : int
        Groups of inputs, and of hidden units; a block has one of each.
    last : int
        Blocks of the last layer.
    width, tile : int
        Hidden units per block, and per thread.
    forward, update : int
        Parts of sums over inputs, and over samples.
    threads, number : int
        Threads per block, and bytes per number.
    """

    inputs: int
    hidden: int
    outputs: int
    bias: int
    samples: int
    vector: int
    slots: int
    rows: int
    columns: int
    last: int
    width: int
    tile: int
    forward: int
    update: int
    threads: int
    number: int

    @property
    def blocks(self) -> int:
        """The number of blocks of the grid."""
        return self.rows * self.columns + self.last

    @property
    def options(self) -> tuple[str, ...]:
        """Compiler options, besides those of the `Variant`."""
        told = {
            "INPUTS": self.inputs,
            "HIDDEN": self.hidden,
            "OUTPUTS": self.outputs,
            "HAS_BIAS": self.bias,
            "SAMPLES": self.samples,
            "VECTOR": self.vector,
            "SLOTS": self.slots,
            "ROW_GROUPS": self.rows,
            "COLUMN_GROUPS": self.columns,
            "LAST_BLOCKS": self.last,
            "COLUMNS": self.width,
            "TILE": self.tile,
            "FORWARD_PARTS": self.forward,
            "UPDATE_PARTS": self.update,
            "THREADS": self.threads,
            "SHARED_BYTES": self.shared_bytes,
        }
        return tuple(f"-D{name}={value}" for name, value in told.items())

    @property
    def words(self) -> tuple[int, int, int]:
        """Words for exchanged sums, samples, and weights of the last layer."""
        each = self.number // 4
        sent = self.columns * self.width + self.hidden + self.outputs
        sizes = (self.samples * self.rows * self.hidden, self.samples * sent, self._last_size)
        return sizes[0] * each, sizes[1] * each, sizes[2] * each

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory per block."""
        quads, tiles = _parts(self.samples, 4), self.width // self.tile
        row = tiles * _padded(self.tile)
        owned = _parts(self.samples, self.rows * self.columns)
        feeding = self.hidden + self.bias
        output = _padded(self.outputs)
        output += 0 if output % 8 else 4
        first = (
            2 * self._own_rows * 4 * (quads | 1)
            + (1 + self.slots) * self._own_rows * row
            + self.width * max(self.forward * 4 * quads, self.update * _padded(self._own_rows))
            + 4 * quads * row
            + feeding * output
            + _padded(self.hidden)
            + _padded(feeding)
            + _padded(owned * self.outputs)
            + 4 * quads
        )
        most = _parts(self._last_size, self.last)
        last = (self.outputs + self._units_of_last) * 4 * (quads | 1)
        last += (1 + self.slots) * _padded(most)
        return self.number * max(first, last)

    @property
    def cost(self) -> float:
        """The estimated cycles of an update."""
        quads, tiles = _parts(self.samples, 4), self.width // self.tile
        each = self._own_rows * quads * tiles / 32 * (ROW + UNIT * self.tile)
        busy = (
            quads * tiles * self.forward,
            _parts(self._own_rows, 2) * tiles * self.update,
        )
        first = sum(each * max(1.0, 0.75 * self.threads / used) + PASS for used in busy)
        numbers = self.samples * (self.outputs + self._units_of_last)
        most = _parts(self._last_size, self.last)
        last = numbers / self.threads * LAST_NUMBER + most * self.samples / LAST_PRODUCTS
        received = self.rows * self.hidden + self.samples * self.width
        owned = _parts(self.samples, self.rows * self.columns)
        # The shorter path still competes for memory bandwidth.
        both = max(first, last) + 0.1 * last
        return both + owned * SAMPLE + received / self.threads * NUMBER

    @property
    def _own_rows(self) -> int:
        return self.vector * (self.inputs // self.vector // self.rows + 1)

    @property
    def _last_size(self) -> int:
        return (self.hidden + self.bias) * self.outputs

    @property
    def _units_of_last(self) -> int:
        most = _parts(self._last_size, self.last)
        return (most + self.outputs - 2) // self.outputs + 1


@cache
def layout_of(
    variant: Variant,
    sizes: tuple[int, ...],
    samples: int,
    *,
    bias: bool,
    slots: int,
    processors: int,
    shared: int,
    threads: int = THREADS,
) -> Layout | None:
    """Return the layout with the lowest estimated cost, or None if the net cannot be resident.

    Parameters
    ----------
    variant : Variant
        The compile-time options of the kernels.
    sizes : tuple of int
        The widths of the layers.
    samples : int
        Samples per batch.
    bias : bool
        Whether layers have a bias.
    slots : int
        Buffers of the optimiser's state.
    processors, shared : int
        Multiprocessors of the device, and the maximum bytes of shared memory per block.
    threads : int, default: 256
        Threads per block.
    """
    if len(sizes) != 3:  # noqa: PLR2004 - one hidden layer
        return None
    if sizes[1] > MOST_HIDDEN or sizes[2] > MOST_OUTPUTS:
        return None
    vector = VECTOR if variant.has_pixels and sizes[0] % VECTOR == 0 else 1
    number = np.dtype(variant.dtype).itemsize
    known = (*sizes, int(bias), samples, vector, slots)
    found = [
        layout
        for layout in _layouts(known, variant.dtype, processors, threads, number)
        if layout.shared_bytes <= shared
    ]
    return min(found, key=lambda layout: layout.cost, default=None)


def _layouts(
    known: tuple[int, ...], dtype: str, processors: int, threads: int, number: int
) -> Iterator[Layout]:
    inputs, hidden, outputs, bias, samples, vector, _ = known
    for width in range(1, hidden + 1):
        tile = _parts(width, _parts(width, MOST_TILE[dtype]))
        tiles = _parts(width, tile)
        columns = _parts(hidden, tiles * tile)
        if tiles * tile - width or columns >= processors:
            continue
        for last in LAST_BLOCKS:
            rows = min((processors - last) // columns, inputs // vector)
            if rows < 1 or last > (hidden + bias) * outputs:
                continue
            own = vector * (inputs // vector // rows + 1)
            quads = _parts(samples, 4)
            forward = _evenly(own, threads // (quads * tiles))
            update = _evenly(quads, threads // (_parts(own, 2) * tiles))
            sizes = (rows, columns, last, tiles * tile, tile)
            for sums in {(forward, update), (1, 1)}:
                yield Layout._make((*known, *sizes, *sums, threads, number))


def _evenly(terms: int, parts: int) -> int:
    """Return the number of non-empty parts, at most `parts`, that `terms` are split into."""
    return _parts(terms, _parts(terms, max(1, min(parts, MOST_PARTS, terms))))


def _parts(n: int, of: int) -> int:
    return math.ceil(n / of)


def _padded(n: int) -> int:
    return _parts(n, 4) * 4
