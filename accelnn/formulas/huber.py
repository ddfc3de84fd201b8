"""Squared near 0 and absolute further away: a loss that outliers do not rule."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._checks import check_parameters, positive
from accelnn.formulas._loss import LossFormula

__all__ = ["Huber"]


@dataclass(frozen=True)
class Huber(LossFormula):
    """Σ ½ r² of each sample as far as r = a - t is small, and growing in proportion to r beyond.

    Parameters
    ----------
    threshold : float, default 1.0
        δ: further away, the loss is δ (|r| - ½ δ).

    References
    ----------
    P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35
    (1964).

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> accelnn.losses.Huber().value(np.array([[3.0, 0.5]]), np.zeros((1, 2)))
    array([2.625])
    """

    threshold: float = 1.0

    name = "huber"

    def __post_init__(self) -> None:
        check_parameters(self, threshold=positive)

    def _value(self, ops: Any, a: Array, t: Array) -> Array:
        # With c = r cut off at ±δ, both branches are c (r - ½ c).
        r = a - t
        c = self._cut(ops.xp, r)
        return ops.xp.sum(c * (r - 0.5 * c), axis=-1)

    def _grad(self, ops: Any, a: Array, t: Array) -> Array:
        return self._cut(ops.xp, a - t)

    def _delta(self, ops: Any, a: Array, d: Array, t: Array) -> Array:
        # With r' = r + d, and c' = r' cut off, it is c d + (c' - c) (r' - ½ (c + c')), where c' - c
        # is d as far as it is not cut off.
        xp = ops.xp
        r = a - t
        c = self._cut(xp, r)
        ones = xp.ones_like(r + d)
        up, down = (self.threshold - c) * ones, (-self.threshold - c) * ones
        step = xp.minimum(xp.maximum(d + (r - c), down), up)
        return xp.sum(c * d + step * ((r - c) + d - 0.5 * step), axis=-1)

    def _cut(self, xp: Any, r: Array) -> Array:
        limit = self.threshold * xp.ones_like(r)
        return xp.minimum(xp.maximum(r, -limit), limit)
