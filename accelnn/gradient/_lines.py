"""Lines through x, along each of which f is a function of one variable."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelnn.gradient._precision import NOISE_STEPS, measure_noise
from accelnn.gradient._steps import Bounds
from accelnn.gradient.evaluators import Advance, Evaluator, no_progress

__all__ = ["Coordinates", "Directions", "Entries", "Lines"]


class Lines:
    """m lines through x, each with a position t on it.

    Attributes
    ----------
    evaluator : Evaluator
        f.
    x : numpy.ndarray of shape (n,)
        The point, wide, on the host.
    base : numpy.ndarray of shape (q,) or (m, q)
        f(x), as each line sees it.
    position : numpy.ndarray of shape (m,)
        Where x is: t itself along a coordinate, 0 along any other direction.
    bounds : Bounds or None
        Of t.
    """

    def __init__(self, evaluator: Evaluator, x: np.ndarray, base: np.ndarray) -> None:
        self.evaluator, self.x, self.base = evaluator, x, base
        self.all_values = base
        self.dtype: np.dtype[Any] = evaluator.argument.dtype
        self.rounded = evaluator.argument.rounded
        self.position: np.ndarray
        self.bounds: Bounds | None = None

    def __len__(self) -> int:
        return len(self.position)

    def resolution(self) -> np.ndarray:
        """Return how near is too near for rounding to leave the length that was asked."""
        size = np.abs(self.position).astype(self.dtype)
        found: np.ndarray = np.spacing(size).astype(self.position.dtype)
        return found

    def base_of(self, rows: np.ndarray) -> np.ndarray:
        """Return f(x) as some lines see it."""
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
            Which lines.
        t : numpy.ndarray of shape (k, p)
            How far from x, at each of p points.
        imaginary : numpy.ndarray of shape (k,), optional
            How far into the imaginary.

        Returns
        -------
        taken : numpy.ndarray of shape (k, p)
            How far it was, after rounding.
        values : numpy.ndarray of shape (k, p, q)
            What f gave.
        """
        raise NotImplementedError

    def noise(self, bounds: Bounds | None, *, insist: bool = False) -> np.ndarray:
        """Return the standard deviation of the noise of f's values, of shape (q,) or (m, q)."""
        evaluator, x = self.evaluator, self.x
        if not x.size:
            return np.zeros_like(self.base)

        def along(move: np.ndarray) -> np.ndarray:
            if bounds is not None:
                below, above = x - bounds.low, bounds.high - x
                up = np.where(above >= below, 1, -1)
                move = up * np.minimum(move, np.maximum(below, above) / len(NOISE_STEPS))
            # Moves that x can make, all alike: otherwise rounding of x would be noise of f.
            move = self.rounded(x + move) - x
            moved = self.rounded(x + np.outer(NOISE_STEPS, move))
            if bounds is not None:
                moved = np.clip(moved, *bounds)
            found = evaluator(np.arange(x.size)[None], moved[None])
            return np.concatenate([self.all_values[None], np.real(found[0])])

        epsilon = float(np.finfo(self.dtype).eps)
        return self._seen(measure_noise(along, x, epsilon, insist=insist))

    def _seen(self, values: np.ndarray) -> np.ndarray:
        """Return what belongs to f's values as each line sees them."""
        return values


