"""The logistic function."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend
from accelnn.backends.numba.vectors import absolute, exp_and_expm1, filled, where_positive

__all__ = ["activate", "bend", "change", "parts"]

# Below this, s (1 - s) is close to underflow and loses digits.
SMALLEST = 1e-290


@inlined
def activate(x):
    """Return 1 / (1 + exp(-x)) and its slope."""
    e, _ = exp_and_expm1(-1.0 * absolute(x))
    s = 1.0 / (1.0 + e)
    return where_positive(x, s, e * s), e * s * s


@inlined
def parts(x):
    """Return s(x) and 1 - s(x)."""
    e, _ = exp_and_expm1(-1.0 * absolute(x))
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    return where_positive(x, large, small), where_positive(x, small, large)


@inlined
def change(d, x, _parameter, s, rest):
    """Return s(x + d) - s(x) = s (1 - s) expm1(d) / (1 - s + s exp(d)).

    Evaluated for d <= 0; a positive d is mirrored by s(x) = 1 - s(-x). Where s (1 - s) is close to
    underflow, the plain difference serves, whose rounding is beyond that.
    """
    if s * rest < SMALLEST:
        after, _ = activate((d + x) if x < 0.0 else -1.0 * (d + x))
        return after - s if x < 0.0 else rest - after
    s_of_sign = where_positive(d, filled(d, rest), filled(d, s))
    rest_of_sign = where_positive(d, filled(d, s), filled(d, rest))
    exp, expm1 = exp_and_expm1(-1.0 * absolute(d))
    size = (s * rest) * expm1 / (rest_of_sign + s_of_sign * exp)
    return where_positive(d, -1.0 * size, size)


def bend(_parameter: float) -> Bend:
    """See `accelnn.backends.numba.formulas`: the slope 1 / (2 cosh(x / 2))² is largest at ±i."""
    return Bend(1.0, 0.33)
