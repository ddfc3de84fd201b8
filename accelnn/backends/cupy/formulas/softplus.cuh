// The softplus function.

#pragma once

#include "formulas/sigmoid.cuh"

namespace formulas::softplus {

__device__ inline REAL value(REAL z) {
    return (z > 0 ? z : REAL(0)) + log1p(exp(z < 0 ? z : -z));
}

// The sigmoid of z is 1 - exp(-a) for a = log(1 + exp(z)).
__device__ inline REAL slope_of_value(REAL a) { return -expm1(-a); }

// log1p(s(z) expm1(d)), with s the sigmoid. It loses digits where the argument is close to -1, that is
// from z > 0 far down: there, and where expm1 would overflow, it is d + log1p(s(-z) expm1(-d)), the form
// mirrored, as far as z / 2, and further down the plain difference of values, of different sizes.
__device__ inline REAL change(REAL z, REAL d) {
    const REAL largest = sizeof(REAL) == 8 ? 350 : 40;
    const REAL part = sigmoid::value(z);
    // A sigmoid that underflows has few digits, and z is so far down that no values are alike.
    if (d <= (part < (sizeof(REAL) == 8 ? REAL(1e-290) : REAL(1e-22)) ? 0 : largest)) {
        const REAL argument = part * exp_change(d);
        if (argument >= REAL(-0.5)) {
            return log_change(argument);
        }
    }
    if (z > 0 && z + 2 * d > 0) {
        return d + log1p(sigmoid::value(-z) * exp_change(-d < largest ? -d : largest));
    }
    return value(z + d) - value(z);
}

}  // namespace formulas::softplus
