"""RMSprop for vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import root

__all__ = ["update"]


@inlined
def update(p, g, rate, _scale, numbers, squares):
    """Return the parameters and the moving averages of squared gradients."""
    alpha, eps = numbers[0], numbers[1]
    squares = alpha * squares + (1.0 - alpha) * g * g
    return p - rate * g / (root(squares) + eps), squares
