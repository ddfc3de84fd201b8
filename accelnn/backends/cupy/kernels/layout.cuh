// The sizes of a net that blocks keep, where its numbers lie in shared memory, and a block's part of it.
//
// Constants in capitals that are not defined here are compiler options: accelnn.backends.cupy.resident.

#pragma once

#include "batches.cuh"

__device__ constexpr int padded(int n) { return (n + 3) / 4 * 4; }
__device__ constexpr int larger(int a, int b) { return a > b ? a : b; }
__device__ constexpr int parts(int n, int of) { return (n + of - 1) / of; }

// Inputs are loaded in words of VECTOR neighbours. A block has room for one more word than it needs, in
// which the first group of rows keeps the input of the bias.
constexpr int INPUT_WORDS = INPUTS / VECTOR, OWN_WORDS = INPUT_WORDS / ROW_GROUPS + 1;
constexpr int ROWS = VECTOR * OWN_WORDS;
// A thread's tile of hidden units, and a block's tiles; vector loads are aligned to 16 bytes.
constexpr int TILES = COLUMNS / TILE, TILE_ROOM = padded(TILE), ROW_ROOM = TILES * TILE_ROOM;
constexpr int QUADS = parts(SAMPLES, 4);
// Inputs of the next batch are prefetched to registers if four fit in one.
constexpr bool IS_READ_EARLY = VECTOR == 4;
// Padded so that neighbouring rows of samples are in different banks.
constexpr int SAMPLE_ROOM = 4 * (QUADS | 1);
// A thread of the update has two rows, PAIRS apart.
constexpr int PAIRS = parts(ROWS, 2);
constexpr int WORKERS = ROW_GROUPS * COLUMN_GROUPS;
constexpr int MOST_OWN = parts(SAMPLES, WORKERS);
// The inputs of the last layer, with that of the bias, and room for the weights of each.
constexpr int FEEDING = HIDDEN + HAS_BIAS, OUTPUT_ROOM = padded(OUTPUTS) + (padded(OUTPUTS) % 8 ? 0 : 4);
constexpr int LAST_SIZE = FEEDING * OUTPUTS, FIRST_SIZE = (INPUTS + HAS_BIAS) * HIDDEN;
constexpr int MOST_LAST = parts(LAST_SIZE, LAST_BLOCKS), MOST_UNITS = (MOST_LAST + OUTPUTS - 2) / OUTPUTS + 1;
// Of all samples, the errors of hidden units are sent first, those of a block's columns side by side,
// because it reads them together. Then those of outputs and the values of hidden units, by sample.
constexpr int ERRORS_SENT = COLUMN_GROUPS * COLUMNS * SAMPLES, SENT = OUTPUTS + HIDDEN;

// Offsets in shared memory, in numbers, for a block of the first layer and for one of the last.
constexpr int W_SIZE = ROWS * ROW_ROOM;
constexpr int X = 0, W = X + 2 * ROWS * SAMPLE_ROOM, SUMS = W + (1 + SLOTS) * W_SIZE;
constexpr int SUMS_SIZE =
    COLUMNS * larger(FORWARD_PARTS * 4 * QUADS, UPDATE_PARTS * padded(ROWS));
constexpr int D = SUMS + SUMS_SIZE, LAST = D + 4 * QUADS * ROW_ROOM;
constexpr int Z = LAST + FEEDING * OUTPUT_ROOM, A = Z + padded(HIDDEN);
constexpr int T = A + padded(FEEDING), ROW_NUMBERS = T + padded(MOST_OWN * OUTPUTS);
constexpr int FIRST_MEMORY = ROW_NUMBERS + 4 * QUADS;
constexpr int LAST_A = OUTPUTS * SAMPLE_ROOM, LAST_W = LAST_A + MOST_UNITS * SAMPLE_ROOM;
constexpr int LAST_MEMORY = LAST_W + (1 + SLOTS) * padded(MOST_LAST);
constexpr int MEMORY_BYTES = larger(FIRST_MEMORY, LAST_MEMORY) * (int)sizeof(REAL);
static_assert(MEMORY_BYTES == SHARED_BYTES, "the plan counts what a block needs");
static_assert(OUTPUTS <= 32 && THREADS % 32 == 0, "a warp has the outputs of a sample");

struct alignas(16) Quad {
    REAL x, y, z, w;
};

__device__ inline Quad quad(const REAL* from) { return *(const Quad*)from; }

