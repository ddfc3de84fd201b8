"""AdaGrad for vectors."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import root

__all__ = ["update"]


@inlined
def update(p, g, rate, _scale, numbers, squares):
    """Return the parameters and the sums of squared gradients."""
    squares = squares + g * g
    return p - rate * g / (root(squares) + numbers[0]), squares
