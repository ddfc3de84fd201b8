// The leaky rectifier.

#pragma once

#include "numbers.cuh"

namespace formulas::leaky_relu {

__device__ inline REAL value(REAL z) { return z > 0 ? z : NEGATIVE_SLOPE * z; }

// A value has the sign of its pre-activation; a NaN stays one.
static_assert(NEGATIVE_SLOPE > 0, "the slope is told from the value");
__device__ inline REAL slope_of_value(REAL a) {
    return a > 0 ? REAL(1) : a <= 0 ? NEGATIVE_SLOPE : a;
}

// On both sides of 0, the values have different signs.
__device__ inline REAL change(REAL z, REAL d) {
    if ((z > 0) == (z + d > 0)) {
        return z > 0 ? d : NEGATIVE_SLOPE * d;
    }
    return value(z + d) - value(z);
}

}  // namespace formulas::leaky_relu
