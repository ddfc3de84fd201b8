"""Gradient descent with a velocity for vectors."""

from accelnn.backends.numba._jit import inlined

__all__ = ["update"]


@inlined
def update(p, g, rate, _scale, numbers, velocity):
    """Return the parameters and their velocity."""
    velocity = numbers[0] * velocity + g
    return p - rate * velocity, velocity
