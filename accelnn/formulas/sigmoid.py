"""The logistic function."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._ops import rest_of_one

__all__ = ["Sigmoid"]


@dataclass(frozen=True)
class Sigmoid(ActivationFormula):
    """s(x) = 1 / (1 + exp(-x))."""

    name = "sigmoid"
    slope_from_value = True

    def _value(self, ops: Any, x: Array) -> Array:
        xp = ops.xp
        e = xp.exp(-xp.abs(x))
        # The numerator is 1 where x >= 0, because e <= 1: faster than `where`.
        return xp.maximum(xp.astype(x >= 0, x.dtype), e) / (1.0 + e)

    def _slope(self, ops: Any, x: Array) -> Array:
        # s(x) s(-x), where s(x) (1 - s(x)) would cancel.
        xp = ops.xp
        e = xp.exp(-xp.abs(x))
        return e / (1.0 + e) ** 2

    def _times_slope(self, ops: Any, error: Array, x: Array) -> Array:
        error *= x
        error *= rest_of_one(x)
        return error

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # s(x + d) - s(x) = s(x) s(-x - d) expm1(d), evaluated for d <= 0, where expm1 cannot
        # overflow; a positive d is mirrored by s(x) = 1 - s(-x).
        xp = ops.xp
        up = d > 0
        down = -xp.abs(d)
        # x is often one row for many rows of d, so what depends on x alone is computed apart.
        before = xp.where(up, ops.sigmoid(-x), ops.sigmoid(x))
        after = ops.sigmoid(-(xp.where(up, -x, x) + down))
        change = before * after * xp.expm1(down)
        return xp.where(up, -change, change)
