"""Many points in one call of the function, from Python or in the backend's compiled loops."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends import MemoryFor, dtype_name
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, no_progress
from accelnn.gradient.evaluators._values import Values

__all__ = ["Batched", "Compiled"]

# Bytes of all points of one call, which a processor keeps in its cache; what f allocates for them
# comes on top.
BATCH_BYTES = 1 << 20
# On a device, which needs more to be busy for longer than the host takes to ask for the next; and
# which part of its free memory they may be. Estimates: they have not been measured.
DEVICE_BATCH_BYTES, MEMORY_PART = 1 << 28, 16
# Seconds that one compiled loop should take: Ctrl-C is heard, and progress seen, after it.
PIECE_SECONDS = 0.2
FIRST_ROWS = 2


def _references() -> int:
    """Count those to an array in a local variable and an attribute, as `sys` does.

    Newer versions of Python count one less, because a local variable is lent.
    """
    holder = Evaluator.__new__(Evaluator)
    holder.point = point = np.zeros(0)
    return sys.getrefcount(point)


# References to an array that nobody but its evaluator has.
UNSHARED = _references()


class Batched(Evaluator):
    """Calls ``f`` with ``(k, *x.shape)``, k points at once; fewer where memory runs out.

    Parameters
    ----------
    chunk_size : int or None
        Rows per call; by default as many as keep the points within `BATCH_BYTES`, or on a device
        within `DEVICE_BATCH_BYTES` and a part of its free memory.
    """

    how = "many points in a call"

    def __init__(
        self,
        f: Function,
        argument: Argument,
        point: Array,
        values: Values,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(f, argument, point, values)
        self.chunk_size = chunk_size
        # Whether f writes to what it is given, so that every call needs copies that are all new.
        self.f_writes = False
        # Copies of x that nobody else has, and where one of the points is moved while f is called.
        self._copies: Array | None = None
        self._places: np.ndarray | None = None
        self._are_copies = False

    def at(self, flat: Array) -> Any:
        """Return the value of f at one flat point."""
        return self.at_rows(flat[None, :])[0, ...]

    def at_rows(self, rows: Array) -> Array:
        """Return the values of f at points, which it may keep."""
        count, argument = rows.shape[0], self.argument
        self.count += count
        if argument.is_tree:
            return self.values.many(self.f(argument.split(rows, (count,))), rows)
        if len(argument.shape) != 1:
            rows = self.backend.xp.reshape(rows, (count, *argument.shape))
        return self.values.many(self.f(rows), rows)

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        rows, points = moved.shape[:2]
        most = self.chunk_size or self._default_size(points)
        if rows > most and not self.f_writes:
            try:
                found = self._evaluate(columns, moved, most, advance)
            except Exception:
                if not self._wrote():
                    raise
            else:
                if found is not None:
                    return found
            # What it wrote was in the points that came next.
            self.f_writes, advance = True, no_progress
        return self._evaluate(columns, moved, most, advance, refills=True)

    def _evaluate(
        self,
        columns: np.ndarray,
        moved: np.ndarray,
        most: int,
        advance: Advance,
        *,
        refills: bool = False,
    ) -> Array | None:
        """Return f at all points, or None if it has written to copies that were not refilled."""
        rows, done = len(moved), 0
        found: list[Array] = []
        while done < rows:
            stop = min(done + (self.chunk_size or most), rows)
            values = self._values(columns[done:stop], moved[done:stop], refills=refills)
            if values is None:
                self.chunk_size = (stop - done) // 2
                self.backend.release_memory()
                continue
            found.append(values)
            advance(stop - done)
            is_looked_at = not refills and (done == 0 or stop == rows)
            done = stop
            if is_looked_at and self._wrote():
                return None
        return found[0] if len(found) == 1 else self.backend.xp.concat(found)

    def _values(self, columns: np.ndarray, moved: np.ndarray, *, refills: bool) -> Array | None:
        """Return f at the points of some rows, or None if they are too many for the memory."""
        backend = self.backend
        rows, points, together = moved.shape
        count = rows * points
        self._places = np.repeat(columns, points, axis=0)
        try:
            copies = self._fresh(count, refills=refills)
            numbers = backend.asarray(moved.reshape(count, together), self.point.dtype)
            backend.set_items(copies, self._places, numbers)
            values = self.at_rows(copies[:count, :])
        except MemoryError:
            self._copies = None
            if rows == 1:
                with self.memory_for(points):
                    raise
            return None
        if sys.getrefcount(copies) > UNSHARED:
            # f has kept what it was given.
            self._copies = None
        elif not refills:
            self._put_back(copies)
        self._places = None
        return values

    def _fresh(self, count: int, *, refills: bool) -> Array:
        """Return copies of x, which stay ours if f does not keep what it is given."""
        is_new = self._copies is None or self._copies.shape[0] < count
        if is_new:
            self._copies = self.backend.zeros((count, self.point.shape[0]), self.point.dtype)
        copies: Array = self._copies
        if is_new or refills or not self._are_copies:
            copies[...] = self.point
        self._are_copies = not refills
        return copies

    def _put_back(self, copies: Array) -> None:
        places, backend = self._places, self.backend
        assert places is not None  # noqa: S101 - points were moved
        there = backend.xp.take(self.point, backend.asarray(places.reshape(-1)))
        backend.set_items(copies, places, backend.xp.reshape(there, places.shape))

    def _wrote(self) -> bool:
        """Return whether f has written to what it was given."""
        xp, copies = self.backend.xp, self._copies
        if copies is None:
            return False
        if self._places is not None:
            # f has raised, and whoever looks for the reason may find what it was given.
            copies = xp.asarray(copies, copy=True)
            self._put_back(copies)
        return not bool(self.backend.to_numpy(xp.all(copies == self.point)))

    def memory_for(self, points: int) -> MemoryFor:
        """Return the context in which f is called with so few points that fewer are no choice."""

        def needs() -> str:
            size = points * self.argument.size * np.dtype(dtype_name(self.point.dtype)).itemsize
            return (
                f"with batched=True f is given {points} points at least, which take {size:,} bytes"
            )

        remedy = (
            "Let f allocate less for each point, or leave out batched=True, which needs but one"
        )
        return MemoryFor(self.backend, needs, remedy)

    def _default_size(self, points: int) -> int:
        memory, room = self.backend.memory(), BATCH_BYTES
        if memory is not None:
            room = min(DEVICE_BATCH_BYTES, memory.free // MEMORY_PART)
        return max(1, room // (8 * max(1, self.argument.size) * points))


class Compiled(Evaluator):
    """Leaves the loop to `Backend.evaluate_compiled`, in pieces."""

    how = "a compiled loop"

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        backend, shape = self.backend, self.argument.shape
        x = backend.xp.reshape(self.point, shape)
        rows, start, size, found = len(columns), 0, FIRST_ROWS, []
        while start < rows:
            stop = min(start + size, rows)
            since = time.perf_counter()
            points = backend.asarray(moved[start:stop], self.point.dtype)
            found.append(backend.evaluate_compiled(self.f, x, columns[start:stop], points))
            seconds = time.perf_counter() - since
            advance(stop - start)
            # Not more than eight times as many as before: the first piece may not be typical.
            size = max(1, min(8 * size, int(size * PIECE_SECONDS / max(seconds, 1e-9))))
            start = stop
        self.count += rows * moved.shape[1]
        return backend.xp.reshape(backend.xp.concat(found), (-1,))
