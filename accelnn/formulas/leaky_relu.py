"""A rectifier that lets a little through below 0."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula, capped
from accelnn.formulas._checks import check_parameters, finite

__all__ = ["LeakyReLU"]


@dataclass(frozen=True)
class LeakyReLU(ActivationFormula):
    """x above 0, and `negative_slope` times x from 0 down.

    Parameters
    ----------
    negative_slope : float, default 0.01
        The slope from 0 down, at 0 itself too.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML
    (2013).
    """

    negative_slope: float = 0.01

    name = "leaky_relu"
    initializer = "he"

    def __post_init__(self) -> None:
        check_parameters(self, negative_slope=finite)

    def _value(self, ops: Any, x: Array) -> Array:
        return ops.xp.where(x > 0, x, self.negative_slope * x)

    def _slope(self, ops: Any, x: Array) -> Array:
        # NaN stays NaN.
        xp = ops.xp
        below = self.negative_slope * xp.ones_like(x)
        return xp.where(x > 0, xp.ones_like(x), xp.where(x <= 0, below, x))

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # Where x and x + d are on one side of 0, the change is a multiple of d; else both parts of
        # it have one sign, if the slope is positive.
        xp = ops.xp
        y = x + d
        beyond = self._value(ops, capped(xp, y)) - self._value(ops, capped(xp, x))
        along = xp.where(x > 0, d, self.negative_slope * d)
        found = xp.where((x > 0) == (y > 0), along, beyond)
        return xp.where(xp.isnan(x), y, found)