// Load N numbers from an address aligned to 16 bytes.
template <int N>
__device__ inline void load(REAL (&to)[N], const REAL* from) {
#pragma unroll
    for (int q = 0; q < N / 4; ++q) {
        const Quad v = quad(from + 4 * q);
        to[4 * q] = v.x;
        to[4 * q + 1] = v.y;
        to[4 * q + 2] = v.z;
        to[4 * q + 3] = v.w;
    }
#pragma unroll
    for (int i = N / 4 * 4; i < N; ++i) {
        to[i] = from[i];
    }
}

// The arguments of a run that do not change between updates.
struct Run {
    const INPUT* x;
    REAL divisor;
    TARGET t;
    const long long* order;
    long long total;
    // By what the loss of a row is multiplied; null for nothing.
    const REAL* weights;
    int activation, loss;

    // The weight of a sample of a step.
    __device__ REAL weight(long long step, int sample) const {
        return WEIGHTED_OF(weights != nullptr) ? weights[order[step * SAMPLES + sample]] : REAL(1);
    }
    __device__ int count(long long step) const {
        const long long left = total - step * SAMPLES;
        return left < SAMPLES ? (left > 0 ? (int)left : 0) : SAMPLES;
    }
};

// The part of the first layer that a block owns.
struct Part {
    int column, first_word, words;
    bool has_bias;

    __device__ explicit Part(int block)
        : column(block % COLUMN_GROUPS * COLUMNS),
          first_word(INPUT_WORDS * (block / COLUMN_GROUPS) / ROW_GROUPS),
          words(INPUT_WORDS * (block / COLUMN_GROUPS + 1) / ROW_GROUPS - first_word),
          has_bias(HAS_BIAS && block / COLUMN_GROUPS == 0) {}

    // The index of the parameter at a row and column of the part, or -1 for padding.
    __device__ int parameter(int row, int column_of_part) const {
        const int word = row % OWN_WORDS, j = column + column_of_part;
        if (j < HIDDEN && word < words) {
            return ((first_word + word) * VECTOR + row / OWN_WORDS) * HIDDEN + j;
        }
        return j < HIDDEN && has_bias && row == OWN_WORDS - 1 ? INPUTS * HIDDEN + j : -1;
    }
};

// The offset of the weight at a row and column.
__device__ inline int weight_at(int row, int column) {
    return row * ROW_ROOM + column / TILE * TILE_ROOM + column % TILE;
}

#if VECTOR == 4
typedef unsigned int InputWord;
#else
typedef INPUT InputWord;
#endif

// Inputs of the next batch: fetched to registers during an update, then written to the buffer of the
// batch before the current one as x[row][sample]. A warp handles eight words of four samples.
struct Inputs {
    static constexpr int ACROSS = parts(OWN_WORDS, 8), TASKS = ACROSS * QUADS;
    static constexpr int EACH = parts(TASKS, THREADS / 32);
    InputWord word[EACH];

    __device__ static int task(int n) { return threadIdx.x / 32 + n * (THREADS / 32); }
    __device__ static int word_of(int task) { return task % ACROSS * 8 + threadIdx.x % 8; }
    __device__ static int sample_of(int task) {
        return task / ACROSS * 4 + threadIdx.x % 32 / 8;
    }

    // Negative row numbers stand for absent samples.
    __device__ void fetch(const Run& run, const int* row_numbers, const Part& part) {
        // All row numbers before the first input, so that their latencies overlap.
        int rows[EACH];
#pragma unroll
        for (int n = 0; n < EACH; ++n) {
            const bool has_input = task(n) < TASKS && word_of(task(n)) < part.words;
            rows[n] = has_input ? row_numbers[sample_of(task(n))] : -1;
        }
#pragma unroll
        for (int n = 0; n < EACH; ++n) {
            word[n] = 0;
            if (rows[n] >= 0) {
                const InputWord* from = (const InputWord*)(run.x + (long long)rows[n] * INPUTS);
                word[n] = from[part.first_word + word_of(task(n))];
            }
        }
    }

    __device__ void spread(REAL* x, const Part& part) const {
#pragma unroll
        for (int n = 0; n < EACH; ++n) {
            const int w = word_of(task(n)), s = sample_of(task(n));
            if (task(n) < TASKS && w < part.words) {
#if VECTOR == 4
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    x[(i * OWN_WORDS + w) * SAMPLE_ROOM + s] = (REAL)(word[n] >> 8 * i & 255u);
                }
#else
                x[w * SAMPLE_ROOM + s] = (REAL)word[n];
#endif
            }
        }
    }
};
