"""The error function of vectors."""

import math
from typing import Any

import numpy as np

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors._functions import (
    absolute,
    exp_and_expm1,
    polynomial,
    where_positive,
)
from accelnn.formulas.gelu import ERFC, MIDDLE

__all__ = ["error_function", "scaled_erfc"]

# In powers of t, as many as float32 and float64 tell apart. The coefficients shrink faster than
# those of Chebyshev's polynomials grow, so that nothing cancels.
scaled_erfc = polynomial(
    [np.polynomial.chebyshev.cheb2poly(ERFC[:terms]).tolist() for terms in (15, len(ERFC))]
)
# erf(x) / x in powers of x² <= 1: the terms left out are 1 / (11! 23) = 1.1e-9 and 1 / (18! 37) =
# 4e-18 at most, of a sum of 0.74 at least.
_series = polynomial(
    [
        [(-1) ** k * 2.0 / math.sqrt(math.pi) / (math.factorial(k) * (2 * k + 1)) for k in range(n)]
        for n in (11, 18)
    ]
)


@inlined
def error_function(x: Any) -> Any:
    """Return erf(x) to about two units in the last place; NaN stays NaN.

    Beyond 1 it is 1 - erfc(x), of which an error is at most 0.16 / 0.84 as large.
    """
    z = absolute(x)
    bell, _ = exp_and_expm1(-1.0 * (z * z))
    tail = bell * scaled_erfc(1.0 - (2.0 * MIDDLE) / (z + MIDDLE)) / (1.0 + 2.0 * z)
    far = where_positive(x, 1.0 - tail, tail - 1.0)
    return where_positive(1.0 - z, x * _series(x * x), far)
