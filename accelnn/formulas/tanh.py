"""The hyperbolic tangent."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._ops import rest_of_one, times

__all__ = ["Tanh"]


@dataclass(frozen=True)
class Tanh(ActivationFormula):
    """tanh(x)."""

    name = "tanh"
    slope_from_value = True

    def _value(self, ops: Any, x: Array) -> Array:
        return ops.xp.tanh(x)

    def _slope(self, ops: Any, x: Array) -> Array:
        # 1 / cosh(x)², written so that nothing overflows.
        xp = ops.xp
        e = xp.exp(-2.0 * xp.abs(x))
        return 4.0 * e / (1.0 + e) ** 2

    def _times_slope(self, ops: Any, error: Array, x: Array) -> Array:
        error *= rest_of_one(times(x, x, x))
        return error

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # tanh(x) = 2 s(2x) - 1.
        return 2.0 * ops.sigmoid_delta(2.0 * x, 2.0 * d)
