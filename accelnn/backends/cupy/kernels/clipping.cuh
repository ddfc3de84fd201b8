// Clipping of a batch's gradient, all of which is kept until its norm is known.

#pragma once

#include "grid.cuh"
#include "formulas.cuh"

// The sum of squares of the numbers that a block's threads handle.
__device__ inline double sum_of_squares(const REAL* gradient, int size) {
    double sum = 0;
    FOR_EACH(i, size) {
        sum += (double)gradient[i] * gradient[i];
    }
    return over_block<Sum>(sum, blockDim.x, block_memory());
}

// By what a gradient is scaled down to the norm `most`, if it is longer, from the blocks' sums. All
// blocks add them in the same order. If the squared norm overflows, the factor is zero, as on other
// backends and in torch.
__device__ inline REAL clipping_factor(double most, const double* squares, int count) {
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        sum += squares[i];
    }
    const REAL square = (REAL)over_block<Sum>(sum, blockDim.x, block_memory());
    const double norm = sqrt((double)square) + CLIP_EPS;
    return norm > most ? REAL(most / norm) : REAL(1);
}
