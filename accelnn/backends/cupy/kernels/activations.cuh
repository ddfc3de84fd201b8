// The function of hidden units, and its derivative, which each knows from its value alone.
//
// Which one is said at run time: it is asked once a unit, where weights are asked for many times.

#pragma once

enum Activation { SIGMOID, TANH, RELU, IDENTITY };

__device__ inline REAL activated(int activation, REAL z) {
    switch (activation) {
        case SIGMOID: {
            // Neither branch overflows.
            const REAL e = exp(z < 0 ? z : -z);
            return z < 0 ? e / (1 + e) : 1 / (1 + e);
        }
        case TANH:
            return tanh(z);
        case RELU:
            // A NaN stays one.
            return z < 0 ? REAL(0) : z;
        default:
            return z;
    }
}

__device__ inline REAL slope(int activation, REAL value) {
    switch (activation) {
        case SIGMOID:
            return value * (1 - value);
        case TANH:
            return 1 - value * value;
        case RELU:
            return value > 0 ? REAL(1) : REAL(0);
        default:
            return REAL(1);
    }
}
