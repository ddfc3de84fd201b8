"""Half the sum of squared errors."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._loss import LossFormula

__all__ = ["SumSquaredError"]


@dataclass(frozen=True)
class SumSquaredError(LossFormula):
    """½ Σ (a - t)² of each sample.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> accelnn.losses.SumSquaredError().value(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]]))
    array([2.])
    """

    name = "sum_squared_error"

    def _value(self, ops: Any, a: Array, t: Array) -> Array:
        return 0.5 * ops.xp.sum((a - t) ** 2, axis=-1)

    def _grad(self, ops: Any, a: Array, t: Array) -> Array:
        return a - t

    def _delta(self, ops: Any, a: Array, d: Array, t: Array) -> Array:
        return ops.xp.sum(d * ((a - t) + 0.5 * d), axis=-1)

    def _delta_along(self, ops: Any, a: Array, c: Array, w: Array, t: Array) -> Array:
        xp = ops.xp
        slope = xp.sum(w * (a - t), axis=-1)
        return c * (slope + 0.5 * xp.sum(w * w) * c)
