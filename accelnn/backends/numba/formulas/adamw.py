"""AdamW for vectors: Adam with decoupled weight decay."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas.adam import update

__all__ = ["decay", "update"]


@inlined
def decay(p, g, rate, factor):
    """Return the parameters and the gradient, after weight decay."""
    return (1.0 - rate * factor) * p, g