class Coordinates(Lines):
    """Every coordinate by itself."""

    def __init__(
        self, evaluator: Evaluator, x: np.ndarray, base: np.ndarray, bounds: Bounds | None
    ) -> None:
        super().__init__(evaluator, x, base)
        self.position, self.bounds = x, bounds

    def at(
        self,
        rows: np.ndarray,
        t: np.ndarray,
        imaginary: np.ndarray | None = None,
        advance: Advance = no_progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Lines.at`."""
        moved, taken = self._moved(rows, rows, t, imaginary)
        return taken, self.evaluator(rows[:, None], moved[..., None], advance)

    def _moved(
        self, rows: np.ndarray, columns: np.ndarray, t: np.ndarray, imaginary: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        position = self.position[rows][:, None]
        moved = position + t
        if self.bounds is not None:
            low, high = (end[rows][:, None] for end in self.bounds)
            moved = np.clip(moved, low, high)
        moved = self.rounded(moved.T, columns).T
        taken = moved - position
        return (moved if imaginary is None else moved + 1j * imaginary[:, None]), taken


class Entries(Coordinates):
    """Coordinates in groups that move together, each of which is seen in values of its own.

    Parameters
    ----------
    groups : numpy.ndarray of shape (n,)
        The group of each coordinate.
    columns, outputs : numpy.ndarray of shape (m,)
        Which coordinate each line moves, and in which of f's values it is seen. Lines of one
        coordinate move by one step.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        x: np.ndarray,
        base: np.ndarray,
        bounds: Bounds | None,
        *,
        groups: np.ndarray,
        columns: np.ndarray,
        outputs: np.ndarray,
    ) -> None:
        super().__init__(evaluator, x, base, bounds)
        self.columns, self.outputs, self.groups = columns, outputs, groups
        self.position = x[columns]
        if bounds is not None:
            self.bounds = Bounds(*(end[columns] for end in bounds))
        self.base = base[outputs][:, None]
        self.members = _members(groups)

    def at(
        self,
        rows: np.ndarray,
        t: np.ndarray,
        imaginary: np.ndarray | None = None,
        advance: Advance = no_progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Lines.at`."""
        moved, taken = self._moved(rows, self.columns[rows], t, imaginary)
        everywhere = np.repeat(self.x[:, None], t.shape[1], axis=1).astype(moved.dtype)
        everywhere[self.columns[rows]] = moved
        points = everywhere[self.members].transpose(0, 2, 1)
        found = self.evaluator(self.members, points, advance)
        columns, outputs = self.columns[rows], self.outputs[rows]
        return taken, found[self.groups[columns], :, outputs][..., None]

    def _seen(self, values: np.ndarray) -> np.ndarray:
        seen: np.ndarray = values[self.outputs][:, None]
        return seen


class Directions(Lines):
    """Any directions: x + t d, where t is in units in which the length of d is like that of x.

    Parameters
    ----------
    columns : numpy.ndarray of shape (m, c)
        Which coordinates move.
    directions : numpy.ndarray of shape (m, c)
        By how much at t = 1.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        x: np.ndarray,
        base: np.ndarray,
        bounds: Bounds | None,
        *,
        columns: np.ndarray,
        directions: np.ndarray,
    ) -> None:
        super().__init__(evaluator, x, base)
        self.columns, self.directions, self.box = columns, directions, bounds
        self.position = np.zeros(len(columns), x.dtype)
        if bounds is not None:
            self.bounds = _along(x, bounds, columns, directions)

    def resolution(self) -> np.ndarray:
        """See `Lines.resolution`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.x[self.columns]) / np.abs(self.directions)
        largest = np.where(self.directions == 0.0, 0.0, ratio).max(axis=1, initial=0.0)
        found: np.ndarray = float(np.finfo(self.dtype).eps) * np.minimum(largest, 1.0)
        return found

    def at(
        self,
        rows: np.ndarray,
        t: np.ndarray,
        imaginary: np.ndarray | None = None,
        advance: Advance = no_progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Lines.at`."""
        columns = self.columns[rows]
        steps = t if imaginary is None else t + 1j * imaginary[:, None]
        moved = self.x[columns][:, None, :] + steps[..., None] * self.directions[rows][:, None, :]
        if imaginary is None:
            moved = self.rounded(moved, columns[:, None, :])
            if self.box is not None:
                # What rounding has put outside.
                moved = np.clip(moved, *(end[columns][:, None, :] for end in self.box))
        return t, self.evaluator(columns, moved, advance)


def _along(x: np.ndarray, bounds: Bounds, columns: np.ndarray, directions: np.ndarray) -> Bounds:
    """Return between which t no coordinate leaves its bounds."""
    up = directions > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = [
            np.where(directions == 0.0, np.inf, (toward - x[columns]) / directions)
            for toward in (
                np.where(up, bounds.high[columns], bounds.low[columns]),
                np.where(up, bounds.low[columns], bounds.high[columns]),
            )
        ]
    return Bounds(-np.abs(ends[1]).min(axis=1), ends[0].min(axis=1))


def _members(groups: np.ndarray) -> np.ndarray:
    """Return the coordinates of each group, of which short ones name their first again."""
    members = [np.flatnonzero(groups == group) for group in range(groups.max(initial=-1) + 1)]
    widest = max(map(len, members), default=0)
    rows = [np.concatenate([m, np.full(widest - len(m), m[0])]) for m in members]
    return np.array(rows, dtype=np.int64).reshape(len(members), widest)
