"""The Huber loss of one output."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import filled, maximum

__all__ = ["change", "loss", "output"]


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


@inlined
def change(d, a, t, threshold):
    """Return the change for moves d of the output, a vector.

    With r' = r + d, and c' = r' cut off as c is, it is c d + (c' - c) (r' - ½ (c + c')), where
    c' - c is d as far as it is not cut off.
    """
    r = a - t
    _, c = loss(a, t, threshold)
    beyond = r - c
    moved = maximum(d + beyond, filled(d, -threshold - c))
    moved = -1.0 * maximum(-1.0 * moved, filled(d, c - threshold))
    return c * d + moved * (beyond + d - 0.5 * moved)
