// Fused operations between the matrix products of a large batch, which cuBLAS computes.

#pragma once

#include "batches.cuh"

// Copy the samples of a batch to consecutive rows.
__device__ inline void gather(const Batch& batch, int inputs, REAL* rows) {
    for (int s = blockIdx.x; s < batch.samples; s += gridDim.x) {
        const long long row = batch.row(s);
        for (int k = threadIdx.x; k < inputs; k += blockDim.x) {
            rows[(long long)s * inputs + k] = input_at(batch, row, inputs, k);
        }
    }
}

// Hidden values of a layer from its products, in place. Pre-activations are stored in `pre` if the slope
// needs them.
__device__ inline void add_bias_and_activate(
    REAL* products, const REAL* b, REAL* pre, long long size, int width, int activation) {
    FOR_EACH(i, size) {
        const REAL z = b == nullptr ? products[i] : products[i] + b[i % width];
        if (keeps_pre_activation(activation)) {
            pre[i] = z;
        }
        products[i] = activated(activation, z);
    }
}

// Losses and errors of all samples from their scores, to which the bias is added first.
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
