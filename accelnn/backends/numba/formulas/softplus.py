"""The softplus function."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend, sigmoid
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    polynomial,
    where_positive,
)

__all__ = ["activate", "bend", "change", "parts"]

# log1p is accurate for arguments above SHRUNK; for moves above LARGE, exp is near overflow.
SHRUNK, LARGE = -0.5, 350.0
# log1p(e) = 2 artanh(s) with s = e / (2 + e) <= 1/3: a power series in s² with coefficients
# 2 / (2k + 1), with as many terms as float32 and float64 resolve.
series = polynomial([[2.0 / (2 * k + 1) for k in range(terms)] for terms in (8, 17)])


@inlined
def activate(x):
    """Return log(1 + exp(x)) and its slope, the sigmoid."""
    e, _ = exp_and_expm1(-1.0 * absolute(x))
    s = e / (2.0 + e)
    part = 1.0 / (1.0 + e)
    value = maximum(x, filled(x, 0.0)) + s * series(s * s)
    return value, where_positive(x, part, e * part)


@inlined
def parts(x):
    """Return s(x) and 1 - s(x), with s the sigmoid."""
    return sigmoid.parts(x)


@inlined
def change(d, x, _parameter, s, rest):
    """Return log1p(s expm1(d)), or where that loses digits, the forms of the portable formula."""
    _, up = exp_and_expm1(d)
    _, down = exp_and_expm1(-1.0 * d)
    # Exponentials are clipped, so that a product of two that are out of range means nothing.
    argument, mirrored = s * up, (rest if rest > sigmoid.SMALLEST else 0.0) * down
    shrunk = filled(d, SHRUNK)
    direct = math.log1p(maximum(argument, shrunk))
    near = d + math.log1p(maximum(mirrored, shrunk))
    after, _ = activate(d + x)
    far = after - (max(x, 0.0) + math.log1p(math.exp(-abs(x))))
    if x > 0.0:
        far = where_positive(2.0 * d + x, near, far)
    # A sigmoid that underflows has few digits, and x is so far down that no values are alike.
    most = LARGE if s > sigmoid.SMALLEST else 0.0
    direct = where_positive(d - most, far, direct)
    return where_positive(SHRUNK - argument, far, direct)


def bend(_parameter: float) -> Bend:
    """See `accelnn.backends.numba.formulas`: the slope is the sigmoid."""
    return Bend(1.0, 1.0)
