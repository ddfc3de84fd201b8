// Fused operations between the matrix products of a large batch, which cuBLAS computes.

#pragma once

#include "batches.cuh"

// Neighbouring elements that are loaded or stored at once.
template <typename T, int WIDTH>
struct alignas(WIDTH * sizeof(T) < 16 ? WIDTH * sizeof(T) : 16) Vector {
    T at[WIDTH];
};

// Copy the samples of a batch to consecutive rows, WIDTH neighbouring inputs at a time.
template <int WIDTH>
__device__ inline void gather_vectors(const Batch& batch, int inputs, REAL* rows) {
    typedef Vector<INPUT, WIDTH> From;
    typedef Vector<REAL, WIDTH> To;
    // Vectors of a thread in flight at once.
    constexpr int AT_ONCE = 4;
    const REAL divisor = batch.divisor;
    const unsigned int across = inputs / WIDTH, threads = gridDim.x * blockDim.x;
    // Vectors are counted with 32 bits.
    const int most = (1 << 30) / across;
    for (int first = 0; first < batch.samples; first += most) {
        const unsigned int left = batch.samples - first < most ? batch.samples - first : most;
        const unsigned int vectors = left * across;
        for (unsigned int base = blockIdx.x * blockDim.x + threadIdx.x; base < vectors;
             base += AT_ONCE * threads) {
            From found[AT_ONCE];
#pragma unroll
            for (int n = 0; n < AT_ONCE; ++n) {
                const unsigned int i = base + n * threads, s = i / across;
                if (i < vectors) {
                    const From* row = (const From*)(batch.x + batch.row(first + s) * inputs);
                    found[n] = row[i - s * across];
                }
            }
            To* to = (To*)(rows + (long long)first * inputs) + base;
#pragma unroll
            for (int n = 0; n < AT_ONCE; ++n) {
                To numbers;
#pragma unroll
                for (int j = 0; j < WIDTH; ++j) {
                    numbers.at[j] = number(found[n].at[j], divisor);
                }
                if (base + n * threads < vectors) {
                    *to = numbers;
                }
                to += threads;
            }
        }
    }
}

// Copy the samples of a batch to consecutive rows, in a buffer of its own.
__device__ inline void gather(const Batch& batch, int inputs, REAL* rows) {
    constexpr int WIDTH = 4;
    if (inputs % WIDTH == 0 && (unsigned long long)batch.x % sizeof(Vector<INPUT, WIDTH>) == 0) {
        gather_vectors<WIDTH>(batch, inputs, rows);
    } else {
        gather_vectors<1>(batch, inputs, rows);
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
