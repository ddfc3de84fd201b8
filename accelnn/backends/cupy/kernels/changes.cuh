// Changes of activations and losses without cancellation: as exact for small moves as for large.

#pragma once

#include "passes.cuh"

// The change of a unit whose pre-activation z moves by d.
__device__ inline REAL activation_change(int activation, REAL z, REAL d) {
    switch (activation) {
        case SIGMOID: {
            // σ(z + d) - σ(z) = s (1 - s) e / (1 + s e) with e = expm1(d), mirrored so that e is
            // never large; 1 - s is σ(-z).
            const REAL near = activated(SIGMOID, d > 0 ? -z : z);
            const REAL far = activated(SIGMOID, d > 0 ? z : -z);
            const REAL e = expm1(d > 0 ? -d : d);
            const REAL change = near * far * e / (1 + near * e);
            return d > 0 ? -change : change;
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

// What one output's move d adds to the two sums of which a loss change is made. `now` is the
// output's probability under cross entropy, and the output itself under squared errors.
struct Sums {
    double first, second;
};

__device__ inline void add_output(int loss, REAL now, REAL target, REAL d, Sums* sums) {
    if (loss == CROSS_ENTROPY) {
        sums->first += now * expm1(d);
        sums->second += target * d;
    } else {
        sums->first += d * (now - target) + REAL(0.5) * d * d;
    }
}

// T log1p(Σ p expm1(d)) - Σ t d, or Σ d (a - t) + ½ d².
__device__ inline double loss_change(int loss, double total, Sums sums) {
    return loss == CROSS_ENTROPY ? total * log1p(sums.first) - sums.second : sums.first;
}
