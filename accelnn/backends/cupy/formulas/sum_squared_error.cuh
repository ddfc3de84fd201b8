// Half the sum of squared errors.

#pragma once

#include "numbers.cuh"

namespace formulas::sum_squared_error {

__device__ inline REAL value(REAL a, REAL t) { return REAL(0.5) * (a - t) * (a - t); }

__device__ inline REAL slope(REAL a, REAL t) { return a - t; }

__device__ inline REAL change(REAL a, REAL t, REAL d) { return d * (a - t) + REAL(0.5) * d * d; }

}  // namespace formulas::sum_squared_error
