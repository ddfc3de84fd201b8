"""The sigmoid-weighted linear unit of vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import sigmoid
from accelnn.backends.numba.vectors import filled, maximum
from accelnn.formulas._activation import HUGE

__all__ = ["activate"]


@inlined
def activate(x):
    """Return x s(x), s being the sigmoid, and its slope."""
    s, slope = sigmoid.activate(x)
    # Infinity times what is left of s would be no 0.
    x = maximum(x, filled(x, -HUGE))
    return x * s, s + x * slope
