// The exponential linear unit.

#pragma once

#include "numbers.cuh"

namespace formulas::elu {

__device__ inline REAL value(REAL z) { return z > 0 ? z : ALPHA * expm1(z); }

__device__ inline REAL slope(REAL z) { return z > 0 ? REAL(1) : ALPHA * exp(z); }

// From 0 down, exp(z + d) - exp(z) = ±exp(the larger) (1 - exp(-|d|)). On both sides of 0, the values
// have different signs.
__device__ inline REAL change(REAL z, REAL d) {
    if ((z > 0) != (z + d > 0)) {
        return value(z + d) - value(z);
    }
    if (z > 0) {
        return d;
    }
    return d > 0 ? -ALPHA * exp(z + d) * exp_change(-d) : ALPHA * exp(z) * exp_change(d);
}

}  // namespace formulas::elu
