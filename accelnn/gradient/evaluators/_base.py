"""What every way to evaluate has, and the plain ones: call by call, on copies or on x itself."""

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

# Numbers that are written one by one.
FEW = 8

Function = Callable[[Any], Any]
Advance = Callable[[int], object]


def no_progress(_n: int) -> None:
    """Show nothing."""


def set_items(backend: Backend, x: Array, columns: np.ndarray, values: Array) -> None:
    """Write ``values[i, j]`` to ``x[i, columns[i, j]]``, in place."""
    try:
        x[backend.asarray(np.arange(len(columns))[:, None]), backend.asarray(columns)] = values
    except (IndexError, TypeError):
        # The array API standard has assignment to one place at a time only.
        for i, row in enumerate(columns.tolist()):
            for j, column in enumerate(row):
                x[i, column] = values[i, j]


class Evaluator:
    """A function at points that differ from x in a few coordinates.

    Attributes
    ----------
    backend : Backend
        Whose arrays.
    f : callable
        The function.
    argument : Argument
        x, and what f takes.
    point : array of shape (n,)
        x; floating, or complex.
    values : Values
        What `f` returns.
    count : int
        How many points `f` was evaluated at.
    how : str
        Where f runs, in words.
    base : numpy.ndarray
        f(x), once `begin` has returned it.
    moves_x : bool
        Whether x itself is moved, and not a copy: f reads it, and not its argument.
    """

    how = "one call after the other"
    moves_x = False
    base: np.ndarray

    def __init__(self, f: Function, argument: Argument, point: Array, values: Values) -> None:
        self.backend: Backend = argument.backend
        self.f, self.argument, self.point, self.values = f, argument, point, values
        self.count = 0

    def at(self, flat: Array) -> Any:
        """Return the value of f at a flat point, which f may keep."""
        self.count += 1
        return self.values.one(self.f(self.argument.of(flat)))

    def at_copy(self, point: np.ndarray | None = None) -> np.ndarray:
        """Return the value of f at a point, by default at x; both are on the host."""
        if point is None:
            flat = self.backend.xp.asarray(self.point, copy=True)
        else:
            flat = self.backend.asarray(np.array(point), self.point.dtype)
        return self.values.on_host(self.at(flat))

    @property
    def can_move_x(self) -> bool:
        """Whether x itself could be moved here."""
        return False

    def begin(
        self, beside: Iterator[np.ndarray], base: np.ndarray | None, *, in_place: bool | None
    ) -> np.ndarray:
        """Return f(x), and find out what f reads.

        Parameters
        ----------
        beside : iterator of numpy.ndarray
            Points as of `points_beside`.
        base : numpy.ndarray or None
            f(x), where it is known.
        in_place : bool or None
            Whether x itself is to be moved. Only None asks what f reads.
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
        """Find out what f reads, if that is asked; `restore` puts x back."""
        self.values.note_single(self.f)
        if asks:
            reads = self.probe(base, beside, restore)
            if reads.argument and reads.x and not alike(base, self.at_copy()):
                # Random, which a serial difference survives, and a caller may want to know.
                reads = Reads(argument=True, x=False)
            self.moves_x = what_is_read(reads, self.f, can_move=self.can_move_x)

    def probe(
        self, base: np.ndarray, beside: Iterable[np.ndarray], restore: Callable[[], None]
    ) -> Reads:
        """Move the argument while x stays, and x while the argument stays, until f responds."""
        argument, reads = self.argument, Reads(argument=False, x=None)
        can_shift = argument.shared and not is_compiled(self.f)
        for i, point in enumerate(beside):
            # The differences go as far as the first point. The others, for where it shows nothing,
            # may be out of the domain of f.
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
            # What raises at a point far away, and not at x, has read that point.
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
            Where they go, at each of p points.
        advance : callable
            Called with the number of rows that are done.

        Returns
        -------
        numpy.ndarray of shape (m, p, q)
            The q numbers of f's values, on the host.
        """
        rows, points = moved.shape[:2]
        found = self.values.all_on_host(self.evaluate(columns, moved, advance))
        return found.reshape(rows, points, -1)

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """Return m * p values; there is at least one row."""
        raise NotImplementedError

    def finish(self, *, diagnose: bool) -> bool:
        """Return whether f at x still has the same value, if that is asked."""
        return not diagnose or alike(self.base, self.at_copy())


class Serial(Evaluator):
    """Calls f with one fresh copy after the other.

    Or with x itself, for an f that reads nothing else; it is put back after every call.
    """

    @property
    def can_move_x(self) -> bool:
        """See `Evaluator.can_move_x`."""
        return self.argument.can_move and not self.values.is_complex

    def evaluate(self, columns: np.ndarray, moved: np.ndarray, advance: Advance) -> Any:
        """See `Evaluator.evaluate`."""
        f, one = self.f, self.values.one
        # Here, so that x is where it was before anybody sees an error of f.
        with self.argument.moving() if self.moves_x else nullcontext() as restore:
            if restore:
                points = self._moves(columns, moved, advance, restore)
            else:
                points = self._copies(columns, moved, advance)
            found = [one(f(point)) for point in points]
        self.count += len(found)
        return found

    def finish(self, *, diagnose: bool) -> bool:
        """See `Evaluator.finish`; this is always the last call, and on x itself.

        So an f that keeps its argument holds x then, and nothing that was beside it.
        """
        argument, again = self.argument, self.base
        # Complex arithmetic rounds otherwise than that of f at x itself.
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
        """Yield what f takes at one point after the other, and tell of each row that is done."""
        xp, point, argument = self.backend.xp, self.point, self.argument
        is_flat = argument.is_flat
        if columns.shape[1] == 1:
            # Python numbers, which every library writes into single places, and without losing
            # digits.
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
        """Yield x itself, moved to one point after the other, and tell of each row as well."""
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
