"""The exponential linear unit of vectors."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    where_positive,
)

__all__ = ["activate", "bend", "change"]


@inlined
def activate(x, alpha):
    """Return x or `alpha` (exp(x) - 1), and the slope."""
    e, minus_one = exp_and_expm1(-1.0 * maximum(-1.0 * x, filled(x, 0.0)))
    return where_positive(x, x, alpha * minus_one), where_positive(x, filled(x, 1.0), alpha * e)


@inlined
def change(d, x, alpha):
    """Return the change; from 0 down, that of the exponential without cancellation.

    exp(x + d) - exp(x) is ±exp(the larger) (1 - exp(-|d|)). On both sides of 0, the values have
    different signs.
    """
    y = d + x
    after, _ = activate(y, alpha)
    if x > 0.0:
        return where_positive(y, d, after - x)
    exp, _ = exp_and_expm1(maximum(y, filled(y, x)))
    _, minus_one = exp_and_expm1(-1.0 * absolute(d))
    size = -1.0 * exp * minus_one
    along = where_positive(d, size, -1.0 * size)
    return where_positive(y, after - alpha * math.expm1(x), alpha * along)


def bend(alpha: float) -> Bend:
    """See `accelnn.backends.numba.formulas`: below 0 the slope is alpha exp(x), up to exp(1)."""
    return Bend(1.0, 1.0, math.e * abs(alpha), kinks=1.0)
