// The identity, which is no activation.

#pragma once

#include "numbers.cuh"

namespace formulas::identity {

__device__ inline REAL value(REAL z) { return z; }

__device__ inline REAL slope_of_value(REAL) { return 1; }

__device__ inline REAL change(REAL, REAL d) { return d; }

}  // namespace formulas::identity
