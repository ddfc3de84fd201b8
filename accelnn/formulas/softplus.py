"""The softplus function, a smooth ReLU."""

import math
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula

__all__ = ["Softplus", "softplus", "softplus_change"]

# Numbers below so many of the smallest normal one lose digits in products.
SMALLEST = 1e16
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
    is d + log1p(s(-x) expm1(-d)), the form mirrored, as far as x / 2, where its argument is at most
    exp(-x / 2); and further down the plain difference of values, of different sizes. The plain
    difference also serves where x <= 0 and expm1 would overflow.
    """
    xp = ops.xp
    large = 0.5 * math.log(float(xp.finfo(d.dtype).max)) * xp.ones_like(d)
    part = ops.sigmoid(x)
    argument = part * xp.expm1(xp.minimum(d, large))
    shrunk = SHRUNK * xp.ones_like(argument)
    direct = xp.log1p(xp.maximum(argument, shrunk))
    rest = ops.sigmoid(-x) * xp.expm1(xp.minimum(-d, large))
    mirrored = d + xp.log1p(xp.maximum(rest, shrunk))
    plain = softplus(xp, x + d) - softplus(xp, x)
    far = xp.where((x > 0) & (x + 2.0 * d > 0), mirrored, plain)
    # A sigmoid that underflows has few digits, and x is so far down that no values are alike.
    lossy = (part < SMALLEST * float(xp.finfo(d.dtype).smallest_normal)) & (d > 0)
    return xp.where((argument < SHRUNK) | (d > large) | lossy, far, direct)
