"""Binary cross entropy."""

import math

from accelnn.backends.numba._jit import inlined

__all__ = ["loss", "output"]


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
