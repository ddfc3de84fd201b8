// The exact Gaussian error linear unit (GELU).

#pragma once

#include "numbers.cuh"

namespace formulas::gelu {

// exp(-x² / 2) / √(2π), corrected for the rounding of x²; it underflows beyond 64.
__device__ inline REAL density(REAL x) {
    x = capped(x, REAL(64));
    const REAL square = x * x, lost = fma(x, x, -square);
    const REAL bell = exp(REAL(-0.5) * square) * (1 - REAL(0.5) * lost);
    return REAL(0.3989422804014327) * bell;
}

// Clipped, because -inf * 0 is NaN.
__device__ inline REAL value(REAL z) { return (z < -HUGE_NUMBER ? -HUGE_NUMBER : z) * normcdf(z); }

__device__ inline REAL slope(REAL z) { return normcdf(z) + capped(z, HUGE_NUMBER) * density(z); }

// Φ(z + d) - Φ(z). For small d it is the Taylor series about the midpoint m, with h = d / 2 and Hermite
// polynomials He: φ(m) Σ He₂ₖ(m) 2 h²ᵏ⁺¹ / (2k + 1)!. Otherwise it is the difference of two tails on the
// side of m, which do not nearly cancel.
__device__ inline REAL distribution_change(REAL z, REAL d) {
    // Clipped so that no power overflows where the density is 0.
    const REAL half = REAL(0.5) * d, middle = capped(z + half, REAL(64));
    if (!(fabs(half) * (1 + fabs(middle)) <= REAL(0.5))) {
        const REAL sign = middle > 0 ? -1 : 1;
        return sign * (normcdf(sign * (z + d)) - normcdf(sign * z));
    }
    REAL series = 0, power = 2 * half, hermite = 1, before = 0;
#pragma unroll
    for (int k = 0; k < 10; ++k) {
        series += hermite * power;
        power *= half * half * (REAL(1) / ((2 * k + 2) * (2 * k + 3)));
#pragma unroll
        for (int order = 2 * k; order < 2 * k + 2; ++order) {
            const REAL next = middle * hermite - order * before;
            before = hermite;
            hermite = next;
        }
    }
    return density(middle) * series;
}

__device__ inline REAL change(REAL z, REAL d) {
    // Of a move by more than half of z, the two terms may cancel, but not the values.
    if (2 * fabs(d) > fabs(z)) {
        return value(z + d) - value(z);
    }
    z = capped(z, HUGE_NUMBER);
    return d * normcdf(z + d) + z * distribution_change(z, d);
}

}  // namespace formulas::gelu
