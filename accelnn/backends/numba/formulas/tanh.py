"""The hyperbolic tangent."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend, sigmoid
from accelnn.backends.numba.vectors import absolute, exp_and_expm1, where_positive

__all__ = ["activate", "bend", "change", "parts"]


@inlined
def activate(x):
    """Return tanh(x) and its slope."""
    e, minus = exp_and_expm1(-2.0 * absolute(x))
    s = 1.0 / (1.0 + e)
    up = -1.0 * minus * s
    return where_positive(x, up, -1.0 * up), 4.0 * e * s * s


@inlined
def parts(x):
    """Return s(2x) and 1 - s(2x), with s the sigmoid: tanh(x) is 2 s(2x) - 1."""
    return sigmoid.parts(2.0 * x)


@inlined
def change(d, x, parameter, s, rest):
    """Return tanh(x + d) - tanh(x)."""
    return 2.0 * sigmoid.change(2.0 * d, 2.0 * x, parameter, s, rest)


def bend(_parameter: float) -> Bend:
    """See `accelnn.backends.numba.formulas`: the slope 1 / cosh(x)² is largest at ±½i."""
    return Bend(2.0, 1.3)
