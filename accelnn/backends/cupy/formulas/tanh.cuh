// The hyperbolic tangent.

#pragma once

#include "numbers.cuh"

namespace formulas::tanh {

__device__ inline REAL value(REAL z) { return ::tanh(z); }

__device__ inline REAL slope_of_value(REAL a) { return 1 - a * a; }

__device__ inline REAL change(REAL z, REAL d) {
    const REAL t = ::tanh(z), u = ::tanh(d);
    if (t * u < REAL(-0.5)) {
        return ::tanh(z + d) - t;
    }
    // 1 - t² = 4 e / (1 + e)² with e = exp(-2 |z|).
    const REAL e = exp(-2 * (z < 0 ? -z : z));
    return 4 * e / ((1 + e) * (1 + e)) * u / (1 + t * u);
}

}  // namespace formulas::tanh
