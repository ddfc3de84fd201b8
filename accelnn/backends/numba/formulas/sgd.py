"""Gradient descent for vectors."""

from accelnn.backends.numba._jit import inlined

__all__ = ["update"]


@inlined
def update(p, g, rate, _scale, _numbers):
    """Return the parameters."""
    return (p - rate * g,)
