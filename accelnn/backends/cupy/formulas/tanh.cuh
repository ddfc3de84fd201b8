// The hyperbolic tangent.

#pragma once

#include "formulas/sigmoid.cuh"

namespace formulas::tanh {

__device__ inline REAL value(REAL z) { return ::tanh(z); }

__device__ inline REAL slope_of_value(REAL a) { return 1 - a * a; }

// tanh(z) = 2 s(2z) - 1, s being the sigmoid.
__device__ inline REAL change(REAL z, REAL d) { return 2 * sigmoid::change(2 * z, 2 * d); }

}  // namespace formulas::tanh
