// What lies between the matrix products of a large batch, which a library multiplies.

#pragma once

#include "activations.cuh"
#include "batches.cuh"

// Hidden values of a layer from its products, in place.
__device__ inline void add_bias_and_activate(
    REAL* z, const REAL* b, long long size, int width, int activation) {
    FOR_EACH(i, size) {
        z[i] = activated(activation, b == nullptr ? z[i] : z[i] + b[i % width]);
    }
}

// Losses and errors of all samples from their scores, to which the bias is still to be added.
__device__ inline void score_errors(
    REAL* scores, const REAL* b, int loss_kind, const Batch& batch, int outputs, REAL* errors,
    double* losses, unsigned int* flags) {
    for (int s = blockIdx.x; s < batch.samples; s += gridDim.x) {
        REAL* own = scores + (long long)s * outputs;
        for (int j = threadIdx.x; b != nullptr && j < outputs; j += blockDim.x) {
            own[j] += b[j];
        }
        __syncthreads();
        const double loss = loss_of(
            loss_kind, own, outputs, batch.t, batch.row(s), REAL(1) / batch.samples,
            errors + (long long)s * outputs, block_memory());
        store_loss(loss, losses + s, flags);
    }
}

// Sums of columns. A block has 32 of them at a time, and its threads share out the rows.
__device__ inline void column_sums(const REAL* rows, int count, int width, REAL* sums) {
    REAL* shared = (REAL*)block_memory();
    const int columns = blockDim.x < 32 ? blockDim.x : 32, parts = blockDim.x / columns;
    const int part = threadIdx.x / columns, own = threadIdx.x % columns;
    for (int base = blockIdx.x * columns; base < width; base += gridDim.x * columns) {
        const int j = base + own;
        const auto row = [&](int s) { return rows[(long long)s * width + j]; };
        const auto one = [](int) { return REAL(1); };
        __syncthreads();
        shared[threadIdx.x] =
            part < parts && j < width ? dot(part, count, parts, false, row, one) : REAL(0);
        __syncthreads();
        if (part == 0 && j < width) {
            REAL sum = 0;
            for (int p = 0; p < parts; ++p) {
                sum += shared[p * columns + own];
            }
            sums[j] = sum;
        }
    }
}
