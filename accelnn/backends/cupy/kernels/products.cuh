// Fused operations between the matrix products of a large batch, which cuBLAS computes.

#pragma once

#include "batches.cuh"

// Neighbouring elements that are loaded or stored at once, or 16 bytes of them.
template <typename T, int WIDTH>
struct alignas(WIDTH * sizeof(T) < 16 ? WIDTH * sizeof(T) : 16) Vector {
    T at[WIDTH];
};

// Copy the samples of a batch to consecutive rows, WIDTH neighbouring inputs at a time.
template <int WIDTH>
__device__ inline void gather_vectors(const Batch& batch, int inputs, REAL* rows) {
    constexpr int STORED = WIDTH < 4 ? WIDTH : 4;
    typedef Vector<INPUT, WIDTH> From;
    typedef Vector<REAL, STORED> To;
    const REAL divisor = batch.divisor;
    const unsigned int across = inputs / WIDTH, threads = gridDim.x * blockDim.x;
    // Vectors are counted with 32 bits, which is shorter.
    const int most = (1 << 30) / across;
    for (int first = 0; first < batch.samples; first += most) {
        const unsigned int left = batch.samples - first < most ? batch.samples - first : most;
        REAL* const start = rows + (long long)first * inputs;
        for (unsigned int i = blockIdx.x * blockDim.x + threadIdx.x; i < left * across; i += threads) {
            const unsigned int s = i / across;
            const From* row = (const From*)(batch.x + batch.row(first + s) * inputs);
            const From found = row[i - s * across];
            To* to = (To*)(start + (long long)i * WIDTH);
#pragma unroll
            for (int k = 0; k < WIDTH; k += STORED) {
                To numbers;
#pragma unroll
                for (int j = 0; j < STORED; ++j) {
                    numbers.at[j] = number(found.at[k + j], divisor);
                }
                *to++ = numbers;
            }
        }
    }
}

// Copy the samples of a batch to consecutive rows, in a buffer of its own.
__device__ inline void gather(const Batch& batch, int inputs, REAL* rows) {
    constexpr int WIDTH = 16 / sizeof(INPUT);
    if (inputs % WIDTH == 0 && (unsigned long long)batch.x % 16 == 0) {
        gather_vectors<WIDTH>(batch, inputs, rows);
    } else {
        gather_vectors<1>(batch, inputs, rows);
    }
}

// Hidden values of a layer from its products, in place. What the slope needs besides is kept:
// pre-activations, or values without dropout.
__device__ inline void add_bias_and_activate(
    REAL* products, const REAL* b, REAL* kept, long long size, int width, int activation, int layer,
    const Dropout& dropout) {
    const bool keeps_z = keeps_pre_activation(activation);
    FOR_EACH(i, size) {
        const REAL z = b == nullptr ? products[i] : products[i] + b[i % width];
        const REAL a = activated(activation, z);
        if (keeps_z || dropout.drops()) {
            kept[i] = keeps_z ? z : a;
        }
        products[i] =
            dropout.drops() ? a * dropout.factor(layer, (int)(i / width), (int)(i % width)) : a;
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
        const long long row = batch.row(s);
        const REAL weight = batch.weight(row);
        const double loss = loss_of(
            loss_kind, own, outputs, batch.t, row, weight / batch.samples,
            errors + (long long)s * outputs, block_memory());
        store_loss(loss * weight, losses + s, flags);
    }
}
