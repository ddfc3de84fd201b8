"""The Gaussian error linear unit (GELU)."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    scaled_erfc,
    where_positive,
)
from accelnn.formulas._activation import HUGE
from accelnn.formulas.gelu import MIDDLE

__all__ = ["activate"]

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
