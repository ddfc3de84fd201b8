// Samples and targets of a batch, and the results of a pass over it.

#pragma once

#include "dropout.cuh"
#include "losses.cuh"

// A batch of a data set on the device.
struct Batch {
    const INPUT* x;
    // The divisor of bytes; floating-point inputs are not divided.
    REAL divisor;
    TARGET t;
    // Row numbers; null for all rows in turn.
    const long long* order;
    int samples;
    // By what the loss of a row is multiplied; null for nothing.
    const REAL* weights;
    Dropout dropout = {};

    __device__ long long row(int sample) const {
        return order == nullptr ? sample : order[sample];
    }
    __device__ bool is_weighted() const { return WEIGHTED_OF(weights != nullptr); }
    __device__ REAL weight(long long row) const { return is_weighted() ? weights[row] : REAL(1); }
};

// The results of a pass over a batch. Each sample has `units` values and errors, those of all layers but
// the input, concatenated.
struct Trace {
    int units;
    REAL* values;
    REAL* errors;
    double* losses;
};

__device__ inline REAL number(REAL x, REAL) { return x; }

// x / divisor, correctly rounded, without a division instruction.
__device__ inline REAL number(unsigned char x, REAL divisor) {
    const REAL reciprocal = 1 / divisor, quotient = x * reciprocal;
    return fma(fma(-divisor, quotient, REAL(x)), reciprocal, quotient);
}

// Input k of the sample in a row.
__device__ inline REAL input_at(const Batch& batch, long long row, int inputs, int k) {
    return number(batch.x[row * inputs + k], batch.divisor);
}
