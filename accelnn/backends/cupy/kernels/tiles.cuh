// Tiled matrix products, for updates of several kernels that are captured as a graph.
//
// A block computes a tile of EDGE x EDGE sums, and a thread 4 x 4 of them. If there are fewer tiles than
// blocks, sums are split into parts, which the next kernel adds in a fixed order.

#pragma once

#include "batches.cuh"

// A block has SIDE x SIDE threads.
#ifdef CUDA_ON_CPU
constexpr int SIDE = 2;
#else
constexpr int SIDE = 16;
#endif
constexpr int EDGE = 4 * SIDE, DEPTH = 2 * SIDE, STRIDE = EDGE + 4;
// Resident blocks per multiprocessor: a double takes two registers.
constexpr int BLOCKS_EACH = sizeof(REAL) == 4 ? 2 : 1;

struct alignas(16) Four {
    REAL at[4];
};

// The position of a run: the updates before this graph, and the number of samples of the order. Captured
// kernels also take their offset in the graph.
struct Clock {
    long long done, total;
};

// An update: its number in this call, the start of its samples, and their number.
struct Step {
    long long number, start;
    int samples;

    __device__ Step(const Clock* clock, int offset, int samples_each) {
        number = clock->done + offset;
        start = number * samples_each;
        const long long left = clock->total - start;
        samples = left < samples_each ? (left > 0 ? (int)left : 0) : samples_each;
    }

    // The batch of this update.
    __device__ Batch of(Batch all) const {
        if (all.order != nullptr) {
            all.order += start;
        }
        all.samples = samples;
        return all;
    }
};

// Call store(part, m, n, sum) for the sums of left(m, k) right(k, n) over the terms k of each part. A
// factor that is contiguous in k is ALONG.
template <bool LEFT_ALONG, bool RIGHT_ALONG, typename Left, typename Right, typename Store>
__device__ inline void each_product(
    int rows, int columns, int terms, int parts, Left left, Right right, Store store) {
    constexpr int THREADS_OF_TILE = SIDE * SIDE, EACH = DEPTH * EDGE / THREADS_OF_TILE;
    REAL(*const lefts)[STRIDE] = (REAL(*)[STRIDE])block_memory();
    REAL(*const rights)[STRIDE] = lefts + DEPTH;
    const int across = (columns + EDGE - 1) / EDGE, tiles = (rows + EDGE - 1) / EDGE * across;
    const int each = (terms + parts - 1) / parts, thread = threadIdx.x;
    const int own_m = thread / SIDE * 4, own_n = thread % SIDE * 4;
    for (int item = blockIdx.x; item < tiles * parts; item += gridDim.x) {
        const int part = item / tiles, tile = item % tiles;
        const int m0 = tile / across * EDGE, n0 = tile % across * EDGE;
        const int end = (part + 1) * each < terms ? (part + 1) * each : terms;
        REAL sum[4][4] = {};
        for (int base = part * each; base < end; base += DEPTH) {
            __syncthreads();
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int at = thread + i * THREADS_OF_TILE;
                const int m = LEFT_ALONG ? at / DEPTH : at % EDGE;
                const int k = LEFT_ALONG ? at % DEPTH : at / EDGE;
                lefts[k][m] =
                    m0 + m < rows && base + k < end ? left(m0 + m, base + k) : REAL(0);
            }
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int at = thread + i * THREADS_OF_TILE;
                const int n = RIGHT_ALONG ? at / DEPTH : at % EDGE;
                const int k = RIGHT_ALONG ? at % DEPTH : at / EDGE;
                rights[k][n] =
                    n0 + n < columns && base + k < end ? right(base + k, n0 + n) : REAL(0);
            }
            __syncthreads();
#pragma unroll 8
            for (int k = 0; k < DEPTH; ++k) {
                const Four a = *(const Four*)&lefts[k][own_m], b = *(const Four*)&rights[k][own_n];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        sum[i][j] += a.at[i] * b.at[j];
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (m0 + own_m + i < rows && n0 + own_n + j < columns) {
                    store(part, m0 + own_m + i, n0 + own_n + j, sum[i][j]);
                }
            }
        }
    }
}

// Turns a sum into a unit's value, or with `values` into its error.
struct Finish {
    const REAL* bias;
    const REAL* values;
    // Pre-activations, if the slope needs them; may be null. A unit's error overwrites its own after it
    // was read.
    REAL* pre;
    // The activation; negative for none.
    int told;

    __device__ REAL of(REAL sum, long long index, int unit) const {
        const int activation = ACTIVATION_OF(told);
        const bool keeps = keeps_pre_activation(activation);
        if (values != nullptr) {
            return sum * slope(activation, keeps ? pre[index] : REAL(0), values[index]);
        }
        const REAL z = bias == nullptr ? sum : sum + bias[unit];
        if (told < 0) {
            return z;
        }
        if (keeps && pre != nullptr) {
            pre[index] = z;
        }
        return activated(activation, z);
    }
};

// The sum of the parts of an element, where each part has `size` elements.
__device__ inline REAL joined(const REAL* parts_of_sums, int parts, long long size, long long index) {
    REAL sum = parts_of_sums[index];
    for (int p = 1; p < parts; ++p) {
        sum += parts_of_sums[p * size + index];
    }
    return sum;
}
