"""How far off a difference may be, and signs that it means nothing."""

from __future__ import annotations

import numpy as np

from accelnn.gradient._result import Flag
from accelnn.gradient._schemes import Scheme

__all__ = [
    "SAFETY",
    "flag_kinks",
    "flag_not_finite",
    "flag_one_sided",
    "rounding",
    "side_jump",
    "truncation",
]

# The slopes of the two sides of a smooth curve part in proportion to the step, those at a kink by
# as much at any step. This lies between one half and one.
KINK = 0.75
# How many times an estimate of truncation counts.
SAFETY = 2.0
# Units of rounding below which slopes do not tell a kink.
CERTAIN = 16.0


def truncation(fine: Scheme, value: np.ndarray, wide: Scheme, wide_value: np.ndarray) -> np.ndarray:
    """Estimate what the series leaves in derivatives of shape (n, q), from those at twice the step.

    Infinite where bounds left no room for a second step.
    """
    backend = fine.backend
    near, far = (np.abs(backend.to_numpy(scheme.width))[:, None] for scheme in (fine, wide))
    order = 2.0 if fine.method == "central" else 1.0
    with np.errstate(all="ignore"):
        left: np.ndarray = SAFETY * np.abs(wide_value - value) / ((far / near) ** order - 1.0)
    return np.where(far > near, left, np.inf)


def rounding(
    scheme: Scheme, values: np.ndarray, base: np.ndarray, epsilon: float, noise: np.ndarray
) -> np.ndarray:
    """Return what the last place of f, whose values have shape (n, p, q), is worth in a slope.

    Or its noise, of shape (q,), where that is more; `base` is f(x).
    """
    width = np.abs(scheme.backend.to_numpy(scheme.width))[:, None]
    largest = np.maximum(np.max(np.abs(values), axis=1), np.abs(base))
    worth: np.ndarray = np.maximum(epsilon * largest, noise) / width
    return worth


def side_jump(scheme: Scheme, x: np.ndarray, values: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the slope above x less the slope below it; zero where both points are on one side."""
    moved = scheme.backend.to_numpy(scheme.moved)
    with np.errstate(all="ignore"):
        slopes = (values - base) / (moved - x[:, None])[..., None]
    is_central = (moved[:, 0] > x) & (moved[:, 1] < x)
    return np.where(is_central[:, None], slopes[:, 0] - slopes[:, 1], 0.0)


def flag_kinks(jump: np.ndarray, wide_jump: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return flags of n coordinates where the slopes of the two sides do not come together.

    Parameters
    ----------
    jump, wide_jump : numpy.ndarray of shape (n, q)
        `side_jump` at a step and at twice that step.
    noise : numpy.ndarray of shape (n, q)
        `rounding` at the first.
    """
    with np.errstate(invalid="ignore"):
        stays = np.abs(jump) > KINK * np.abs(wide_jump)
        is_kink = stays & (np.abs(jump) > CERTAIN * noise)
    return np.where(is_kink.any(axis=1), Flag.KINK, Flag.OK).astype(int)


def flag_not_finite(*values: np.ndarray) -> np.ndarray:
    """Return flags of n coordinates where something is NaN or infinite."""
    lost = [~np.isfinite(v).reshape(len(v), -1).all(axis=1) for v in values]
    return np.where(np.any(lost, axis=0), Flag.NOT_FINITE, Flag.OK).astype(int)


def flag_one_sided(scheme: Scheme) -> np.ndarray:
    """Return flags of n coordinates whose bounds left room on one side only."""
    if scheme.is_one_sided is None:
        return np.zeros(scheme.moved.shape[0], int)
    return np.where(scheme.backend.to_numpy(scheme.is_one_sided), Flag.ONE_SIDED, Flag.OK).astype(
        int
    )
