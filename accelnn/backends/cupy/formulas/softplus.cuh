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
// mirrored, if that argument is below 1, and else the plain difference of values, one of which is at
// most half the other.
__device__ inline REAL change(REAL z, REAL d) {
    const REAL largest = sizeof(REAL) == 8 ? 350 : 40;
    if (d <= largest) {
        const REAL argument = sigmoid::value(z) * exp_change(d);
        if (argument >= REAL(-0.5)) {
            return log_change(argument);
        }
    }
    const REAL rest = sigmoid::value(-z) * exp_change(-d);
    return rest < 1 && (d < 0 || z > 0) ? d + log1p(rest) : value(z + d) - value(z);
}

}  // namespace formulas::softplus
