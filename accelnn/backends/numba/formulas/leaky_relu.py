"""The leaky rectifier of vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import filled, where_positive

__all__ = ["activate"]


@inlined
def activate(x, negative_slope):
    """Return x or `negative_slope` x, and the slope."""
    slope = where_positive(x, filled(x, 1.0), filled(x, negative_slope))
    return x * slope, slope
