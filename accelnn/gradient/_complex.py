"""Whether a function computes with complex numbers as if it knew only real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from accelnn._typing import Array
from accelnn._validation import on_host
from accelnn.gradient._bounds import Bounds
from accelnn.gradient._steps import machine_epsilon
from accelnn.gradient.evaluators import Start

__all__ = ["Change", "Slopes", "require_agreement", "require_complex_safe"]

# Far above what rounding and bends do, far below what a lost imaginary part does.
AGREEMENT = 1e-4
NOISE_ULPS = 16.0
# Steps in relation to x, as powers of machine epsilon: where f bends within one, the next is tried.
STEPS = (1 / 3, 1 / 2, 2 / 3)


class Change(NamedTuple):
    """f on two sides of x, the change that complex steps predict, and the size of its summands."""

    above: np.ndarray
    below: np.ndarray
    predicted: np.ndarray
    size: np.ndarray


class Slopes(NamedTuple):
    """Derivatives of m values by n coordinates, of which `entries` may be other than zero.

    Attributes
    ----------
    rows, columns : numpy.ndarray of int
        Value and coordinate of each entry.
    entries : numpy.ndarray
        The derivatives.
    values : int
        m.
    """

    rows: np.ndarray
    columns: np.ndarray
    entries: np.ndarray
    values: int

    @classmethod
    def dense(cls, derivatives: np.ndarray) -> Slopes:
        """Return those of an array of shape (n, m)."""
        columns, rows = (a.reshape(-1) for a in np.indices(derivatives.shape))
        return cls(rows, columns, derivatives.reshape(-1), derivatives.shape[1])

    def along(self, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the change of all values by a move, and the size of what it is a sum of."""
        parts = self.entries * move[self.columns]
        change, size = (
            np.bincount(self.rows, weights, minlength=self.values)
            for weights in (parts, np.abs(parts))
        )
        return change, size

    def are_zero(self, n: int) -> np.ndarray:
        """Return which of the coordinates move nothing."""
        counts = np.bincount(self.columns, self.entries != 0.0, minlength=n)
        zero: np.ndarray = counts == 0
        return zero


def require_complex_safe(start: Start, x: Array, slopes: Slopes, bounds: Bounds | None) -> None:
    """Refuse complex steps through a function that loses imaginary parts, as abs does.

    Changes along two random moves are compared with those of f: of all coordinates, and of those
    that seem to move nothing, which is what a lost imaginary part looks like.

    Parameters
    ----------
    start : Start
        f at a complex point.
    x : array of shape (n,)
        The point, flat and real.
    slopes : Slopes
        What the complex steps gave.
    bounds : Bounds or None
        Which moves keep to.

    Raises
    ------
    ValueError
        If they disagree.
    """
    evaluator = start.evaluator
    backend, n = evaluator.backend, x.shape[0]
    if n == 0 or slopes.values == 0:
        return
    position = on_host(backend, x)
    ends = None if bounds is None else [on_host(backend, end) for end in bounds]
    draw = np.random.default_rng(0)
    direction = draw.uniform(0.5, 1.0, n) * draw.choice([-1.0, 1.0], n)
    direction *= np.where(position == 0.0, 1.0, np.abs(position))
    for chosen in (np.ones(n, bool), slopes.are_zero(n)):
        if not chosen.any():
            continue
        move = np.where(chosen, direction, 0.0)

        def change(step: float, move: np.ndarray = move) -> Change:
            points = np.stack([position + step * move, position - step * move])
            if ends is not None:
                points = np.clip(points, *ends)
            # All coordinates move together, and have no imaginary part.
            moved = backend.xp.astype(backend.asarray(points[None]), evaluator.x.dtype)
            values = backend.to_numpy(evaluator(np.arange(n)[None, :], moved))
            above, below = np.real(values).reshape(2, -1).astype(np.float64)
            return Change(above, below, *slopes.along(points[0] - points[1]))

        require_agreement(change, machine_epsilon(backend, x.dtype))


def require_agreement(change: Callable[[float], Change], epsilon: float) -> None:
    """Refuse complex steps that contradict f itself, however small the move.

    Parameters
    ----------
    change : callable
        ``change(step)`` returns what happens along a move of a size in relation to x.
    epsilon : float
        Machine epsilon of f.

    Raises
    ------
    ValueError
        If they do.
    """
    contradicted: np.ndarray = np.ones((), bool)
    for power in STEPS:
        above, below, predicted, size = change(epsilon**power)
        with np.errstate(all="ignore"):
            noise = NOISE_ULPS * epsilon * (np.abs(above) + np.abs(below))
            limit = AGREEMENT * (size + np.abs(above - below) + np.abs(predicted)) + noise
            contradicted = contradicted & (np.abs(above - below - predicted) > limit)
        if not contradicted.any():
            return
    place = np.unravel_index(int(np.argmax(contradicted)), contradicted.shape)
    msg = (
        f"f does not compute with complex numbers as method='complex' needs it: complex steps "
        f"predict a change of {predicted[place]:.6g} along a small move, and f changes by "
        f"{(above - below)[place]:.6g}. abs, conj, real, max, comparisons and casts to float lose "
        f"the imaginary part; use method='richardson' for such an f"
    )
    raise ValueError(msg)
