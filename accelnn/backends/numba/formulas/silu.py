"""The sigmoid linear unit (SiLU), also known as swish."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend, sigmoid
from accelnn.backends.numba.vectors import absolute, filled, maximum, where_positive
from accelnn.formulas._activation import HUGE

__all__ = ["activate", "bend", "change", "parts"]


@inlined
def activate(x):
    """Return x s(x), with s the sigmoid, and its slope."""
    s, slope = sigmoid.activate(x)
    # Clipped, because -inf times s(-inf), which is not exactly 0 here, would not be 0.
    x = maximum(x, filled(x, -HUGE))
    return x * s, s + x * slope


@inlined
def parts(x):
    """Return s(x) and 1 - s(x)."""
    return sigmoid.parts(x)


@inlined
def change(d, x, parameter, s, rest):
    """Return d s(x + d) + x (s(x + d) - s(x)), or of a move by half of x the plain difference."""
    after, _ = sigmoid.activate(d + x)
    x = min(max(x, -HUGE), HUGE)
    near = d * after + x * sigmoid.change(d, x, parameter, s, rest)
    return where_positive(2.0 * absolute(d) - abs(x), (d + x) * after - x * s, near)


def bend(_parameter: float) -> Bend:
    """See `accelnn.backends.numba.formulas`: the slope is s + x s', with s the sigmoid."""
    return Bend(1.0, 2.0)
