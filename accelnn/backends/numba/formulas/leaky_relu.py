"""The leaky rectifier of vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend
from accelnn.backends.numba.vectors import filled, where_positive

__all__ = ["activate", "bend", "change"]


@inlined
def activate(x, negative_slope):
    """Return x or `negative_slope` x, and the slope."""
    slope = where_positive(x, filled(x, 1.0), filled(x, negative_slope))
    return x * slope, slope


@inlined
def change(d, x, negative_slope):
    """Return the change, a multiple of d unless it crosses 0."""
    y = d + x
    after, _ = activate(y, negative_slope)
    if x > 0.0:
        return where_positive(y, d, after - x)
    return where_positive(y, after - negative_slope * x, negative_slope * d)


def bend(negative_slope: float) -> Bend:
    """See `accelnn.backends.numba.formulas`."""
    return Bend(0.0, 1.0, abs(negative_slope), kinks=1.0)
