// The sigmoid linear unit (SiLU), also known as swish.

#pragma once

#include "formulas/sigmoid.cuh"

namespace formulas::silu {

// Clipped, because -inf * 0 is NaN.
__device__ inline REAL value(REAL z) { return (z < -HUGE_NUMBER ? -HUGE_NUMBER : z) * sigmoid::value(z); }

__device__ inline REAL slope(REAL z) {
    const REAL e = exp(z < 0 ? z : -z), part = 1 / (1 + e);
    return (z < 0 ? e * part : part) + capped(z, HUGE_NUMBER) * (e * part * part);
}

__device__ inline REAL change(REAL z, REAL d) {
    // Of a move by more than half of z, the two terms may cancel, but not the values.
    if (2 * fabs(d) > fabs(z)) {
        return value(z + d) - value(z);
    }
    z = capped(z, HUGE_NUMBER);
    return d * sigmoid::value(z + d) + z * sigmoid::change(z, d);
}

}  // namespace formulas::silu
