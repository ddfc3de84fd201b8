// Tiled matrix products.
//
// A block computes a tile of EDGE x EDGE sums. Its threads form GROUPS, which divide the terms of the sums
// among themselves, and each thread of a group has 8 x 4 sums. If there are fewer tiles than blocks, the
// terms are divided among blocks, too: in parts, whose sums are joined later, in a fixed order.

#pragma once

#include "batches.cuh"

#ifdef CUDA_ON_CPU
constexpr int GROUPS = 4, GROUP_THREADS = 2, LANES = 2, DEPTH = 8;
#else
// Groups of doubles are fewer, because a double takes two registers.
constexpr int GROUPS = sizeof(REAL) == 4 ? 4 : 2, GROUP_THREADS = 128, LANES = 32;
// The terms that are in shared memory at once.
constexpr int DEPTH = 128 / sizeof(REAL);
#endif
constexpr int TILE_THREADS = GROUPS * GROUP_THREADS, LANES_ACROSS = LANES < 8 ? LANES : 8;
constexpr int EDGE = LANES < 32 ? 8 : 64, STRIDE = EDGE + 4;
// A thread fetches EACH elements of a factor, whose terms are STEP apart.
constexpr int STEP = TILE_THREADS / EDGE, EACH = DEPTH / STEP;
// Shared memory for two buffers of both factors, on a device.
constexpr int TILE_BYTES = 4 * 32 * 68 * 4;
static_assert(4 * DEPTH * STRIDE * sizeof(REAL) <= TILE_BYTES, "two buffers of both factors");
static_assert(EDGE * EDGE == GROUP_THREADS * 32, "a thread of a group has 8 x 4 sums");

struct alignas(16) Four {
    REAL at[4];
};

// A factor of a product: its element for row or column i and term k is at[i * across + k * along].
template <typename T>
struct Factor {
    const T* at;
    int across, along;
};

// Sums of left(m, k) right(n, k) over `terms` k, in parts of neighbouring terms.
template <typename Left>
struct Product {
    Factor<Left> left;
    Factor<REAL> right;
    int rows, columns, terms, parts;
    // The row of the left factor that is one everywhere, or -1.
    int ones;
    // Of bytes.
    REAL divisor;
    // Where the sums of the first part are stored, and how far those of the next ones are apart.
    REAL* to;
    long long size;
};

// The first row and column of the sums of a thread of a group, within a tile.
__device__ inline int m_of(int thread) {
    return thread / LANES / 2 * 32 + thread % LANES / LANES_ACROSS * 8;
}
__device__ inline int n_of(int thread) {
    return thread / LANES % 2 * 32 + thread % LANES_ACROSS * 4;
}

// The elements of a factor that a thread fetches: neighbouring threads have neighbours in memory.
template <typename T>
struct Fetcher {
    const T* next;
    int step, i, k;

    __device__ Fetcher(const Factor<T>& factor, int first, int begin) {
        const bool is_along = factor.along == 1;
        i = is_along ? threadIdx.x / STEP : threadIdx.x % EDGE;
        k = is_along ? threadIdx.x % STEP : threadIdx.x / EDGE;
        next = factor.at + (long long)(first + i) * factor.across
            + (long long)(begin + k) * factor.along;
        step = STEP * factor.along;
    }

    // Fetch elements of `left` terms, if the row or column is there, and go on.
    __device__ void fetch(T (&raw)[EACH], bool is_there, int left) {
#pragma unroll
        for (int n = 0; n < EACH; ++n) {
            raw[n] = is_there && k + n * STEP < left ? *next : (T)0;
            next += step;
        }
    }
};

