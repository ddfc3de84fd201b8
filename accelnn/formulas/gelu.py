"""The exact Gaussian error linear unit (GELU)."""

import math
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._activation import HUGE, ActivationFormula, capped

__all__ = ["GELU"]

# Chebyshev coefficients of (1 + 2z) exp(z²) erfc(z) in t = (z - MIDDLE) / (z + MIDDLE), which maps
# all z >= 0 to [-1, 1), as in M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of
# (1 + 2x) exp(x²) erfc x in 0 ≤ x < ∞", Mathematics of Computation 36 (1981). These were computed
# with 50 digits; omitted coefficients are below 1e-18.
MIDDLE = 3.75
ERFC = (
    1.1775789345674017,
    -0.004590054580646478,
    -0.08424913336651792,
    0.05920993999819189,
    -0.026658668435305753,
    0.009074997670705265,
    -0.002413163540417608,
    0.0004907758365258086,
    -6.916973302501207e-05,
    4.13902798607301e-06,
    7.74038306619849e-07,
    -2.1886401049234397e-07,
    1.076499946567091e-08,
    4.521959811218287e-09,
    -7.754400208831351e-10,
    -6.318088340886684e-11,
    2.86879501093067e-11,
    1.9455868545777347e-13,
    -9.65469674843344e-13,
    3.25254814814874e-14,
    3.3478119482868056e-14,
    -1.864562880419313e-15,
    -1.2507950530688648e-15,
    7.418235256624044e-17,
    5.068148904796111e-17,
    -2.2370566594359995e-18,
    -2.187342944303018e-18,
)
# Squares of multiples of this are exact, also in float32.
GRID = 1.0 / 64.0
# The normal density underflows beyond this.
END = 64.0
# Φ(x + d) - Φ(x) is computed as a series about the midpoint m if |d| / 2 (1 + |m|) is at most this;
# and the number of its terms.
LARGEST_HALF, TERMS = 0.5, 10


@dataclass(frozen=True)
class GELU(ActivationFormula):
    """x Φ(x), with Φ the standard normal distribution function.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415 (2016).
    """

    name = "gelu"
    initializer = "he"

    def _value(self, ops: Any, x: Array) -> Array:
        xp = ops.xp
        return xp.maximum(x, -HUGE * xp.ones_like(x)) * normal_distribution(xp, x)

    def _slope(self, ops: Any, x: Array) -> Array:
        xp = ops.xp
        return normal_distribution(xp, x) + capped(xp, x) * normal_density(xp, x)

    def _change(self, ops: Any, x: Array, d: Array) -> Array:
        # Of a move by more than half of x, the two terms may cancel, but not the values.
        xp = ops.xp
        far = self._value(ops, x + d) - self._value(ops, x)
        x = capped(xp, x)
        near = d * normal_distribution(xp, x + d) + x * distribution_change(xp, x, d)
        return xp.where(2.0 * xp.abs(d) > xp.abs(x), far, near)


def normal_density(xp: Any, x: Array) -> Array:
    """Return exp(-x² / 2) / √(2π)."""
    return bell(xp, x) / math.sqrt(2.0 * math.pi)


def normal_distribution(xp: Any, x: Array) -> Array:
    """Return Φ(x) = erfc(-x / √2) / 2, accurate in both tails."""
    # Φ(-|x|).
    tail = 0.5 * bell(xp, x) * scaled_erfc(xp.abs(x) * math.sqrt(0.5))
    return xp.where(x > 0, 1.0 - tail, tail)


def scaled_erfc(z: Array) -> Array:
    """Return exp(z²) erfc(z) for z >= 0, by Clenshaw's recurrence."""
    # For infinite z, t is 1 and the result 0.
    t = 1.0 - 2.0 * MIDDLE / (z + MIDDLE)
    last = before = 0.0 * t
    for coefficient in reversed(ERFC[1:]):
        last, before = 2.0 * t * last - before + coefficient, last
    return (t * last - before + ERFC[0]) / (1.0 + 2.0 * z)


def bell(xp: Any, x: Array) -> Array:
    """Return exp(-x² / 2) without the loss of digits by rounding x²."""
    # Clipped, because infinity minus infinity would be NaN.
    size = xp.minimum(xp.abs(x), END * xp.ones_like(x))
    near = xp.round(size / GRID) * GRID
    return xp.exp(-0.5 * near * near) * xp.exp(-0.5 * (size - near) * (size + near))


def clipped(xp: Any, x: Array, most: float) -> Array:
    """Return x clipped to ±`most`."""
    most = most * xp.ones_like(x)
    return xp.minimum(xp.maximum(x, -most), most)


def distribution_change(xp: Any, x: Array, d: Array) -> Array:
    """Return Φ(x + d) - Φ(x).

    For small d it is the Taylor series about the midpoint m, φ(m) Σ He₂ₖ(m) 2 h²ᵏ⁺¹ / (2k + 1)!,
    with h = d / 2 and Hermite polynomials He. Otherwise it is the difference of two tails on the
    side of m, which do not nearly cancel.
    """
    # Clipped so that the series does not overflow where it is not used.
    middle, half = clipped(xp, x + 0.5 * d, END), clipped(xp, 0.5 * d, LARGEST_HALF)
    series, power = 0.0 * middle, half
    hermite, before = xp.ones_like(middle), 0.0 * middle
    for k in range(TERMS):
        series = series + 2.0 * hermite * power
        power = power * half * half / ((2 * k + 2) * (2 * k + 3))
        for order in (2 * k, 2 * k + 1):
            hermite, before = middle * hermite - order * before, hermite
    near = normal_density(xp, middle) * series
    sign = xp.where(middle > 0, -xp.ones_like(middle), xp.ones_like(middle))
    far = sign * (normal_distribution(xp, sign * (x + d)) - normal_distribution(xp, sign * x))
    is_short = xp.abs(0.5 * d) * (1.0 + xp.abs(middle)) <= LARGEST_HALF
    return xp.where(is_short, near, far)
