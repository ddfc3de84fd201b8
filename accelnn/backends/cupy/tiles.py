"""Training and evaluation by tiled matrix products, and how their sums are split among blocks."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accelnn._typing import Array
from accelnn.backends.cupy.dataset import NULL, Rows
from accelnn.backends.cupy.source import TILE_BYTES, TILE_DEPTH, TILE_EDGE, TILE_THREADS

if TYPE_CHECKING:
    from accelnn.backends.cupy.engine import CupyEngine
    from accelnn.backends.cupy.training import Training, Updates

__all__ = ["Tiled", "tiled_evaluation"]

NO_ACTIVATION = np.int32(-1)
# Estimated cycles of a tile: per term of its sums, and besides. Of a part that is joined.
TERM, TILE, PART = 80, 5_000, 100
# Threads per block of the other kernels of an evaluation.
ELEMENT_THREADS = 256
# Units of all samples that are evaluated at once, which bounds the memory.
UNITS_AT_ONCE = 1 << 24


class Split(NamedTuple):
    """The number of parts of the sums of a layer: of its values, its errors, and its gradient."""

    values: int
    errors: int
    gradient: int


def tiles_of(rows: int, columns: int) -> int:
    """Return the number of tiles of a product."""
    return math.ceil(rows / TILE_EDGE) * math.ceil(columns / TILE_EDGE)


def parts_of(blocks: int, rows: int, columns: int, terms: int, depth: int) -> int:
    """Return the number of parts of the sums of a product that is estimated to be the fastest.

    Parameters
    ----------
    blocks : int
        The blocks that compute tiles.
    rows, columns, terms : int
        The shape of the product, and the terms of each sum.
    depth : int
        Terms that are in shared memory at once.
    """
    tiles = tiles_of(rows, columns)

    def cycles(parts: int) -> float:
        rounds = math.ceil(tiles * parts / blocks)
        return rounds * (TILE + TERM * math.ceil(terms / parts)) + PART * parts

    # Non-empty parts, of which no two numbers give the same terms to each.
    most = max(1, min(math.ceil(terms / depth), 8 * blocks // tiles + 1))
    return min({math.ceil(terms / math.ceil(terms / n)) for n in range(1, most + 1)}, key=cycles)


class Tiled:
    """All updates in one launch, in phases of tiled products with a grid barrier after each.

    Parameters
    ----------
    training : Training
        The run.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        engine, self._blocks = training.engine, training.kernels.processors
        spec, samples = engine.spec, training.most
        *_, inputs, outputs = spec.sizes
        # Numbers in shared memory but those of the last layer, and how many each sample needs:
        # inputs; scores, targets, powers, errors and sums.
        room = TILE_BYTES // training.params.dtype.itemsize
        left = room - (inputs + 1) * (outputs | 1) - TILE_THREADS[engine.dtype]
        at_once = left // (inputs + 5 * outputs)
        self._is_fused = len(spec.sizes) > 2 and at_once > 0  # noqa: PLR2004 - a hidden layer
        if not self._is_fused:
            at_once = (room - (outputs | 1)) // (5 * outputs)
        self._at_once = min(at_once, math.ceil(samples / self._blocks))
        splits = self._chosen()
        xp, widths = engine.backend.xp, spec.sizes[1:]
        most = max(
            max(split.values, split.errors) * width
            for split, width in zip(splits, widths, strict=True)
        )
        self._splits = engine.backend.asarray(np.array(splits, np.int32))
        self._sums = xp.empty(most * samples, engine.dtype)
        parts = max(split.gradient for split in splits)
        in_parts = parts > 1
        self._gradients = xp.empty((parts, spec.size), engine.dtype) if in_parts else training.grads
        self._gathered = xp.empty((samples, spec.sizes[0]), engine.dtype)

    def __call__(self, updates: Updates) -> None:
        """Do one update per batch."""
        run = self.training
        order, losses, coefficients, _ = updates
        told = run.told(order, losses, min(run.batch, order.size))
        # The units of a sample, which tiles count themselves, lie before the buffers.
        *net_and_batch, _, values, errors, losses = told
        numbers = map(np.int32, (self._at_once, self._is_fused, run.most))
        buffers = self._gathered, values, errors, self._sums, self._gradients, losses
        head = (*run.rule(coefficients), np.int64(order.size), *net_and_batch)
        arguments = (*head, self._splits, *numbers, *buffers)
        run.kernels.launch_tiles("train_tiles", self._blocks, arguments)

    def _chosen(self) -> list[Split]:
        """Return the parts of the sums of all layers."""
        spec, samples = self.training.engine.spec, self.training.most
        sizes, layers = spec.sizes, len(spec.sizes) - 1
        # Gradients are computed at the same time, each by a share of the blocks.
        shapes = [(a + spec.bias, b) for a, b in itertools.pairwise(sizes)]
        tiles = [tiles_of(*shape) for shape in shapes]
        chosen = []
        for i, (rows, columns) in enumerate(shapes):
            values = self._parts(samples, columns, sizes[i])
            errors = self._parts(samples, columns, sizes[i + 2]) if i < layers - 1 else 1
            share = max(1, self._blocks * tiles[i] // sum(tiles))
            gradient = self._parts(rows, columns, samples, share)
            chosen.append(Split(values, errors, gradient))
        return chosen

    def _parts(self, rows: int, columns: int, terms: int, blocks: int | None = None) -> int:
        depth = TILE_DEPTH[self.training.engine.dtype]
        return parts_of(blocks or self._blocks, rows, columns, terms, depth)


class Evaluation:
    """A forward pass over a data set.

    Parameters
    ----------
    engine : CupyEngine
        The engine of the net.
    rows : Rows
        The data.
    params : array of shape (size,)
        The parameters of the net.
    """

    def __init__(self, engine: CupyEngine, rows: Rows, params: Array) -> None:
        self.engine, self.rows, self.kernels = engine, rows, engine.kernels(rows)
        self.samples = rows.x.shape[0]
        self.layers = engine.spec.layers(params, engine.backend.xp)

    def write(self, losses: Array, hits: Array) -> None:
        """Write every sample's loss and number of correct labels."""
        outputs = np.int32(self.engine.spec.sizes[-1])
        told = (self._scores, self.engine.loss_number, outputs, *self.rows.told(None, self.samples))
        self._elementwise("tile_hits", self.samples, (*told, losses, hits))

    @property
    def _scores(self) -> Array:
        spec, xp, dtype = self.engine.spec, self.engine.backend.xp, self.engine.dtype
        values, blocks = NULL, self.kernels.processors
        for i, (w, b) in enumerate(self.layers):
            inputs, outputs = spec.sizes[i : i + 2]
            is_last = i == len(self.layers) - 1
            activation = NO_ACTIVATION if is_last else self.engine.activation_number
            parts = parts_of(blocks, self.samples, outputs, inputs, TILE_DEPTH[dtype])
            tiles = tiles_of(self.samples, outputs)
            sums = xp.empty((parts, self.samples, outputs), dtype)
            numbers = np.int32(inputs), np.int32(outputs), np.int32(parts)
            told = (values, w, *numbers, sums, *self.rows.told(None, self.samples))
            self.kernels.launch_tiles("tile_values", min(tiles * parts, blocks), told)
            # One part of sums becomes values in place.
            values = sums[0] if parts == 1 else xp.empty((self.samples, outputs), dtype)
            head = (sums, NULL if b is None else b, np.int32(outputs), activation)
            told = (*head, np.int32(parts), np.int32(self.samples), values)
            self._elementwise("tile_join", self.samples * outputs, told)
        return values

    def _elementwise(self, name: str, size: int, arguments: tuple[object, ...]) -> None:
        """Launch a kernel whose threads loop over `size` elements."""
        most = 4 * self.kernels.processors
        blocks = min(most, math.ceil(size / ELEMENT_THREADS))
        self.kernels.launch(name, blocks, ELEMENT_THREADS, arguments)


def tiled_evaluation(engine: CupyEngine, params: Array, rows: Rows, found: Array) -> None:
    """Write every sample's loss and number of correct labels to the rows of `found`."""
    samples = found.shape[1]
    at_once = max(1, UNITS_AT_ONCE // sum(engine.spec.sizes[1:]))
    for start in range(0, samples, at_once):
        piece = slice(start, min(start + at_once, samples))
        own = rows._replace(x=rows.x[piece], t=rows.t[piece])
        Evaluation(engine, own, params).write(found[0, piece], found[1, piece])