// Compute a product. The blocks from `first_block` on begin, so that several products can be computed at
// the same time: afterwards it names the block after the last one.
template <typename Left>
__device__ inline void multiply(const Product<Left>& product, unsigned int& first_block) {
    // Two buffers of each factor: one is read while the other is written.
    REAL(*const lefts)[STRIDE] = (REAL(*)[STRIDE])block_memory();
    REAL(*const rights)[STRIDE] = lefts + 2 * DEPTH;
    Four* const shared_sums = (Four*)block_memory();
    const unsigned int across = (product.columns + EDGE - 1) / EDGE;
    const unsigned int tiles = (product.rows + EDGE - 1) / EDGE * across;
    const int each = (product.terms + product.parts - 1) / product.parts;
    const int thread = threadIdx.x, group = thread / GROUP_THREADS, own = thread % GROUP_THREADS;
    unsigned int item = blockIdx.x + (blockIdx.x < first_block ? gridDim.x : 0) - first_block;
    first_block = (first_block + tiles * product.parts) % gridDim.x;
    for (; item < tiles * product.parts; item += gridDim.x) {
        const unsigned int part = item / tiles, tile = item - part * tiles, down = tile / across;
        const int m0 = down * EDGE, n0 = (tile - down * across) * EDGE, begin = part * each;
        const int end = begin + each < product.terms ? begin + each : product.terms;
        REAL sum[8][4] = {};
        Left left[EACH];
        REAL right[EACH];
        Fetcher<Left> lefts_of(product.left, m0, begin);
        Fetcher<REAL> rights_of(product.right, n0, begin);
        const int m = m0 + lefts_of.i, n = n0 + rights_of.i;
        lefts_of.fetch(left, m < product.rows && m != product.ones, end - begin);
        rights_of.fetch(right, n < product.columns, end - begin);
        int buffer = 0;
        __syncthreads();
        for (int base = begin; base < end; base += DEPTH) {
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                lefts[buffer + lefts_of.k + e * STEP][lefts_of.i] =
                    m == product.ones ? REAL(1) : number(left[e], product.divisor);
                rights[buffer + rights_of.k + e * STEP][rights_of.i] = right[e];
            }
            __syncthreads();
            if (base + DEPTH < end) {
                lefts_of.fetch(left, m < product.rows && m != product.ones, end - base - DEPTH);
                rights_of.fetch(right, n < product.columns, end - base - DEPTH);
            }
            const int here = end - base < DEPTH ? end - base : DEPTH;
            const REAL* a = &lefts[buffer + group][m_of(own)];
            const REAL* b = &rights[buffer + group][n_of(own)];
            // Unrolled, it needs more registers than there are.
#pragma unroll 1
            for (int k = group; k < here; k += GROUPS) {
                const Four above = *(const Four*)a, below = *(const Four*)(a + 4);
                const Four beside = *(const Four*)b;
#pragma unroll
                for (int j = 0; j < 4; ++j) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        sum[i][j] += above.at[i] * beside.at[j];
                        sum[i + 4][j] += below.at[i] * beside.at[j];
                    }
                }
                a += GROUPS * STRIDE;
                b += GROUPS * STRIDE;
            }
            buffer ^= DEPTH;
        }
        // The sums of all groups are joined through shared memory: each finishes some rows of all threads.
        REAL* const to = product.to + part * product.size + n0 + n_of(own);
#pragma unroll
        for (int round = 0; round < 8; round += GROUPS) {
            __syncthreads();
#pragma unroll
            for (int r = 0; r < GROUPS; ++r) {
                Four row;
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    row.at[j] = sum[round + r][j];
                }
                shared_sums[(r * GROUPS + group) * GROUP_THREADS + own] = row;
            }
            __syncthreads();
            Four joined = shared_sums[group * GROUPS * GROUP_THREADS + own];
#pragma unroll
            for (int g = 1; g < GROUPS; ++g) {
                const Four more = shared_sums[(group * GROUPS + g) * GROUP_THREADS + own];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    joined.at[j] += more.at[j];
                }
            }
            const int row = m0 + m_of(own) + round + group;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (row < product.rows && n0 + n_of(own) + j < product.columns) {
                    to[(long long)row * product.columns + j] = joined.at[j];
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

// Parts of a sum that are loaded at once: on Blackwell, more would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int PARTS_AT_ONCE = 4;
#else
constexpr int PARTS_AT_ONCE = 8;
#endif

// The sum of the parts of an element, where each part has `size` elements.
__device__ inline REAL joined(const REAL* parts_of_sums, int parts, long long size, long long index) {
    REAL sum = parts_of_sums[index];
#pragma unroll PARTS_AT_ONCE
    for (int p = 1; p < parts; ++p) {
        sum += parts_of_sums[p * size + index];
    }
    return sum;
}
