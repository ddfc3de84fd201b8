// Binary cross entropy.

#pragma once

#include "formulas/softplus.cuh"

namespace formulas::binary_cross_entropy {

// (1 - t) log(1 + exp(a)) + t log(1 + exp(-a)). The larger logarithm is |a| + rest, the other is rest.
__device__ inline REAL value(REAL a, REAL t) {
    const REAL rest = log1p(exp(a > 0 ? -a : a));
    return rest + (a > 0 ? a * (1 - t) : -a * t);
}

__device__ inline REAL slope(REAL a, REAL t) { return sigmoid::value(a) - t; }

__device__ inline REAL change(REAL a, REAL t, REAL d) {
    return (1 - t) * softplus::change(a, d) + t * softplus::change(-a, -d);
}

// Each output is a label, predicted by the sign of a.
__device__ inline bool is_right(REAL a, REAL t) { return (a > 0) == (t > REAL(0.5)); }

}  // namespace formulas::binary_cross_entropy
