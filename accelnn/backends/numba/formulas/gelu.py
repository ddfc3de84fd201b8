"""The Gaussian error linear unit (GELU)."""

import math

import numpy as np

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    polynomial,
    where_positive,
)
from accelnn.formulas._activation import HUGE
from accelnn.formulas.gelu import ERFC, MIDDLE

__all__ = ["activate"]

# In powers of t, as many as float32 and float64 resolve. The Chebyshev coefficients of erfc decay
# faster than the coefficients of the Chebyshev polynomials grow, so the conversion is stable.
scaled_erfc = polynomial(
    [np.polynomial.chebyshev.cheb2poly(ERFC[:terms]).tolist() for terms in (15, len(ERFC))]
)
ROOT_HALF, DENSITY = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)


@inlined
def activate(x):
    """Return x Φ(x), with Φ the standard normal distribution function, and its slope."""
    z = ROOT_HALF * absolute(x)
    t = 1.0 - (2.0 * MIDDLE) / (z + MIDDLE)
    bell, _ = exp_and_expm1(-0.5 * (x * x))
    tail = 0.5 * bell * scaled_erfc(t) / (1.0 + 2.0 * z)
    normal = where_positive(x, 1.0 - tail, tail)
    x = maximum(x, filled(x, -HUGE))
    return x * normal, normal + x * (DENSITY * bell)
