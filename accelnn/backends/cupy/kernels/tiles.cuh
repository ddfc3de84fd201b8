// Tiled matrix products.
//
// A block computes a tile of EDGE x EDGE sums. Its threads form GROUPS, which divide the terms of the sums
// among themselves, and each thread of a group has 8 x 4 sums. If there are fewer tiles than blocks, the
// terms are divided among blocks, too: in parts, whose sums are joined later, in a fixed order.

#pragma once

#include "batches.cuh"

#ifdef CUDA_ON_CPU
constexpr int GROUPS = 2, GROUP_THREADS = 2, LANES = 2, DEPTH = 8;
#else
// Groups of doubles are fewer, because a double takes two registers.
constexpr int GROUPS = sizeof(REAL) == 4 ? 4 : 2, GROUP_THREADS = 128, LANES = 32;
// The terms that are in shared memory at once.
constexpr int DEPTH = 128 / sizeof(REAL);
#endif
constexpr int TILE_THREADS = GROUPS * GROUP_THREADS, LANES_ACROSS = LANES < 8 ? LANES : 8;
constexpr int EDGE = LANES < 32 ? 8 : 64, STRIDE = EDGE + 4;
// Shared memory for two buffers of both factors, on a device.
constexpr int TILE_BYTES = 4 * 32 * 68 * 4;
static_assert(4 * DEPTH * STRIDE * sizeof(REAL) <= TILE_BYTES, "two buffers of both factors");
static_assert(EDGE * EDGE == GROUP_THREADS * 32, "a thread of a group has 8 x 4 sums");

struct alignas(16) Four {
    REAL at[4];
};

// A factor of a product whose elements are function(i, k), for row or column i and term k.
template <typename Function>
struct Numbers {
    Function function;

    __device__ REAL fetch(int i, int k) const { return function(i, k); }
    __device__ REAL number(REAL raw, int) const { return raw; }
};

template <typename Function>
__device__ inline Numbers<Function> numbers(Function function) {
    return {function};
}

// The samples of a batch as a factor, or if there are any, their values in some layer. Bytes are not
// divided: their sums are. They are fetched as the first bytes of a number, because a conversion would wait
// for them.
struct Rows {
    const Batch& batch;
    const REAL* values;
    int width;

    __device__ REAL fetch(int s, int k) const {
        REAL found = 0;
        if (values == nullptr) {
            memcpy(&found, batch.x + batch.row(s) * width + k, sizeof(INPUT));
        } else {
            found = values[(long long)s * width + k];
        }
        return found;
    }
    __device__ REAL number(REAL raw, int) const {
        INPUT input;
        memcpy(&input, &raw, sizeof(INPUT));
        return values == nullptr ? (REAL)input : raw;
    }
    // What the sums of products with this factor are too large by.
    __device__ REAL divisor() const { return values == nullptr ? batch.divisor : REAL(1); }
};

// The same with a row for each input, and with one more for the bias.
struct Columns {
    Rows rows;

    __device__ REAL fetch(int k, int s) const { return k < rows.width ? rows.fetch(s, k) : REAL(0); }
    __device__ REAL number(REAL raw, int k) const {
        return k < rows.width ? rows.number(raw, k) : rows.divisor();
    }
};

// The first row and column of the sums of a thread of a group, within a tile.
__device__ inline int m_of(int thread) {
    return thread / LANES / 2 * 32 + thread % LANES / LANES_ACROSS * 8;
}
__device__ inline int n_of(int thread) {
    return thread / LANES % 2 * 32 + thread % LANES_ACROSS * 4;
}

