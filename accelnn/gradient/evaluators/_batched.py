"""Evaluation of many points at once: in one call of f, or in a compiled loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from accelnn._shown import shown
from accelnn._typing import Array
from accelnn.backends import Backend, MemoryFor, dtype_name
from accelnn.errors import ImpureFunctionError
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, set_items
from accelnn.gradient.evaluators._reads import alike, refuse_random, what_is_read
from accelnn.gradient.evaluators._values import Values

__all__ = ["Batched", "Compiled"]

# Points of the call that tests whether rows are independent.
PROBES = 3
# Relative tolerance between a row alone and in a batch, which may be summed in another order.
SAME_ROW = 1e-4
# Bytes of all points of one call, which fit in a cache; f's own temporaries come on top.
BATCH_BYTES = 1 << 20
# On a device, enough to hide the latency of launches, and at most one part in so many of its free
# memory. Estimates, not measured.
DEVICE_BATCH_BYTES, MEMORY_PART = 1 << 28, 16
# Target duration of one compiled loop, between which Ctrl-C and the progress bar are served.
PIECE_SECONDS = 0.2
# Loops estimated to be shorter run on one thread, because waking the others would take longer.
BRIEF_SECONDS = 5e-4
# A loop has at most so many times the rows of the one before, whose duration may not be typical.
GROWTH = 8


class Batched(Evaluator):
    """Calls ``f`` with k points at once, of shape ``(k, *x.shape)``; fewer where memory runs out.

    Parameters
    ----------
    chunk_size : int or None
        Rows per call; by default as many points as fit in `BATCH_BYTES`, or on a device in
        `DEVICE_BATCH_BYTES` and a part of its free memory.
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
        # Rows of the probing call. Not as many as x has coordinates, because a sum over the wrong
        # axis would then have the shape of one value for each point.
        self.few = PROBES + (argument.shape[:1] == (PROBES,))
        # Whether the first batch has shown that rows are independent.
        self.are_apart = False

    def at(self, flat: Array) -> Any:
        """Return the value of f at one flat point, in a batch with the point near x."""
        return self.at_few(flat)[1, ...]

    def at_few(self, flat: Array) -> Array:
        """Return the values of f in a batch of the point near x and copies of another."""
        rows = self.backend.xp.repeat(flat[None, :], self.few, axis=0)
        rows[0, ...] = self.near
        return self.at_rows(rows)

    def at_rows(self, rows: Array) -> Array:
        """Return the values of f at points; f may keep the array."""
        self.count += rows.shape[0]
        points = self.argument.of(rows)
        return self.values.many(self.f(points), rows if self.argument.is_tree else points)

    def begin(
        self, beside: Iterator[np.ndarray], base: np.ndarray | None, *, in_place: bool | None
    ) -> np.ndarray:
        """See `Evaluator.begin`; one call yields f(x), and the first batch completes the probe.

        The first batch has another size, holds x in another row, and is evaluated while the
        caller's x is moved: f(x) is the same there only if rows are independent and f does not read
        x.
        """
        self.asks, self.beside, self.points = in_place is None, beside, [next(beside)]
        self.near = self.backend.asarray(self.points[0], self.point.dtype)
        with self.memory_for(self.few):
            found = self.values.on_host(self.at_few(self.point))
        self.alone = found[1:2]
        if not alike(found[2:], self.alone):
            self._require_rows(found[1:])
        elif self.asks and alike(found[:1], self.alone):
            self._require_reading(found[1], self._points_beside())
        if base is not None and (np.abs(base - found[1]) > SAME_ROW * np.abs(found[1])).any():
            msg = f"f0 is {shown(base)}, but f(x) is {shown(found[1])}"
            raise ValueError(msg)
        f_of_x: np.ndarray = found[1]
        return f_of_x

    def _require_reading(self, base: np.ndarray, beside: list[np.ndarray]) -> None:
        """Refuse an f that does not depend on its argument alone."""
        with self.argument.moving() as restore:
            reads = self.probe(base, beside, restore)
        what_is_read(reads, self.f, can_move=False)

    def _require_rows(self, found: np.ndarray) -> None:
        """Raise the reason why f(x) differed within a batch, unless that is rounding."""
        base, again = self.at_copy(), self.at_copy()
        if not alike(base, again):
            refuse_random(base, again)
        if self.asks:
            self._require_reading(base, self.points[:1])
        for values in itertools.chain([found], map(self._between, self._points_beside()[1:])):
            with np.errstate(all="ignore"):
                # Batches may be summed in another order.
                apart = np.abs(values - base) > SAME_ROW * np.abs(base)
            if apart.any():
                msg = (
                    "f gives a point another value when other points are in its batch: with "
                    "batched=True, each value must depend on its own row alone, not on the "
                    "number, mean or spread of the rows"
                )
                raise ImpureFunctionError(msg)

    def _between(self, other: np.ndarray) -> np.ndarray:
        """Return the values of two rows of x in one call, with another point before and after."""
        point = self.backend.to_numpy(self.point)
        rows = self.backend.asarray(np.array([other, point, point, other]), self.point.dtype)
        found: np.ndarray = self.values.on_host(self.at_rows(rows))[1:3]
        return found

    def _points_beside(self) -> list[np.ndarray]:
        self.points += self.beside
        return self.points

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        rows, points = moved.shape[:2]
        found: list[Array] = []
        done, size = 0, self.chunk_size or self._default_size(points)
        while done < rows:
            stop = min(done + size, rows)
            values = self._values(columns[done:stop], moved[done:stop])
            if values is None:
                size = self.chunk_size = (stop - done) // 2
                self.backend.release_memory()
                continue
            found.append(values)
            advance(stop - done)
            done = stop
        return found[0] if len(found) == 1 else self.backend.xp.concat(found)

    def _values(self, columns: np.ndarray, moved: np.ndarray) -> Array | None:
        """Return f at the points of some rows, or None if memory runs out."""
        backend, (rows, points, together) = self.backend, moved.shape
        count, extra = rows * points, 0
        if not self.are_apart:
            extra = 2 if count + 1 == self.few else 1
        try:
            # A new array for every call, because f may keep or change it.
            flat = backend.xp.repeat(self.point[None, :], extra + count, axis=0)
            numbers = backend.asarray(moved.reshape(count, together), self.point.dtype)
            set_items(backend, flat[extra:, ...], columns.repeat(points, axis=0), numbers)
            if extra:
                return self._first_values(flat, extra)
            return self.at_rows(flat)
        except MemoryError:
            if rows > 1:
                return None
            with self.memory_for(points):
                if not extra:
                    raise
                # There is room for these points, but not for the additional rows of x.
                self.are_apart = True
                return self._values(columns, moved)

    def _first_values(self, flat: Array, extra: int) -> Array:
        """Return f at the points of the first batch, checking the rows of x at its start."""
        with self.argument.moving() if self.asks else nullcontext():
            if self.asks and self.argument.shared:
                self.argument.write(self.points[0])
            values = self.at_rows(flat)
        at_x = self.values.on_host(values[:extra, ...])
        if not alike(at_x, self.alone):
            self._require_rows(at_x)
        self.are_apart = True
        return values[extra:, ...]

    def memory_for(self, points: int) -> MemoryFor:
        """Return the context for calls with the fewest possible points."""

        def needs() -> str:
            size = points * self.argument.size * np.dtype(dtype_name(self.point.dtype)).itemsize
            return (
                f"with batched=True f is given {points} points at least, which take {size:,} bytes"
            )

        remedy = "Let f allocate less for each point, or leave out batched=True, to need only one"
        return MemoryFor(self.backend, needs, remedy)

    def _default_size(self, points: int) -> int:
        memory, room = self.backend.memory(), BATCH_BYTES
        if memory is not None:
            room = min(DEVICE_BATCH_BYTES, memory.free // MEMORY_PART)
        return max(1, room // (8 * max(1, self.argument.size) * points))


class Compiled(Evaluator):
    """Calls a Numba-compiled f in a compiled loop, on the threads of a Numba backend."""

    how = "a compiled loop"

    @staticmethod
    def takes(backend: Backend, f: Function) -> bool:
        """Return whether `f` can be called in a compiled loop of this backend."""
        from accelnn.backends.numba import NumbaBackend

        if not isinstance(backend, NumbaBackend):
            return False
        from numba.core.registry import CPUDispatcher

        return isinstance(f, CPUDispatcher)

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        x = np.asarray(self.point.reshape(self.argument.shape), order="C")
        points = np.asarray(moved, self.point.dtype)
        out = np.empty(points.shape[:2])
        rows, start, size = len(columns), 0, 1
        # The first row, on one thread, shows how long a row takes.
        threads: int | None = 1
        while start < rows:
            piece = slice(start, min(start + size, rows))
            since = time.perf_counter()
            self.loop(x, columns[piece], points[piece], out[piece], threads)
            seconds = (time.perf_counter() - since) / size
            advance(piece.stop - start)
            start += size
            size = max(1, min(GROWTH * size, int(PIECE_SECONDS / max(seconds, 1e-9))))
            threads = 1 if size * seconds < BRIEF_SECONDS else None
        self.count += rows * moved.shape[1]
        return out.reshape(-1)

    def loop(
        self,
        x: np.ndarray,
        columns: np.ndarray,
        points: np.ndarray,
        out: np.ndarray,
        threads: int | None,
    ) -> None:
        """Write the values at some rows to `out`, on at most so many threads."""
        from accelnn.backends.numba.kernels.points import evaluate_points

        team: Any = self.backend.team  # type: ignore[attr-defined]
        untouched = np.ones(team.size, bool)

        def evaluate(member: Any) -> None:
            untouched[member.number] = evaluate_points(member, self.f, x, columns, points, out)

        team.run(evaluate, threads)
        if not untouched.all():
            msg = "f changes its argument in place; let it work on a copy"
            raise ImpureFunctionError(msg)
