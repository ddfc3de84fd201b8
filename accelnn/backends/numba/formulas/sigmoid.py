"""The logistic function."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import absolute, exp_and_expm1, where_positive

__all__ = ["activate"]


@inlined
def activate(x):
    """Return 1 / (1 + exp(-x)) and its slope."""
    e, _ = exp_and_expm1(-1.0 * absolute(x))
    s = 1.0 / (1.0 + e)
    return where_positive(x, s, e * s), e * s * s
