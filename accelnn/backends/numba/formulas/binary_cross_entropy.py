"""Binary cross entropy."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import softplus

__all__ = ["BEND", "change", "loss", "output"]

BEND = 1.0


@inlined
def loss(a, t):
    """Return (1 - t) log(1 + exp(a)) + t log(1 + exp(-a)), and its derivative s(a) - t."""
    e = math.exp(-abs(a))
    rest = math.log1p(e)
    # The larger of the two logarithms is |a| + rest, the other is rest.
    value = rest + (a * (1.0 - t) if a > 0.0 else -a * t)
    return value, (1.0 if a >= 0.0 else e) / (1.0 + e) - t


@inlined
def output(a):
    """Return the probability."""
    e = math.exp(-abs(a))
    return (1.0 if a >= 0.0 else e) / (1.0 + e)


@inlined
def change(d, a, t):
    """Return the change for moves d of the score, a vector."""
    e = math.exp(-abs(a))
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    s, rest = (large, small) if a >= 0.0 else (small, large)
    if t == 0.0:
        return softplus.change(d, a, 0.0, s, rest)
    falling = softplus.change(-1.0 * d, -a, 0.0, rest, s)
    if t == 1.0:
        return falling
    return (1.0 - t) * softplus.change(d, a, 0.0, s, rest) + t * falling
