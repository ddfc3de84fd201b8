"""The sigmoid linear unit (SiLU), also known as swish."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import HUGE, ActivationFormula, capped

__all__ = ["SiLU"]


@dataclass(frozen=True)
class SiLU(ActivationFormula):
    """x s(x), with s the sigmoid.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", Neural Networks 107 (2018).
    """

    name = "silu"
    initializer = "he"

    def _value(self, ops: Any, x: Array) -> Array:
        xp = ops.xp
        return xp.maximum(x, -HUGE * xp.ones_like(x)) * ops.sigmoid(x)

    def _slope(self, ops: Any, x: Array) -> Array:
        return ops.sigmoid(x) + capped(ops.xp, x) * ops.sigmoid_grad(x)

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # Of a move by more than half of x, the two terms may cancel, but not the values.
        xp = ops.xp
        far = self._value(ops, x + d) - self._value(ops, x)
        x = capped(xp, x)
        near = d * ops.sigmoid(x + d) + x * ops.sigmoid_delta(x, d)
        return xp.where(2.0 * xp.abs(d) > xp.abs(x), far, near)
