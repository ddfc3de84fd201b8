"""The exponential linear unit."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._checks import check_parameters, finite

__all__ = ["ELU"]


@dataclass(frozen=True)
class ELU(ActivationFormula):
    """x above 0, and `alpha` (exp(x) - 1) from 0 down.

    Parameters
    ----------
    alpha : float, default 1.0
        What it tends to far below 0, with the sign turned.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential
    Linear Units (ELUs)", ICLR (2016).
    """

    alpha: float = 1.0

    name = "elu"
    initializer = "he"

    def __post_init__(self) -> None:
        check_parameters(self, alpha=finite)

    def _value(self, ops: Any, x: Array) -> Array:
        xp = ops.xp
        return xp.where(x > 0, x, self.alpha * xp.expm1(_at_most_0(xp, x)))

    def _slope(self, ops: Any, x: Array) -> Array:
        xp = ops.xp
        return xp.where(x > 0, xp.ones_like(x), self.alpha * xp.exp(_at_most_0(xp, x)))

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # From 0 down, exp(x + d) - exp(x) = ±exp(the larger) (1 - exp(-|d|)). On both sides of 0,
        # the values have different signs.
        xp = ops.xp
        y = x + d
        size = -xp.exp(_at_most_0(xp, xp.maximum(x, y))) * xp.expm1(-xp.abs(d))
        along = xp.where(x > 0, d, self.alpha * xp.where(d > 0, size, -size))
        return xp.where((x > 0) == (y > 0), along, self._value(ops, y) - self._value(ops, x))


def _at_most_0(xp: Any, x: Array) -> Array:
    """Return min(x, 0), so that what is not taken does not overflow; NaN stays NaN."""
    return xp.minimum(x, xp.zeros_like(x))
