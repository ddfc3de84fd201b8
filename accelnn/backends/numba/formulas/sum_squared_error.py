"""Half the sum of squared errors."""

from accelnn.backends.numba._jit import inlined

__all__ = ["loss", "output"]


@inlined
def loss(a, t):
    """Return ½ (a - t)² and its derivative."""
    r = a - t
    return 0.5 * r * r, r


@inlined
def output(a):
    """Return a."""
    return a
