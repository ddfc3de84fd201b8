"""The rectified linear unit (ReLU)."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import filled, maximum, where_positive

__all__ = ["activate"]


@inlined
def activate(x):
    """Return max(x, 0) and its slope."""
    zero = filled(x, 0.0)
    return maximum(x, zero), where_positive(x, filled(x, 1.0), zero)
