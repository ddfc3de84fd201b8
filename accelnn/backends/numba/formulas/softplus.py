"""The softplus function."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    polynomial,
    where_positive,
)

__all__ = ["activate"]

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
