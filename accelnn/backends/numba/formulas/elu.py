"""The exponential linear unit of vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import exp_and_expm1, filled, maximum, where_positive

__all__ = ["activate"]


@inlined
def activate(x, alpha):
    """Return x or `alpha` (exp(x) - 1), and the slope."""
    e, minus_one = exp_and_expm1(-1.0 * maximum(-1.0 * x, filled(x, 0.0)))
    return where_positive(x, x, alpha * minus_one), where_positive(x, filled(x, 1.0), alpha * e)
