"""The base class of activations."""

from __future__ import annotations

from typing import Any, Literal

from accelnn._typing import Array
from accelnn._underflow import underflow_is_harmless
from accelnn.formulas._ops import floats, ops_of

__all__ = ["ActivationFormula", "capped"]

# Far beyond the arguments where the sigmoid and the normal distribution saturate.
HUGE = 1e30

Initializer = Literal["xavier", "he"]


class ActivationFormula:
    """An elementwise function between layers: its value, its slope and its exact change.

    Every method takes ``backend=``, by default that of the arrays. A subclass is a frozen dataclass
    whose fields are the parameters of the function. It defines `_value` and `_slope` in terms of
    ``ops``, a backend with the array-API namespace ``ops.xp``.

    Attributes
    ----------
    name : str
        Its name in nets, files and errors.
    initializer : {"xavier", "he"}
        The default initialisation of the weights before it.
    slope_from_value : bool
        Whether `_times_slope` takes f(x) in the place of x.
    """

    name: str
    initializer: Initializer = "xavier"
    slope_from_value: bool = False

    @underflow_is_harmless
    def value(self, x: Array, *, backend: Any = None) -> Array:
        """Return f(x), of the shape of `x`."""
        ops = ops_of(backend, x)
        return self._value(ops, *floats(ops, backend, x))

    @underflow_is_harmless
    def slope(self, x: Array, *, backend: Any = None) -> Array:
        """Return f'(x) at the pre-activation `x`."""
        ops = ops_of(backend, x)
        return self._slope(ops, *floats(ops, backend, x))

    @underflow_is_harmless
    def change(self, x: Array, d: Array, *, backend: Any = None) -> Array:
        """Return f(x + d) - f(x), of the broadcast shape, without cancellation where d is small."""
        ops = ops_of(backend, x, d)
        return self._change(ops, *floats(ops, backend, x, d))

    def _value(self, ops: Any, x: Array) -> Array:
        raise NotImplementedError

    def _slope(self, ops: Any, x: Array) -> Array:
        raise NotImplementedError

    def _times_slope(self, ops: Any, error: Array, x: Array) -> Array:
        """Return ``error * f'(x)``, of one shape; may overwrite `error` and `x`."""
        error *= self._slope(ops, x)
        return error

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # The default cancels: a subclass should override it.
        return self._value(ops, x + d) - self._value(ops, x)


def capped(xp: Any, x: Array) -> Array:
    """Return x with infinities clipped, because 0 times infinity is NaN; NaN stays NaN."""
    most = HUGE * xp.ones_like(x)
    return xp.minimum(xp.maximum(x, -most), most)
