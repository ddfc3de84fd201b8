"""The smooth rectifier of vectors."""

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

# log1p(e) = 2 artanh(s) with s = e / (2 + e), at most 1/3: a series in s² with factors
# 1 / (2k + 1), as many as float32 and float64 tell apart.
series = polynomial([[2.0 / (2 * k + 1) for k in range(terms)] for terms in (8, 17)])


@inlined
def activate(x):
    """Return log(1 + exp(x)), and the sigmoid, which is its slope."""
    e, _ = exp_and_expm1(-1.0 * absolute(x))
    s = e / (2.0 + e)
    part = 1.0 / (1.0 + e)
    value = maximum(x, filled(x, 0.0)) + s * series(s * s)
    return value, where_positive(x, part, e * part)
