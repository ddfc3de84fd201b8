// The Huber loss of one output.

#pragma once

#include "numbers.cuh"

namespace formulas::huber {

__device__ inline REAL value(REAL a, REAL t) {
    const REAL r = a - t, cut = capped(r, THRESHOLD);
    return cut * (r - REAL(0.5) * cut);
}

__device__ inline REAL slope(REAL a, REAL t) { return capped(a - t, THRESHOLD); }

// With r' = r + d, and c' = r' cut off as c is, it is c d + (c' - c) (r' - ½ (c + c')), where c' - c
// is d as far as it is not cut off.
__device__ inline REAL change(REAL a, REAL t, REAL d) {
    const REAL r = a - t, cut = capped(r, THRESHOLD), beyond = r - cut;
    const REAL up = THRESHOLD - cut, down = -THRESHOLD - cut, moved = d + beyond;
    const REAL step = moved > up ? up : moved < down ? down : moved;
    return cut * d + step * (beyond + d - REAL(0.5) * step);
}

}  // namespace formulas::huber
