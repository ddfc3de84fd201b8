"""The rectified linear unit (ReLU)."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula

__all__ = ["ReLU"]


@dataclass(frozen=True)
class ReLU(ActivationFormula):
    """max(x, 0), with slope 0 at 0 by convention."""

    name = "relu"
    initializer = "he"
    slope_from_value = True

    def _value(self, ops: Any, x: Array) -> Array:
        return ops.xp.maximum(x, ops.xp.zeros_like(x))

    def _slope(self, ops: Any, x: Array) -> Array:
        # NaN stays NaN.
        xp = ops.xp
        return xp.where(x > 0, xp.ones_like(x), xp.where(x <= 0, xp.zeros_like(x), x))

    def _times_slope(self, ops: Any, error: Array, x: Array) -> Array:
        # The sign of a rectified number is its slope, and NaN stays NaN.
        error *= ops.xp.sign(x)
        return error

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        xp = ops.xp
        return xp.where(x > 0, xp.maximum(d, -x), ops.relu(x + d))
