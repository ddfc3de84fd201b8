"""The rectified linear unit (ReLU)."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend
from accelnn.backends.numba.vectors import filled, maximum, where_positive

__all__ = ["activate", "bend", "change"]


@inlined
def activate(x):
    """Return max(x, 0) and its slope."""
    zero = filled(x, 0.0)
    return maximum(x, zero), where_positive(x, filled(x, 1.0), zero)


@inlined
def change(d, x):
    """Return max(x + d, 0) - max(x, 0)."""
    if x > 0.0:
        return maximum(d, filled(d, -x))
    return maximum(d + x, filled(d, 0.0))


def bend(_parameter: float) -> Bend:
    """See `accelnn.backends.numba.formulas`."""
    return Bend(0.0, 1.0, 0.0, kinks=1.0)
