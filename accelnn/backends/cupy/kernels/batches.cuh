// Samples and targets of a batch, and what a pass over it leaves behind.

#pragma once

#include "losses.cuh"

// Rows of a data set that is on the device.
struct Batch {
    const INPUT* x;
    // By which bytes are divided; numbers are as they are.
    REAL divisor;
    TARGET t;
    // Which rows; null stands for all of them in turn.
    const long long* order;
    int samples;

    __device__ long long row(int sample) const {
        return order == nullptr ? sample : order[sample];
    }
};

// What a batch leaves behind for the parameters. Units of all layers but the input lie one after
// the other, `units` of each sample.
struct Trace {
    int units;
    REAL* values;
    REAL* errors;
    double* losses;
};

__device__ inline REAL number(REAL x, REAL) { return x; }

// x / divisor, correctly rounded, without a division.
__device__ inline REAL number(unsigned char x, REAL divisor) {
    const REAL reciprocal = 1 / divisor, quotient = x * reciprocal;
    return fma(fma(-divisor, quotient, REAL(x)), reciprocal, quotient);
}

// An input of the sample in that row.
__device__ inline REAL input_at(const Batch& batch, long long row, int inputs, int k) {
    return number(batch.x[row * inputs + k], batch.divisor);
}
