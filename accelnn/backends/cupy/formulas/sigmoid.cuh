// The logistic function.

#pragma once

#include "numbers.cuh"

namespace formulas::sigmoid {

__device__ inline REAL value(REAL z) {
    // Neither branch overflows.
    const REAL e = exp(z < 0 ? z : -z);
    return z < 0 ? e / (1 + e) : 1 / (1 + e);
}

__device__ inline REAL slope_of_value(REAL a) { return a * (1 - a); }

__device__ inline REAL change(REAL z, REAL d) {
    // σ(z + d) - σ(z) = s (1 - s) e / (1 + s e) with e = expm1(d), mirrored so that e is never large;
    // 1 - s is σ(-z).
    const bool is_up = d > 0;
    const REAL p = exp(z < 0 ? z : -z), large = 1 / (1 + p), small = p * large;
    if (small < (sizeof(REAL) == 8 ? REAL(1e-290) : REAL(1e-30))) {
        // s (1 - s) has lost digits; the smaller of σ(z) and 1 - σ(z) is negligible.
        return z < 0 ? value(z + d) - small : small - value(-(z + d));
    }
    const REAL s = (z < 0) == is_up ? large : small;
    const REAL e = exp_change(is_up ? -d : d);
    const REAL change = large * small * e / (1 + s * e);
    return is_up ? -change : change;
}

}  // namespace formulas::sigmoid
