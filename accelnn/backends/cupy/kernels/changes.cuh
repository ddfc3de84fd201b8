// Changes of activations and losses without cancellation: as exact for small moves as for large.

#pragma once

#include "passes.cuh"

// exp(d) - 1 and log(1 + d), of which small arguments, the common ones, need a few terms only.
__device__ inline REAL exp_change(REAL d) {
    if (d > REAL(0.01) || !(d >= REAL(-0.01))) {
        return expm1(d);
    }
    REAL sum = 1;
#pragma unroll
    for (int n = 7; n > 1; --n) {
        sum = 1 + d * (REAL(1) / n) * sum;
    }
    return d * sum;
}

__device__ inline double log_change(double d) {
    if (d > 0.01 || !(d >= -0.01)) {
        return log1p(d);
    }
    double sum = 1.0 / 9;
#pragma unroll
    for (int n = 8; n > 0; --n) {
        sum = 1.0 / n - d * sum;
    }
    return d * sum;
}

// The change of a unit whose pre-activation z moves by d.
__device__ inline REAL activation_change(int activation, REAL z, REAL d) {
    switch (activation) {
        case SIGMOID: {
            // σ(z + d) - σ(z) = s (1 - s) e / (1 + s e) with e = expm1(d), mirrored so that e is
            // never large; 1 - s is σ(-z).
            const bool is_up = d > 0;
            const REAL p = exp(z < 0 ? z : -z), large = 1 / (1 + p), small = p * large;
            const REAL s = (z < 0) == is_up ? large : small;
            const REAL e = exp_change(is_up ? -d : d);
            const REAL change = large * small * e / (1 + s * e);
            return is_up ? -change : change;
        }
        case TANH: {
            const REAL t = tanh(z), u = tanh(d);
            if (t * u < REAL(-0.5)) {
                return tanh(z + d) - t;
            }
            // 1 - t² = 4 e / (1 + e)² with e = exp(-2 |z|).
            const REAL e = exp(-2 * (z < 0 ? -z : z));
            return 4 * e / ((1 + e) * (1 + e)) * u / (1 + t * u);
        }
        case RELU:
            return z > 0 && z + d > 0 ? d : activated(RELU, z + d) - activated(RELU, z);
        default:
            return d;
    }
}

// What one output's move d adds to the sums of which a loss change is made. `now` is the output's
// probability under cross entropy, and the output itself under squared errors.
__device__ inline Sums output_change(int loss, REAL now, REAL target, REAL d) {
    if (loss == CROSS_ENTROPY) {
        return {now * exp_change(d), target, target * d};
    }
    return {d * (now - target) + REAL(0.5) * d * d, 0, 0};
}

// T log1p(Σ p expm1(d)) - Σ t d, or Σ d (a - t) + ½ d².
__device__ inline double loss_change(int loss, const Sums& sums) {
    return loss == CROSS_ENTROPY ? sums.targets * log_change(sums.powers) - sums.along
                                 : sums.powers;
}
