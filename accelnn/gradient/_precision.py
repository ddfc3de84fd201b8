"""Precision of values of f: machine epsilon, measured noise, and tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn.backends import Backend, is_floating

__all__ = ["DOUBLE", "NOISE_STEPS", "SAFETY", "WILD", "machine_epsilon", "measure_noise", "wide"]

# Machine epsilon of double precision.
DOUBLE = float(np.finfo(np.float64).eps)
# Safety factor of estimated truncation errors.
SAFETY = 2.0

# Evaluations for a measurement of noise, and their spacing relative to x: close enough for high
# differences of a smooth f to vanish, and no closer than rounding of x allows.
POINTS = 6
NOISE_STEPS = np.arange(1, POINTS + 1)
SPACING, LEAST_ULPS = 2.0**-20, 16.0
# Where f is constant, its values may be quantised: wider spacings are tried so many times, by this
# factor. Not where f changes, because an oscillation would be taken for noise.
WIDENINGS = 2
WIDER = 2.0**6
# Consecutive orders of differences whose noise estimates must agree, and to which factor.
ORDERS = 3
CONSISTENT = 4.0
# Noise of more than so many times the rounding is measured again at closer points.
WILD = 1e3
NEARER = 2.0**-10
# Noise of up to so many times the rounding of nearby values is no noise of f at x where they are so
# many times as large as f(x).
ROUNDED, FAR_LARGER = 16.0, 1e3
# Wider spacings at which noise is measured again.
FURTHER = (2.0**3, 2.0**6)


def wide(numbers: np.ndarray) -> np.ndarray:
    """Return numbers in double precision at least, real or complex."""
    if numbers.dtype == np.float64:
        return numbers
    return numbers.astype(np.result_type(numbers, np.float64), copy=False)


def machine_epsilon(backend: Backend, *dtypes: Any) -> float:
    """Return the largest machine epsilon of the dtypes; integers are exact."""
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

    f is evaluated at equidistant points on a line through x. High differences of a smooth function
    vanish there; those of order k of noise with variance σ² have the variance (2k)! / k!² σ².

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
        Measure at wider spacings too, which show the rounding of values with few digits.

    References
    ----------
    J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific
    Computing 33 (2011).
    """
    # Coordinates that are 0 take the size of the smallest other, so that no oscillation is missed.
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
        # At closer points noise is the same, an oscillation is smooth, and quantised values are
        # constant.
        nearer = along(max(NEARER * spacing, LEAST_ULPS * epsilon) * move)
        wild &= np.count_nonzero(np.diff(nearer, axis=0), axis=0) > len(nearer) / 2
        wild &= np.ptp(nearer, axis=0) < noise / CONSISTENT
        return np.where(wild, _scatter(nearer), noise)
    # Rounding of values far larger than f(x) is no noise of f at x.
    largest = np.abs(values).max(axis=0)
    is_rounding = (noise <= ROUNDED * epsilon * largest) & (
        largest > FAR_LARGER * np.abs(values[0])
    )
    further = [_scatter(along(factor * spacing * move)) for factor in FURTHER]
    # Noise is the same at all spacings; the remainder of an oscillation is not.
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
        # Highest orders first, so that the lowest consistent one is kept.
        for k in reversed(range(1, len(spreads) - ORDERS + 1)):
            few = np.array(spreads[k : k + ORDERS])
            agree = (few.max(axis=0) <= CONSISTENT * few.min(axis=0)) & changes_sign[k]
            noise = np.where(agree, few[0], noise)
    return np.where(np.isfinite(noise), noise, 0.0)
