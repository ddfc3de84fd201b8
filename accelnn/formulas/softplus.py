"""The softplus function, a smooth ReLU."""

import math
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula

__all__ = ["Softplus", "softplus", "softplus_change"]

# log1p is accurate for arguments above this.
SHRUNK = -0.5


@dataclass(frozen=True)
class Softplus(ActivationFormula):
    """log(1 + exp(x)).

    References
    ----------
    Dugas, Bengio, Bélisle, Nadeau and Garcia, "Incorporating Second-Order Functional Knowledge for
    Better Option Pricing", NIPS (2000).
    """

    name = "softplus"
    initializer = "he"

    def _value(self, ops: Any, x: Array) -> Array:
        return softplus(ops.xp, x)

    def _slope(self, ops: Any, x: Array) -> Array:
        return ops.sigmoid(x)

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        return softplus_change(ops, x, d)


def softplus(xp: Any, x: Array) -> Array:
    """Return log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def softplus_change(ops: Any, x: Array, d: Array) -> Array:
    """Return log((1 + exp(x + d)) / (1 + exp(x))) = log1p(s(x) expm1(d)), with s the sigmoid.

    That form loses digits where its argument is close to -1, that is from x > 0 far down. There it
    is d + log1p(s(-x) expm1(-d)), the form mirrored, if that argument is below 1, and else the
    plain difference of values, one of which is at most half the other. The plain difference also
    serves where x <= 0 and expm1 would overflow.
    """
    xp = ops.xp
    large = 0.5 * math.log(float(xp.finfo(d.dtype).max)) * xp.ones_like(d)
    argument = ops.sigmoid(x) * xp.expm1(xp.minimum(d, large))
    shrunk = SHRUNK * xp.ones_like(argument)
    direct = xp.log1p(xp.maximum(argument, shrunk))
    rest = ops.sigmoid(-x) * xp.expm1(xp.minimum(-d, large))
    mirrored = d + xp.log1p(xp.maximum(rest, shrunk))
    plain = softplus(xp, x + d) - softplus(xp, x)
    far = xp.where((rest < 1.0) & ((d < 0) | (x > 0)), mirrored, plain)
    return xp.where((argument < SHRUNK) | (d > large), far, direct)
