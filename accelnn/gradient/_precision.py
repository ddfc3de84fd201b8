"""What the last digits of a function are worth: machine epsilon, noise, tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn.backends import Backend, is_floating

__all__ = ["DOUBLE", "NOISE_STEPS", "SAFETY", "WILD", "machine_epsilon", "measure_noise", "wide"]

# That of most numbers.
DOUBLE = float(np.finfo(np.float64).eps)
# How many times an estimate of truncation counts.
SAFETY = 2.0

# Evaluations for a measurement of noise, and how far apart they are in relation to x: so near that
# all but noise vanishes in high differences, and not nearer than x can move.
POINTS = 6
NOISE_STEPS = np.arange(1, POINTS + 1)
SPACING, LEAST_ULPS = 2.0**-20, 16.0
# Where f does not move at all, its values are rounded to fewer digits: so often points further
# apart are tried, and by how much. Not where it moves: there, a wave would be taken for noise.
WIDENINGS = 2
WIDER = 2.0**6
# Orders of differences that must tell of the same noise, and by which factor they may differ.
ORDERS = 3
CONSISTENT = 4.0
# Noise of so many times the rounding is measured once more, so much nearer.
WILD = 1e3
NEARER = 2.0**-10
# Noise of so many times the rounding of values that are so many times as large as f(x) is theirs.
ROUNDED, FAR_LARGER = 16.0, 1e3
# How many times further away noise is measured twice more.
FURTHER = (2.0**3, 2.0**6)


def wide(numbers: np.ndarray) -> np.ndarray:
    """Return numbers in double precision; longdouble and complex stay what they are."""
    if numbers.dtype == np.float64:
        return numbers
    return numbers.astype(np.result_type(numbers, np.float64), copy=False)


def machine_epsilon(backend: Backend, *dtypes: Any) -> float:
    """Return the machine epsilon of the least precise of the dtypes; integers count as exact."""
    found = 0.0
    for dtype in dtypes:
        if is_floating(dtype):
            found = max(found, float(backend.xp.finfo(dtype).eps))
    return found or DOUBLE


def measure_noise(
    along: Callable[[np.ndarray], np.ndarray],
    position: np.ndarray,
    epsilon: float,
    *,
    insist: bool = False,
) -> np.ndarray:
    """Return the standard deviation of the noise of each of f's q values, or 0 where none is seen.

    f is evaluated at points of a line through x. High differences leave nothing of a smooth
    function there; of noise with standard deviation σ, those of order k have the variance
    (2k)! / k!² σ².

    Parameters
    ----------
    along : callable
        ``along(move)`` returns the values at x and after 1 to `POINTS` moves, of shape
        (1 + POINTS, q).
    position : numpy.ndarray of shape (n,)
        x.
    epsilon : float
        Machine epsilon of x.
    insist : bool, default False
        Look further away too, where values that are rounded to few digits scatter better.

    References
    ----------
    J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific
    Computing 33 (2011).
    """
    # What is 0 tells of no size, and the smallest beside it is none that misses waves.
    size = np.abs(position)
    least = float(size.min(initial=np.inf, where=size > 0.0))
    size = np.where(size > 0.0, size, least if np.isfinite(least) else 1.0)
    move = size * np.random.default_rng(0).uniform(0.5, 1.0, len(position))
    noise, spacing = np.zeros(0), SPACING
    for spacing in max(SPACING, LEAST_ULPS * epsilon) * WIDER ** np.arange(WIDENINGS + 1):
        values = along(spacing * move)
        noise = _scatter(values)
        with np.errstate(all="ignore"):
            if np.count_nonzero(np.diff(values, axis=0)) > values.size / 2:
                break
    if not insist:
        wild = noise > WILD * epsilon * np.abs(values).max(axis=0)
        if not wild.any():
            return noise
        # Noise is the same nearby, and waves are calm there. Rounded values do not move at all.
        nearer = along(max(NEARER * spacing, LEAST_ULPS * epsilon) * move)
        wild &= np.count_nonzero(np.diff(nearer, axis=0), axis=0) > len(nearer) / 2
        wild &= np.ptp(nearer, axis=0) < noise / CONSISTENT
        return np.where(wild, _scatter(nearer), noise)
    # What values far larger than f(x) are rounded by is no noise of f at x.
    largest = np.abs(values).max(axis=0)
    is_rounding = (noise <= ROUNDED * epsilon * largest) & (
        largest > FAR_LARGER * np.abs(values[0])
    )
    further = [_scatter(along(factor * spacing * move)) for factor in FURTHER]
    # Noise is the same wherever it is measured; what a wave leaves of itself is not.
    least, most = np.min(further, axis=0), np.max(further, axis=0)
    noise = np.where((most > noise) & (most <= CONSISTENT * least), most, noise)
    return np.where(is_rounding, 0.0, noise)


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
