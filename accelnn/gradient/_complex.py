"""Whether a function computes with complex numbers as if it knew only real ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accelnn._typing import Array
from accelnn._validation import on_host
from accelnn.gradient._steps import machine_epsilon
from accelnn.gradient.evaluators import Start

__all__ = ["require_agreement", "require_complex_safe"]

# Far above what rounding does, far below what a lost imaginary part does.
AGREEMENT = 1e-2
NOISE_ULPS = 16.0
# Steps in relation to x, as powers of machine epsilon: where f bends within one, the next is tried.
STEPS = (1 / 3, 1 / 2, 2 / 3)


def require_complex_safe(start: Start, x: Array, derivatives: Array) -> None:
    """Refuse complex steps through a function that loses imaginary parts, as abs does.

    Its derivative along a random direction is compared with central differences.

    Parameters
    ----------
    start : Start
        f at a complex point.
    x : array of shape (n,)
        The point, flat and real.
    derivatives : array of shape (n, ...)
        What the complex steps gave.

    Raises
    ------
    ValueError
        If they disagree.
    """
    evaluator = start.evaluator
    backend, n = evaluator.backend, x.shape[0]
    if n == 0 or 0 in derivatives.shape:
        return
    position, slopes = on_host(backend, x), on_host(backend, derivatives).reshape(n, -1)
    draw = np.random.default_rng(0)
    direction = draw.uniform(0.5, 1.0, n) * draw.choice([-1.0, 1.0], n)
    direction *= np.where(position == 0.0, 1.0, np.abs(position))

    def sides(step: float) -> tuple[np.ndarray, np.ndarray, float]:
        points = np.stack([position + step * direction, position - step * direction])
        # All coordinates move together, and have no imaginary part.
        moved = backend.xp.astype(backend.asarray(points[None]), evaluator.x.dtype)
        values = backend.to_numpy(evaluator(np.arange(n)[None, :], moved))
        above, below = np.real(values).reshape(2, -1).astype(np.float64)
        return above, below, 2.0 * step

    sizes = np.abs(direction) @ np.abs(slopes)
    require_agreement(direction @ slopes, sides, machine_epsilon(backend, x.dtype), sizes)


def require_agreement(
    stepped: np.ndarray,
    sides: Callable[[float], tuple[np.ndarray, np.ndarray, np.ndarray | float]],
    epsilon: float,
    sizes: np.ndarray | float = 0.0,
) -> None:
    """Refuse complex steps that central differences contradict, however small.

    Parameters
    ----------
    stepped : numpy.ndarray
        Derivatives by complex steps.
    sides : callable
        ``sides(step)`` returns f on both sides of x, and how far they are apart; the step is in
        relation to x.
    epsilon : float
        Machine epsilon of f.
    sizes : numpy.ndarray or float
        Of what the derivatives are sums.
    """
    contradicted = np.ones(np.shape(stepped), bool)
    for power in STEPS:
        above, below, width = sides(epsilon**power)
        with np.errstate(all="ignore"):
            central = (above - below) / width
            noise = NOISE_ULPS * epsilon * (np.abs(above) + np.abs(below)) / np.abs(width)
            limit = AGREEMENT * (sizes + np.abs(central) + np.abs(stepped)) + noise
            contradicted &= np.abs(central - stepped) > limit
        if not contradicted.any():
            return
    place = np.unravel_index(int(np.argmax(contradicted)), contradicted.shape)
    msg = (
        f"f does not compute with complex numbers as method='complex' needs it: complex steps "
        f"give the slope {stepped[place]:.6g} where a central difference gives "
        f"{central[place]:.6g}. abs, conj, real, max, comparisons and casts to float lose the "
        f"imaginary part; use method='richardson' for such an f"
    )
    raise ValueError(msg)
