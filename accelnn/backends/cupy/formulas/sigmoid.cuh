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
    const REAL s = (z < 0) == is_up ? large : small;
    const REAL e = exp_change(is_up ? -d : d), denominator = 1 + s * e;
    // Where s e is close to -1, or little is left of the digits of s (1 - s), another exponential gives
    // (1 - s) / (1 + s e), which is 1 - σ(z + d).
    const bool is_lossy =
        small < (sizeof(REAL) == 8 ? REAL(1e-290) : REAL(1e-30)) || denominator < REAL(0.5);
    const REAL change = is_lossy ? s * value(is_up ? z + d : -(z + d)) * e : large * small * e / denominator;
    return is_up ? -change : change;
}

}  // namespace formulas::sigmoid
