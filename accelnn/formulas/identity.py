"""The identity, for a linear layer."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula

__all__ = ["Identity"]


@dataclass(frozen=True)
class Identity(ActivationFormula):
    """f(x) = x."""

    name = "identity"
    slope_from_value = True

    def _value(self, ops: Any, x: Array) -> Array:
        return x

    def _slope(self, ops: Any, x: Array) -> Array:
        return ops.xp.ones_like(x)

    def _times_slope(self, ops: Any, error: Array, x: Array) -> Array:
        return error

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        return ops.xp.where(ops.xp.isnan(x), x, d)
