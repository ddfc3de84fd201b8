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

// Call store(part, m, n, sum) for all sums of a product. The blocks from `first_block` on begin, so that
// several products can be computed at the same time: afterwards it names the block after the last one.
template <typename Left, typename Store>
__device__ inline void each_product(int& first_block, const Product<Left>& product, Store store) {
    // Two buffers of each factor: one is read while the other is written.
    REAL(*const lefts)[STRIDE] = (REAL(*)[STRIDE])block_memory();
    REAL(*const rights)[STRIDE] = lefts + 2 * DEPTH;
    REAL* const shared_sums = (REAL*)block_memory();
    const int across = (product.columns + EDGE - 1) / EDGE;
    const int tiles = (product.rows + EDGE - 1) / EDGE * across;
    const int each = (product.terms + product.parts - 1) / product.parts;
    const int thread = threadIdx.x, group = thread / GROUP_THREADS, own = thread % GROUP_THREADS;
    const int first = (blockIdx.x + gridDim.x - first_block) % gridDim.x;
    first_block = (first_block + tiles * product.parts) % gridDim.x;
    for (int item = first; item < tiles * product.parts; item += gridDim.x) {
        const int part = item / tiles, m0 = item % tiles / across * EDGE;
        const int n0 = item % tiles % across * EDGE, begin = part * each;
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
        // The sums of all groups are joined through shared memory, some rows of each thread at a time.
        constexpr int ROW = 4 * GROUP_THREADS;
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
                *(Four*)(shared_sums + (r * GROUPS + group) * ROW + 4 * own) = row;
            }
            __syncthreads();
#pragma unroll 1
            for (int e = thread; e < GROUPS * ROW; e += TILE_THREADS) {
                const int r = e / ROW, place = e % ROW;
                REAL joined = 0;
#pragma unroll
                for (int g = 0; g < GROUPS; ++g) {
                    joined += shared_sums[(r * GROUPS + g) * ROW + place];
                }
                const int row = m0 + m_of(place / 4) + round + r;
                const int column = n0 + n_of(place / 4) + place % 4;
                if (row < product.rows && column < product.columns) {
                    store(part, row, column, joined);
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
#pragma unroll 8
    for (int p = 1; p < parts; ++p) {
        sum += parts_of_sums[p * size + index];
    }
    return sum;
}
