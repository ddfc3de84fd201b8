"""How far values of f scatter, however smooth it looks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accelnn._typing import Array
from accelnn._validation import on_host
from accelnn.gradient._bounds import Bounds
from accelnn.gradient.evaluators import Start

__all__ = ["measure_noise", "noise_along"]

# Evaluations, and how far apart they are in relation to x: far enough for values of float32 to
# differ, near enough for all but noise to vanish in high differences.
POINTS = 6
STEPS = np.arange(1, POINTS + 1)
SPACING = 2.0**-20
# Where f does not move at all, its values may be rounded to fewer digits: so often points further
# apart are tried, and by how much.
WIDENINGS = 2
WIDER = 2.0**6
# Orders of differences that must tell of the same noise, and by which factor they may differ.
ORDERS = 3
CONSISTENT = 4.0


def measure_noise(start: Start, x: Array, bounds: Bounds | None) -> np.ndarray:
    """Return the standard deviation of the noise of each of f's q values, or 0 where none is seen.

    f is evaluated at points of a line through x. High differences leave nothing of a smooth
    function there; of noise with standard deviation σ, those of order k have the variance
    (2k)! / k!² σ².

    Parameters
    ----------
    start : Start
        f and f(x).
    x : array of shape (n,)
        The point, flat.
    bounds : Bounds or None
        Which the line keeps to.

    References
    ----------
    J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific
    Computing 33 (2011).
    """
    backend, n = start.evaluator.backend, x.shape[0]
    base = on_host(backend, start.base).reshape(-1)
    if n == 0:
        return np.zeros_like(base)
    position = on_host(backend, x)

    def along(move: np.ndarray) -> np.ndarray:
        if bounds is not None:
            below, above = (on_host(backend, room) for room in bounds.room(x))
            up = np.where(above >= below, 1, -1)
            move = up * np.minimum(move, np.maximum(below, above) / POINTS)
        moved = backend.asarray((position + np.outer(STEPS, move))[None], x.dtype)
        found = on_host(backend, start.evaluator(np.arange(n)[None, :], moved))
        return np.concatenate([base[None], found.reshape(POINTS, -1)])

    return noise_along(along, position)


def noise_along(
    along: Callable[[np.ndarray], np.ndarray], position: np.ndarray, *, insist: bool = False
) -> np.ndarray:
    """Return the standard deviation of the noise that values on a line through x have.

    Parameters
    ----------
    along : callable
        ``along(move)`` returns the values at x and after 1 to `POINTS` moves, of shape
        (1 + POINTS, q).
    position : numpy.ndarray of shape (n,)
        x.
    insist : bool, default False
        Look further away once in any case, and again if there is still no noise.
    """
    size = np.where(position == 0.0, 1.0, np.abs(position))
    move = size * np.random.default_rng(0).uniform(0.5, 1.0, len(position))
    found = []
    for spacing in SPACING * WIDER ** np.arange(WIDENINGS + 1):
        values = along(spacing * move)
        found.append(_scatter(values))
        with np.errstate(all="ignore"):
            moves = np.count_nonzero(np.diff(values, axis=0)) > values.size / 2
        if (len(found) > 1 and np.any(found)) if insist else moves:
            break
    noise: np.ndarray = np.max(found, axis=0)
    return noise


def _scatter(values: np.ndarray) -> np.ndarray:
    differences, factor = values, 1.0
    spreads, changes_sign = [], []
    with np.errstate(all="ignore"):
        for k in range(1, len(values)):
            differences = np.diff(differences, axis=0)
            factor *= k / (2.0 * (2 * k - 1))
            spreads.append(np.sqrt(factor * np.mean(differences**2, axis=0)))
            changes_sign.append((differences.min(axis=0) < 0) & (differences.max(axis=0) > 0))
        noise = np.zeros(values.shape[1])
        # The highest orders first, so that the lowest that is consistent is what remains.
        for k in reversed(range(1, len(spreads) - ORDERS + 1)):
            few = np.array(spreads[k : k + ORDERS])
            agree = (few.max(axis=0) <= CONSISTENT * few.min(axis=0)) & changes_sign[k]
            noise = np.where(agree, few[0], noise)
    return np.where(np.isfinite(noise), noise, 0.0)
