"""Lines through x, along which f is a function of one variable."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelnn.gradient._precision import NOISE_STEPS, measure_noise
from accelnn.gradient._steps import Bounds
from accelnn.gradient.evaluators import Advance, Evaluator, no_progress

__all__ = ["Coordinates", "Directions", "Entries", "Lines"]


class Lines:
    """m lines through x, each with a coordinate t.

    Attributes
    ----------
    evaluator : Evaluator
        f.
    x : numpy.ndarray of shape (n,)
        The point, in double precision at least, on the host.
    base : numpy.ndarray of shape (q,) or (m, q)
        f(x), or for each line the values of f(x) that belong to it.
    all_values : numpy.ndarray of shape (q,)
        f(x).
    box, bounds : Bounds or None
        The bounds of x, and those of t.
    columns : numpy.ndarray of shape (m, c)
        The coordinates that move along each line.
    position : numpy.ndarray of shape (m,)
        The value of t at x: the coordinate itself, or 0 along any other direction.
    """

    columns: np.ndarray
    position: np.ndarray
    bounds: Bounds | None = None

    def __init__(
        self, evaluator: Evaluator, x: np.ndarray, base: np.ndarray, box: Bounds | None
    ) -> None:
        self.evaluator, self.x, self.base, self.box = evaluator, x, base, box
        self.all_values = base
        self.dtype: np.dtype[Any] = evaluator.argument.dtype
        self.rounded = evaluator.argument.rounded

    def __len__(self) -> int:
        return len(self.position)

    def resolution(self) -> np.ndarray:
        """Return the spacing of t at x after rounding."""
        size = np.abs(self.position).astype(self.dtype)
        found: np.ndarray = np.spacing(size).astype(self.position.dtype)
        return found

    def base_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of f(x) that belong to some lines."""
        return self.base if self.base.ndim == 1 else self.base[rows]

    def at(
        self,
        rows: np.ndarray,
        t: np.ndarray,
        imaginary: np.ndarray | None = None,
        advance: Advance = no_progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate f on some lines.

        Parameters
        ----------
        rows : numpy.ndarray of shape (k,)
            The lines.
        t : numpy.ndarray of shape (k, p)
            The distances of p points from x.
        imaginary : numpy.ndarray of shape (k,), optional
            The imaginary part of t at all points.

        Returns
        -------
        taken : numpy.ndarray of shape (k, p)
            The distances after rounding.
        values : numpy.ndarray of shape (k, p, q)
            The values of f.
        """
        moved, taken = self._moved(rows, t, imaginary)
        return taken, self._values(rows, moved, advance)

    def _moved(
        self, rows: np.ndarray, t: np.ndarray, imaginary: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the moved coordinates, of shape (k, p, c), and the distances after rounding."""
        raise NotImplementedError

    def _values(self, rows: np.ndarray, moved: np.ndarray, advance: Advance) -> np.ndarray:
        return self.evaluator(self.columns[rows], moved, advance)

    def noise(self, bounds: Bounds | None, *, insist: bool = False) -> np.ndarray:
        """Return the measured standard deviation of the noise of f, of shape (q,) or (m, q)."""
        evaluator, x = self.evaluator, self.x
        if not x.size:
            return np.zeros_like(self.base)

        def along(move: np.ndarray) -> np.ndarray:
            if bounds is not None:
                below, above = x - bounds.low, bounds.high - x
                up = np.where(above >= below, 1, -1)
                move = up * np.minimum(move, np.maximum(below, above) / len(NOISE_STEPS))
            # Equidistant after rounding: otherwise rounding of x would appear as noise of f.
            move = self.rounded(x + move) - x
            moved = self.rounded(x + np.outer(NOISE_STEPS, move))
            if bounds is not None:
                moved = np.clip(moved, *bounds)
            found = evaluator(np.arange(x.size)[None], moved[None])
            return np.concatenate([self.all_values[None], np.real(found[0])])

        epsilon = float(np.finfo(self.dtype).eps)
        return self._seen(measure_noise(along, x, epsilon, insist=insist))

    def _seen(self, values: np.ndarray) -> np.ndarray:
        """Return what was computed for all values of f as it applies to each line."""
        return values


class Coordinates(Lines):
    """One line along each coordinate."""

    def __init__(
        self, evaluator: Evaluator, x: np.ndarray, base: np.ndarray, box: Bounds | None
    ) -> None:
        super().__init__(evaluator, x, base, box)
        self.columns = np.arange(x.size)[:, None]
        self.position, self.bounds = x, box

    def _moved(
        self, rows: np.ndarray, t: np.ndarray, imaginary: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        position = self.position[rows][:, None]
        moved = position + t
        if self.bounds is not None:
            moved = np.clip(moved, *(end[:, None] for end in self.bounds.of(rows)))
        moved = self.rounded(moved, self.columns[rows])
        taken = moved - position
        if imaginary is not None:
            moved = moved + 1j * imaginary[:, None]
        return moved[..., None], taken


class Entries(Coordinates):
    """Single entries of a Jacobian, where groups of coordinates move together.

    Parameters
    ----------
    every : Lines
        All coordinates.
    groups : numpy.ndarray of shape (n,)
        The group of each coordinate.
    columns, outputs : numpy.ndarray of shape (m,)
        The coordinate and the value of f of each entry. All entries of a coordinate have the same
        step.
    """

    def __init__(
        self, every: Lines, groups: np.ndarray, columns: np.ndarray, outputs: np.ndarray
    ) -> None:
        super().__init__(every.evaluator, every.x, every.base, every.box)
        self.columns, self.outputs, self.groups = columns[:, None], outputs, groups
        self.position = self.x[columns]
        self.bounds = None if self.box is None else self.box.of(columns)
        self.base = self._seen(every.base)
        self.members = _members(groups)

    def _values(self, rows: np.ndarray, moved: np.ndarray, advance: Advance) -> np.ndarray:
        columns = self.columns[rows, 0]
        everywhere = np.repeat(self.x[:, None], moved.shape[1], axis=1).astype(moved.dtype)
        everywhere[columns] = moved[..., 0]
        points = everywhere[self.members].transpose(0, 2, 1)
        found = self.evaluator(self.members, points, advance)
        return found[self.groups[columns], :, self.outputs[rows]][..., None]

    def _seen(self, values: np.ndarray) -> np.ndarray:
        seen: np.ndarray = values[self.outputs][:, None]
        return seen


class Directions(Lines):
    """Lines x + t d in any direction, with d scaled to the size of x.

    Parameters
    ----------
    every : Lines
        All coordinates.
    columns : numpy.ndarray of shape (m, c)
        The coordinates that move.
    directions : numpy.ndarray of shape (m, c)
        d, at those coordinates.
    """

    def __init__(self, every: Lines, columns: np.ndarray, directions: np.ndarray) -> None:
        super().__init__(every.evaluator, every.x, every.base, every.box)
        self.columns, self.directions = columns, directions
        self.position = np.zeros(len(columns), self.x.dtype)
        if self.box is not None:
            self.bounds = _along(self.x, self.box, columns, directions)

    def resolution(self) -> np.ndarray:
        """See `Lines.resolution`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.x[self.columns]) / np.abs(self.directions)
        largest = np.where(self.directions == 0.0, 0.0, ratio).max(axis=1, initial=0.0)
        found: np.ndarray = float(np.finfo(self.dtype).eps) * np.minimum(largest, 1.0)
        return found

    def _moved(
        self, rows: np.ndarray, t: np.ndarray, imaginary: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        columns = self.columns[rows][:, None, :]
        steps = t if imaginary is None else t + 1j * imaginary[:, None]
        moved = self.x[columns] + steps[..., None] * self.directions[rows][:, None, :]
        if imaginary is None:
            moved = self.rounded(moved, columns)
            if self.box is not None:
                # Rounding may have crossed a bound.
                moved = np.clip(moved, *self.box.of(columns))
        return moved, t


def _along(x: np.ndarray, bounds: Bounds, columns: np.ndarray, directions: np.ndarray) -> Bounds:
    """Return the bounds of t within which no coordinate leaves its own."""
    low, high = bounds.of(columns)
    up = directions > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        backward, forward = (
            np.where(directions == 0.0, np.inf, np.abs((end - x[columns]) / directions))
            for end in (np.where(up, low, high), np.where(up, high, low))
        )
    return Bounds(-backward.min(axis=1), forward.min(axis=1))


def _members(groups: np.ndarray) -> np.ndarray:
    """Return the coordinates of each group, padded with its first one."""
    members = [np.flatnonzero(groups == group) for group in range(groups.max(initial=-1) + 1)]
    widest = max(map(len, members), default=0)
    rows = [np.concatenate([m, np.full(widest - len(m), m[0])]) for m in members]
    return np.array(rows, dtype=np.int64).reshape(len(members), widest)
