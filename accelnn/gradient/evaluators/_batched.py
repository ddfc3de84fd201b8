"""Many points in one call of the function."""

from __future__ import annotations

import math

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend, MemoryFor, dtype_name
from accelnn.gradient._purity import require_untouched
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function
from accelnn.gradient.evaluators._values import Values

__all__ = ["Batched", "memory_for_points"]

# Bytes of all points of one call, which a processor keeps in its cache; what f allocates for them
# comes on top.
BATCH_BYTES = 1 << 20
# On a device, which needs more to be busy for longer than the host takes to ask for the next; and
# which part of its free memory they may be. Estimates: they have not been measured.
DEVICE_BATCH_BYTES, MEMORY_PART = 1 << 28, 16


class Batched(Evaluator):
    """Calls ``f`` with ``(k, *x.shape)``, k points at once; fewer where memory runs out.

    Parameters
    ----------
    chunk_size : int or None
        Rows per call; by default as many as keep the points within `BATCH_BYTES`, or on a device
        within `DEVICE_BATCH_BYTES` and a part of its free memory.
    """

    def __init__(
        self, backend: Backend, f: Function, x: Array, values: Values, chunk_size: int | None
    ) -> None:
        super().__init__(backend, f, x, values)
        self.chunk_size = chunk_size

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """See `Evaluator.evaluate`."""
        xp, (rows, points, _) = self.backend.xp, moved.shape
        copies = _MovedCopies(self.backend, self.x, columns, moved)
        found: list[Array] = []
        done, most = 0, self.chunk_size or self._default_size(points)
        while done < rows:
            piece = slice(done, min(done + (self.chunk_size or most), rows))
            values = self._values(copies, piece)
            if values is None:
                self.chunk_size = (piece.stop - done) // 2
                self.backend.release_memory()
                continue
            found.append(values)
            advance(piece.stop - done)
            done = piece.stop
        copies.drop()
        together = xp.concat(found)
        return xp.reshape(together, (rows, points, *tuple(together.shape)[1:]))

    def _values(self, copies: _MovedCopies, piece: slice) -> Array | None:
        """Return f at the points of some rows, or None if they are too many for the memory."""
        values = None
        try:
            batch = copies.move(piece)
            values = self.values.many(self.f(batch), batch)
        except MemoryError:
            if piece.stop - piece.start == 1:
                with memory_for_points(self.backend, self.x, copies.points):
                    raise
        # Not in the handler, where the error holds all arrays that f has made.
        copies.put_back(piece)
        if values is None:
            copies.drop()
        return values

    def _default_size(self, points: int) -> int:
        memory, room = self.backend.memory(), BATCH_BYTES
        if memory is not None:
            room = min(DEVICE_BATCH_BYTES, memory.free // MEMORY_PART)
        size: int = math.prod(self.x.shape)
        return max(1, room // (8 * max(1, size) * points))


class _MovedCopies:
    """Copies of a point in memory that every call gets again, a few numbers moved in each."""

    def __init__(self, backend: Backend, x: Array, columns: np.ndarray, moved: Array) -> None:
        xp = backend.xp
        rows, self.points, together = moved.shape
        self.backend, self.x = backend, x
        self.flat = xp.reshape(x, (1, -1))
        self.places = np.repeat(columns, self.points, axis=0)
        shape = (rows * self.points, together)
        self.moved = xp.reshape(moved, shape)
        original = xp.take(self.flat[0, :], backend.asarray(self.places.ravel()))
        self.original = xp.reshape(original, shape)
        self.copies: Array | None = None

    def move(self, rows: slice) -> Array:
        """Return the points of some rows, at most as many as the first time."""
        piece = self._piece(rows)
        k = piece.stop - piece.start
        if self.copies is None:
            copies = self.backend.zeros((k, self.flat.shape[1]), self.x.dtype)
            copies[...] = self.flat
            self.copies = copies
        self.backend.set_items(self.copies, self.places[piece], self.moved[piece, :])
        return self.backend.xp.reshape(self.copies[:k, :], (k, *self.x.shape))

    def put_back(self, rows: slice) -> None:
        """Make copies of x of the points of some rows."""
        if self.copies is not None:
            piece = self._piece(rows)
            self.backend.set_items(self.copies, self.places[piece], self.original[piece, :])

    def drop(self) -> None:
        """Leave the memory to others, or refuse a function that has written to it."""
        if self.copies is not None:
            require_untouched(self.backend, self.copies, self.flat)
        self.copies = None

    def _piece(self, rows: slice) -> slice:
        return slice(rows.start * self.points, rows.stop * self.points)


def memory_for_points(backend: Backend, x: Array, points: int) -> MemoryFor:
    """Return the context in which f is called with so few points that fewer are no choice."""

    def needs() -> str:
        size = points * math.prod(x.shape) * np.dtype(dtype_name(x.dtype)).itemsize
        return f"with batched=True f is given {points} points at least, which take {size:,} bytes"

    remedy = "Let f allocate less for each point, or leave out batched=True, which needs but one"
    return MemoryFor(backend, needs, remedy)
