"""The base class of evaluators, and serial evaluation on copies of x or on x itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.gradient._argument import Argument
from accelnn.gradient.evaluators._reads import Reads, alike, is_compiled, what_is_read
from accelnn.gradient.evaluators._values import Values

__all__ = ["Advance", "Evaluator", "Function", "Serial", "no_progress", "set_items"]

# Up to so many coordinates are written one by one.
FEW = 8

Function = Callable[[Any], Any]
Advance = Callable[[int], object]


def no_progress(_n: int) -> None:
    """Ignore progress."""


def set_items(backend: Backend, x: Array, columns: np.ndarray, values: Array) -> None:
    """Write ``values[i, j]`` to ``x[i, columns[i, j]]``, in place."""
    try:
        x[backend.asarray(np.arange(len(columns))[:, None]), backend.asarray(columns)] = values
    except (IndexError, TypeError):
        # The array API standard has no assignment by arrays of indices.
        for i, row in enumerate(columns.tolist()):
            for j, column in enumerate(row):
                x[i, column] = values[i, j]


class Evaluator:
    """Evaluates f at points that differ from x in a few coordinates.

    Attributes
    ----------
    backend : Backend
        Whose arrays.
    f : callable
        The function.
    argument : Argument
        x in the form that f takes.
    point : array of shape (n,)
        x as a floating or complex vector.
    values : Values
        Checks what `f` returns.
    count : int
        At how many points `f` was evaluated.
    how : str
        How f is evaluated, in words.
    base : numpy.ndarray
        f(x), set to what `begin` returns.
    moves_x : bool
        Whether x itself is moved instead of a copy, because f reads x and ignores its argument.
    """

    how = "one call after the other"
    moves_x = False
    base: np.ndarray

    def __init__(self, f: Function, argument: Argument, point: Array, values: Values) -> None:
        self.backend: Backend = argument.backend
        self.f, self.argument, self.point, self.values = f, argument, point, values
        self.count = 0

    def at(self, flat: Array) -> Any:
        """Return the value of f at a flat point; f may keep the array."""
        self.count += 1
        return self.values.one(self.f(self.argument.of(flat)))

    def at_copy(self, point: np.ndarray | None = None) -> np.ndarray:
        """Return the value of f at a copy of a point, by default of x; both are on the host."""
        if point is None:
            flat = self.backend.xp.asarray(self.point, copy=True)
        else:
            flat = self.backend.asarray(np.array(point), self.point.dtype)
        return self.values.on_host(self.at(flat))

    @property
    def can_move_x(self) -> bool:
        """Whether this evaluator can move x itself."""
        return False

    def begin(
        self, beside: Iterator[np.ndarray], base: np.ndarray | None, *, in_place: bool | None
    ) -> np.ndarray:
        """Return f(x), and determine what f reads.

        Parameters
        ----------
        beside : iterator of numpy.ndarray
            The points of `points_beside`.
        base : numpy.ndarray or None
            f(x), if it is known.
        in_place : bool or None
            Whether to move x itself; None determines it from what f reads.
        """
        with self.argument.moving() as restore:
            if base is None:
                base = self.at_copy()
                restore()
            self.moves_x = bool(in_place)
            self.look(base, beside, restore, asks=in_place is None)
        if self.moves_x:
            self.how += ", x itself moved"
        return base

    def look(
        self,
        base: np.ndarray,
        beside: Iterator[np.ndarray],
        restore: Callable[[], None],
        *,
        asks: bool,
    ) -> None:
        """Determine what f reads if `asks`; `restore` restores x."""
        self.values.note_single(self.f)
        if asks:
            reads = self.probe(base, beside, restore)
            if reads.argument and reads.x and not alike(base, self.at_copy()):
                # f is random: differences can still be taken, and `full_output` flags it.
                reads = Reads(argument=True, x=False)
            self.moves_x = what_is_read(reads, self.f, can_move=self.can_move_x)

    def probe(
        self, base: np.ndarray, beside: Iterable[np.ndarray], restore: Callable[[], None]
    ) -> Reads:
        """Move the argument with x fixed, and x with the argument fixed, until f responds."""
        argument, reads = self.argument, Reads(argument=False, x=None)
        can_shift = argument.shared and not is_compiled(self.f)
        for i, point in enumerate(beside):
            # The first point is within the steps. The others, tried if it shows nothing, may lie
            # outside the domain of f.
            responds = partial(self._responds, base, is_safe=i == 0)
            to_argument, to_x = responds(point), None
            restore()
            if can_shift:
                argument.write(point)
                to_x = responds(None)
                restore()
            reads = Reads(to_argument, to_x)
            if to_argument or to_x or not point.size:
                break
        return reads

    def _responds(self, base: np.ndarray, point: np.ndarray | None, *, is_safe: bool) -> bool:
        try:
            with nullcontext() if is_safe else np.errstate(all="ignore"):
                return not alike(base, self.at_copy(point))
        except Exception:
            # An f that raises there but not at x has read the point.
            if is_safe:
                raise
            return True

    def __call__(
        self, columns: np.ndarray, moved: np.ndarray, advance: Advance = no_progress
    ) -> np.ndarray:
        """Evaluate f at ``m * p`` points.

        Parameters
        ----------
        columns : numpy.ndarray of shape (m, c)
            Flat indices of the coordinates that move together.
        moved : numpy.ndarray of shape (m, p, c)
            Their values at each of p points.
        advance : callable
            Called with the number of rows completed.

        Returns
        -------
        numpy.ndarray of shape (m, p, q)
            The values of f, flattened, on the host.
        """
        rows, points = moved.shape[:2]
        found = self.values.all_on_host(self.evaluate(columns, moved, advance))
        return found.reshape(rows, points, -1)

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """Return m * p values, m being at least 1."""
        raise NotImplementedError

    def finish(self, *, diagnose: bool) -> bool:
        """Return whether f(x) still has the same value; True without `diagnose`."""
        return not diagnose or alike(self.base, self.at_copy())


class Serial(Evaluator):
    """Calls f at one point after the other.

    f is called with a fresh copy each time; or with x itself, restored after every call, if f reads
    x instead of its argument.
    """

    @property
    def can_move_x(self) -> bool:
        """See `Evaluator.can_move_x`."""
        return self.argument.can_move and not self.values.is_complex

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        f, one = self.f, self.values.one
        # Within `moving`, so that x is restored before an error of f propagates.
        with self.argument.moving() if self.moves_x else nullcontext() as restore:
            if restore:
                points = self._moves(columns, moved, advance, restore)
            else:
                points = self._copies(columns, moved, advance)
            found = [one(f(point)) for point in points]
        self.count += len(found)
        return found

    def finish(self, *, diagnose: bool) -> bool:
        """See `Evaluator.finish`; the last call of f is always with x itself.

        An f that stores its argument holds x afterwards, and no neighbouring point.
        """
        argument, again = self.argument, self.base
        # Complex arithmetic may round differently than real arithmetic at x itself.
        tells = argument.is_handed_over and not self.values.is_complex
        if not argument.is_handed_over or (diagnose and not tells):
            again = self.at_copy()
        if argument.is_handed_over:
            with argument.moving():
                self.count += 1
                value = self.values.one(self.f(argument.given))
            again = self.values.on_host(value) if tells else again
        return alike(self.base, again)

    def _copies(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Iterator[Any]:
        """Yield a fresh argument of f for each point, and report each completed row."""
        xp, point, argument = self.backend.xp, self.point, self.argument
        is_flat = argument.is_flat
        if columns.shape[1] == 1:
            # Every library can assign a Python number to an element, without loss of precision.
            for column, row in zip(columns[:, 0].tolist(), moved[..., 0].tolist(), strict=True):
                for number in row:
                    flat = xp.asarray(point, copy=True)
                    flat[column] = number
                    yield flat if is_flat else argument.of(flat)
                advance(1)
            return
        for places, row in zip(columns, moved, strict=True):
            for numbers in row:
                flat = xp.asarray(point[None, :], copy=True)
                values = self.backend.asarray(numbers[None], point.dtype)
                set_items(self.backend, flat, places[None], values)
                yield argument.of(flat[0, :])
            advance(1)

    def _moves(
        self,
        columns: np.ndarray,
        moved: np.ndarray,
        advance: Advance,
        restore: Callable[[], None],
    ) -> Iterator[Any]:
        """Yield x itself, moved to each point, and report each completed row."""
        argument, together = self.argument, columns.shape[1]
        places = argument.places(columns.reshape(-1)) if together <= FEW else []
        x = self.backend.to_numpy(self.point)
        for i, row in enumerate(moved):
            for point in row:
                if places:
                    chosen = places[i * together : (i + 1) * together]
                    for (leaf, index), number in zip(chosen, point.tolist(), strict=True):
                        leaf[index] = number
                else:
                    whole = x.copy()
                    whole[columns[i]] = point
                    argument.write(whole)
                yield argument.given
                restore()
            advance(1)