// Call store(part, m, n, sum) for the sums of left(m, k) right(n, k) over the terms k of each part. A
// factor that is contiguous in k is ALONG. The blocks from `first_block` on begin, so that several
// products can be computed at the same time: afterwards it names the block after the last one.
template <bool LEFT_ALONG, bool RIGHT_ALONG, typename Left, typename Right, typename Store>
__device__ inline void each_product(
    int& first_block, int rows, int columns, int terms, int parts, const Left& left,
    const Right& right, Store store) {
    constexpr int EACH = DEPTH * EDGE / TILE_THREADS;
    // Two buffers of each factor: one is read while the other is written.
    REAL(*const lefts)[STRIDE] = (REAL(*)[STRIDE])block_memory();
    REAL(*const rights)[STRIDE] = lefts + 2 * DEPTH;
    REAL* const shared_sums = (REAL*)block_memory();
    const int across = (columns + EDGE - 1) / EDGE, tiles = (rows + EDGE - 1) / EDGE * across;
    const int each = (terms + parts - 1) / parts;
    const int thread = threadIdx.x, group = thread / GROUP_THREADS, own = thread % GROUP_THREADS;
    const int own_m = m_of(own), own_n = n_of(own);
    const int first = (blockIdx.x + gridDim.x - first_block) % gridDim.x;
    first_block = (first_block + tiles * parts) % gridDim.x;
    // Eight neighbouring threads fetch terms of a factor that is contiguous in them.
    const auto place_of = [&](int i, bool is_along, int& at, int& k) {
        const int task = thread + i * TILE_THREADS;
        at = is_along ? task / 8 % EDGE : task % EDGE;
        k = is_along ? task % 8 + task / (8 * EDGE) * 8 : task / EDGE;
    };
    for (int item = first; item < tiles * parts; item += gridDim.x) {
        const int part = item / tiles, tile = item % tiles;
        const int m0 = tile / across * EDGE, n0 = tile % across * EDGE;
        const int begin = part * each, end = begin + each < terms ? begin + each : terms;
        REAL sum[8][4] = {};
        REAL raw_left[EACH], raw_right[EACH];
        const auto fetch = [&](int base) {
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                int at, k;
                place_of(i, LEFT_ALONG, at, k);
                const bool is_there = m0 + at < rows && base + k < end;
                raw_left[i] = is_there ? left.fetch(m0 + at, base + k) : REAL(0);
            }
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                int at, k;
                place_of(i, RIGHT_ALONG, at, k);
                const bool is_there = n0 + at < columns && base + k < end;
                raw_right[i] = is_there ? right.fetch(n0 + at, base + k) : REAL(0);
            }
        };
        fetch(begin);
        int buffer = 0;
        __syncthreads();
        for (int base = begin; base < end; base += DEPTH) {
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                int at, k;
                place_of(i, LEFT_ALONG, at, k);
                lefts[buffer + k][at] = left.number(raw_left[i], m0 + at);
                place_of(i, RIGHT_ALONG, at, k);
                rights[buffer + k][at] = right.number(raw_right[i], n0 + at);
            }
            __syncthreads();
            if (base + DEPTH < end) {
                fetch(base + DEPTH);
            }
            const auto add = [&](int k) {
                const Four above = *(const Four*)&lefts[buffer + k][own_m];
                const Four below = *(const Four*)&lefts[buffer + k][own_m + 4];
                const Four b = *(const Four*)&rights[buffer + k][own_n];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        sum[i][j] += above.at[i] * b.at[j];
                        sum[i + 4][j] += below.at[i] * b.at[j];
                    }
                }
            };
            const int here = end - base < DEPTH ? end - base : DEPTH;
            // Unrolled, it needs more registers than there are.
#pragma unroll 1
            for (int k = group; k < here; k += GROUPS) {
                add(k);
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
                const int m = m0 + m_of(place / 4) + round + r, n = n0 + n_of(place / 4) + place % 4;
                if (m < rows && n < columns) {
                    store(part, m, n, joined);
                }
            }
        }
    }
}

// Turns a sum into a unit's value, or with `values` into its error.
struct Finish {
    REAL divisor;
    const REAL* bias;
    const REAL* values;
    // Pre-activations, if the slope needs them; may be null. A unit's error overwrites its own after it
    // was read.
    REAL* pre;
    // The activation; negative for none.
    int told;

    __device__ REAL of(REAL sum, long long index, int unit) const {
        sum /= divisor;
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
#pragma unroll 4
    for (int p = 1; p < parts; ++p) {
        sum += parts_of_sums[p * size + index];
    }
    return sum;
}
