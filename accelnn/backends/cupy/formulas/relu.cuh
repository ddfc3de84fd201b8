// The rectified linear unit (ReLU).

#pragma once

#include "numbers.cuh"

namespace formulas::relu {

// NaN stays NaN.
__device__ inline REAL value(REAL z) { return z < 0 ? REAL(0) : z; }

__device__ inline REAL slope_of_value(REAL a) { return a > 0 ? REAL(1) : REAL(0); }

__device__ inline REAL change(REAL z, REAL d) {
    return z > 0 && z + d > 0 ? d : value(z + d) - value(z);
}

}  // namespace formulas::relu
