"""Adam for vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import root

__all__ = ["update"]


@inlined
def update(p, g, rate, scale, numbers, mean, squares):
    """Return the parameters and the moving averages of gradients and of their squares."""
    beta1, beta2, eps = numbers[0], numbers[1], numbers[2]
    mean = beta1 * mean + (1.0 - beta1) * g
    squares = beta2 * squares + (1.0 - beta2) * g * g
    return p - rate * mean / (root(squares) * (1.0 / scale) + eps), mean, squares
