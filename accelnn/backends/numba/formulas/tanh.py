"""The hyperbolic tangent."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import absolute, exp_and_expm1, where_positive

__all__ = ["activate"]


@inlined
def activate(x):
    """Return tanh(x) and its slope."""
    e, minus = exp_and_expm1(-2.0 * absolute(x))
    s = 1.0 / (1.0 + e)
    up = -1.0 * minus * s
    return where_positive(x, up, -1.0 * up), 4.0 * e * s * s
