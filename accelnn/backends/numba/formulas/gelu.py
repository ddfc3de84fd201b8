"""The Gaussian error linear unit (GELU)."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import Bend
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    scaled_erfc,
    where_positive,
)
from accelnn.formulas._activation import HUGE
from accelnn.formulas.gelu import END, GRID, LARGEST_HALF, MIDDLE, TERMS

__all__ = ["activate", "bend", "change", "parts"]

# Adding and subtracting it rounds a small number to an integer.
ROUNDS = 1.5 * 2.0**52
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


@inlined
def clipped(x, most):
    """Return x clipped to ±`most`; NaN stays NaN."""
    x = maximum(x, filled(x, -most))
    return -1.0 * maximum(-1.0 * x, filled(x, -most))


@inlined
def exact_bell(x):
    """Return exp(-x² / 2) in float64 without the loss of digits by rounding x²."""
    size = clipped(absolute(x), END)
    near = ((size * (1.0 / GRID) + ROUNDS) - ROUNDS) * GRID
    coarse, _ = exp_and_expm1(-0.5 * (near * near))
    fine, _ = exp_and_expm1(-0.5 * ((size - near) * (size + near)))
    return coarse * fine


@inlined
def parts(x):
    """Return Φ(x) and Φ(-x)."""
    z = ROOT_HALF * absolute(x)
    t = 1.0 - (2.0 * MIDDLE) / (z + MIDDLE)
    tail = 0.5 * exact_bell(x) * scaled_erfc(t) / (1.0 + 2.0 * z)
    return where_positive(x, 1.0 - tail, tail), where_positive(x, tail, 1.0 - tail)


@inlined
def change(d, x, _parameter, normal, rest):
    """Return d Φ(x + d) + x (Φ(x + d) - Φ(x)), in the forms of the portable formula."""
    after, rest_after = parts(d + x)
    middle, half = clipped(0.5 * d + x, END), clipped(0.5 * d, LARGEST_HALF)
    square, power = half * half, 2.0 * half
    series, hermite, before = filled(d, 0.0), filled(d, 1.0), filled(d, 0.0)
    for k in range(TERMS):
        series = series + hermite * power
        power = power * square * (1.0 / ((2 * k + 2) * (2 * k + 3)))
        hermite, before = middle * hermite - (2.0 * k) * before, hermite
        hermite, before = middle * hermite - (2.0 * k + 1.0) * before, hermite
    near = DENSITY * exact_bell(middle) * series
    far = where_positive(middle, rest - rest_after, after - normal)
    length = absolute(0.5 * d) * (1.0 + absolute(middle))
    x = min(max(x, -HUGE), HUGE)
    near = d * after + x * where_positive(LARGEST_HALF - length, near, far)
    return where_positive(2.0 * absolute(d) - abs(x), (d + x) * after - x * normal, near)


def bend(_parameter: float) -> Bend:
    """See `accelnn.backends.numba.formulas`: the slope Φ(x) + x φ(x) falls as exp(-x²)."""
    return Bend(2.0, 2.0, 2.0, growth=1.0)
