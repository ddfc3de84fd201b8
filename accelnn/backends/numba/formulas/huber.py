"""The Huber loss of one output."""

import math

from accelnn.backends.numba._jit import inlined

__all__ = ["loss", "output"]


@inlined
def loss(a, t, threshold):
    """Return the loss and its derivative, which is a - t cut off; a NaN stays one."""
    r = a - t
    c = r
    if abs(r) > threshold:
        c = math.copysign(threshold, r)
    return c * (r - 0.5 * c), c


@inlined
def output(a):
    """Return a."""
    return a
