"""The leaky rectifier of vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import filled, where_positive
from accelnn.formulas.leaky_relu import LeakyReLU

__all__ = ["activate"]

SLOPE = LeakyReLU().negative_slope


@inlined
def activate(x):
    """Return x or `SLOPE` x, and the slope."""
    slope = where_positive(x, filled(x, 1.0), filled(x, SLOPE))
    return x * slope, slope
