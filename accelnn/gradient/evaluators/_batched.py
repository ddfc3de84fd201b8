"""Many points in one call of the function, from Python or in the backend's compiled loops."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend, MemoryFor, dtype_name
from accelnn.errors import ImpureFunctionError
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, no_progress
from accelnn.gradient.evaluators._reads import alike, refuse_random, what_is_read
from accelnn.gradient.evaluators._values import Values

__all__ = ["Batched", "Compiled"]

# Points of the call that shows whether they meet.
PROBES = 3
# A batch may be summed in another order than one row.
SAME_ROW = 1e-4
# Bytes of all points of one call, which a processor keeps in its cache; what f allocates for them
# comes on top.
BATCH_BYTES = 1 << 20
# On a device, which needs more to be busy for longer than the host takes to ask for the next; and
# which part of its free memory they may be. Estimates: they have not been measured.
DEVICE_BATCH_BYTES, MEMORY_PART = 1 << 28, 16
# Seconds that one compiled loop should take: Ctrl-C is heard, and progress seen, after it.
PIECE_SECONDS = 0.2
FIRST_ROWS = 2
# References to an attribute that nobody else has: its own, and that of the question.
UNSHARED = 2


class _Copies:
    """Copies of x in memory of our own, a few numbers of which are moved for each call of f.

    They are put back before the next, which is less than to write all of x again. So what f writes
    to other places would be in the points that follow: it is noticed when those are moved
    themselves, or at the end.
    """

    def __init__(self, backend: Backend, point: Array, count: int) -> None:
        self.backend, self.point = backend, point
        self.rows = backend.zeros((count, point.shape[0]), point.dtype)
        self.rows[...] = point
        self.calls, self.is_clean = 0, True
        self.places = np.zeros((0, 0), int)
        # Whether it shows that somebody has a part: it does not where a library wraps another's.
        part = self.rows[:1, :]
        self.tells = sys.getrefcount(self.rows) > UNSHARED
        del part

    def move(self, places: np.ndarray, numbers: Array) -> Array:
        """Return as many copies as there are rows of `places`, with `numbers` there."""
        backend, xp = self.backend, self.backend.xp
        if self.calls:
            self._put_back(self.rows)
            flat = places + self.point.shape[0] * np.arange(len(places))[:, None]
            now = xp.take(xp.reshape(self.rows, (-1,)), backend.asarray(flat.reshape(-1)))
            there = xp.take(self.point, backend.asarray(places.reshape(-1)))
            # No device is waited for.
            self.is_clean = xp.all(now == there) & self.is_clean
        self.calls += 1
        self.places = places
        backend.set_items(self.rows, places, numbers)
        return self.rows[: len(places), :]

    def _put_back(self, rows: Array) -> None:
        """Make what was moved copies of x again."""
        backend, xp = self.backend, self.backend.xp
        there = xp.take(self.point, backend.asarray(self.places.reshape(-1)))
        backend.set_items(rows, self.places, xp.reshape(there, self.places.shape))

    def refill(self) -> None:
        """Make all rows copies of x again."""
        self.rows[...] = self.point
        self.calls, self.is_clean = 0, True

    def is_kept(self) -> bool:
        """Return whether f may have kept what it was given, which must not change then."""
        return not self.tells or sys.getrefcount(self.rows) > UNSHARED

    def is_written(self) -> bool:
        """Return whether f has written to other places than those that were moved."""
        backend, xp = self.backend, self.backend.xp
        rows = xp.asarray(self.rows, copy=True)
        self._put_back(rows)
        return not bool(backend.to_numpy(xp.all(rows == self.point) & self.is_clean))


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
        # Whether f writes to what it is given, so that every call needs copies that are all new;
        # and whether it did so before that was known.
        self.f_writes, self.is_dubious = False, False
        self._copies: _Copies | None = None

    def at(self, flat: Array) -> Any:
        """Return the value of f at one flat point."""
        return self.at_rows(flat[None, :])[0, ...]

    def at_rows(self, rows: Array) -> Array:
        """Return the values of f at points, which it may keep."""
        self.count += rows.shape[0]
        points = self.argument.of(rows)
        return self.values.many(self.f(points), rows if self.argument.is_tree else points)

    def begin(
        self, beside: Iterator[np.ndarray], base: np.ndarray | None, *, in_place: bool | None
    ) -> np.ndarray:
        """See `Evaluator.begin`."""
        try:
            return super().begin(beside, base, in_place=in_place)
        except MemoryError:
            with self.memory_for(PROBES):
                raise

    def look(
        self,
        base: np.ndarray,
        beside: Iterator[np.ndarray],
        restore: Callable[[], None],
        *,
        asks: bool,
    ) -> None:
        """See `Evaluator.look`; one call tells, and also whether its points meet."""
        near = next(beside)
        if asks and self.argument.shared:
            self.argument.write(near)
        found, alone = self._together(near), base[None]
        restore()
        if alike(found[::2], alone):
            if asks and alike(found[1:2], alone):
                reads = self.probe(base, [near, *beside], restore)
                what_is_read(reads, self.f, can_move=False)
            return
        if asks:
            reads = self.probe(base, [near], restore)
            if alike(base, self.at_copy()):
                what_is_read(reads, self.f, can_move=False)
        self._require_rows(base, beside)

    def _together(self, other: np.ndarray) -> np.ndarray:
        """Return the values at x, at another point and at x again, in one call."""
        point = self.backend.to_numpy(self.point)
        three = np.array([point, other, point])
        return self.values.on_host(self.at_rows(self.backend.asarray(three, self.point.dtype)))

    def _require_rows(self, base: np.ndarray, beside: Iterator[np.ndarray]) -> None:
        """Say which fault made a point's value change in a batch."""
        again = self.at_copy()
        if not alike(base, again):
            refuse_random(base, again)
        for other in beside:
            with np.errstate(all="ignore"):
                found = self._together(other)
                # A batch may be summed in another order than one row.
                apart = np.abs(found[::2] - base) > SAME_ROW * np.abs(base)
            if apart.any():
                msg = (
                    "f gives a point another value when other points are in its batch: with "
                    "batched=True, each value must depend on its own row alone, not on their "
                    "number, mean or spread"
                )
                raise ImpureFunctionError(msg)

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        if self._copies is not None:
            self._copies.refill()
        try:
            found = self._evaluate(columns, moved, advance)
        except Exception:
            if not self._has_written():
                raise
        else:
            if not self._has_written():
                return found
        # There is no telling what f was given: once more, with points that are all new.
        self.f_writes, self.is_dubious = True, False
        return self._evaluate(columns, moved, no_progress)

    def _evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Array:
        rows, points = moved.shape[:2]
        found: list[Array] = []
        done, most = 0, self.chunk_size or self._default_size(points)
        while done < rows:
            stop = min(done + (self.chunk_size or most), rows)
            values = self._values(columns[done:stop], moved[done:stop])
            if values is None:
                self.chunk_size = (stop - done) // 2
                self.backend.release_memory()
                continue
            found.append(values)
            advance(stop - done)
            done = stop
        return found[0] if len(found) == 1 else self.backend.xp.concat(found)

    def _values(self, columns: np.ndarray, moved: np.ndarray) -> Array | None:
        """Return f at the points of some rows, or None if they are too many for the memory."""
        rows, points, together = moved.shape
        places = np.repeat(columns, points, axis=0)
        numbers = moved.reshape(rows * points, together)
        try:
            copies = self._copies
            if copies is None or copies.rows.shape[0] < len(places):
                copies = self._copies = _Copies(self.backend, self.point, len(places))
            elif self.f_writes or (copies.calls == 1 and copies.is_written()):
                self.f_writes = True
                copies.refill()
            numbers = self.backend.asarray(numbers, self.point.dtype)
            values = self.at_rows(copies.move(places, numbers))
        except MemoryError:
            self._copies = None
            if rows == 1:
                with self.memory_for(points):
                    raise
            return None
        if copies.is_kept():
            self.is_dubious = self._has_written()
            self._copies = None
        return values

    def _has_written(self) -> bool:
        """Return whether f may have been given a point that an earlier call has written to."""
        copies = self._copies
        return self.is_dubious or (copies is not None and copies.calls > 1 and copies.is_written())

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
