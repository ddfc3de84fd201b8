// All updates of a run in one launch, whose blocks keep a net with one hidden layer in shared memory.
//
// ROW_GROUPS x COLUMN_GROUPS blocks own the first layer: each has the weights of some inputs and some
// hidden units, in shared memory for the whole launch. LAST_BLOCKS blocks own the parameters of the last
// layer. Every sample of a batch is owned by one of the first layer's blocks. An update has three stages:
//
// 1. Each block sums over its own inputs, for all samples and its own units, and sends to the owners.
// 2. The owner of a sample computes its scores, loss and errors, and sends the errors to all blocks.
// 3. Each block updates its own weights; those of the last layer are sent to all owners.
//
// A block waits only for the numbers that it needs; see exchange.cuh. Before a block sends a number
// again, it has received what all readers of that number send after reading it, so nothing is overwritten
// too early. All blocks must be resident at once, as a cooperative launch guarantees.
//
// Constants in capitals that are not defined here are compiler options: accelnn.backends.cupy.resident.

#include "batches.cuh"
#include "exchange.cuh"
#include "optimizers.cuh"

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
    int activation, loss;

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

// Add the terms of N rows to a tile's sums.
template <int N>
__device__ inline void add_rows(const REAL* x, const REAL* w, REAL (&sum)[TILE][4]) {
#pragma unroll (N < 12 ? N : 4)
    for (int k = 0; k < N; ++k) {
        const Quad v = quad(x + k * SAMPLE_ROOM);
        REAL weight[TILE];
        load(weight, w + k * ROW_ROOM);
#pragma unroll
        for (int c = 0; c < TILE; ++c) {
            sum[c][0] += v.x * weight[c];
            sum[c][1] += v.y * weight[c];
            sum[c][2] += v.z * weight[c];
            sum[c][3] += v.w * weight[c];
        }
    }
}

// Sums of x w over the block's rows, in FORWARD_PARTS parts: sums[part][column][sample].
__device__ inline void forward(const REAL* x, const REAL* w, REAL* sums) {
    constexpr int EACH = parts(ROWS, FORWARD_PARTS);
    for (int item = threadIdx.x; item < QUADS * TILES * FORWARD_PARTS; item += THREADS) {
        const int q = item % QUADS, tile = item / QUADS % TILES, part = item / (QUADS * TILES);
        // The last part may have fewer rows.
        constexpr int REST = ROWS - (FORWARD_PARTS - 1) * EACH;
        REAL sum[TILE][4] = {};
        const REAL* of_x = x + part * EACH * SAMPLE_ROOM + 4 * q;
        const REAL* of_w = w + part * EACH * ROW_ROOM + tile * TILE_ROOM;
        if (REST == EACH || part < FORWARD_PARTS - 1) {
            add_rows<EACH>(of_x, of_w, sum);
        } else {
            add_rows<REST>(of_x, of_w, sum);
        }
#pragma unroll
        for (int c = 0; c < TILE; ++c) {
            const Quad v = {sum[c][0], sum[c][1], sum[c][2], sum[c][3]};
            *(Quad*)(sums + ((part * COLUMNS + tile * TILE + c) * QUADS + q) * 4) = v;
        }
    }
}

// Sums of x d over samples, in UPDATE_PARTS parts: sums[part][column][row].
__device__ inline void gradients(const REAL* x, const REAL* d, REAL* sums) {
    constexpr int EACH = parts(QUADS, UPDATE_PARTS);
    for (int item = threadIdx.x; item < PAIRS * TILES * UPDATE_PARTS; item += THREADS) {
        const int own = item % PAIRS, tile = item / PAIRS % TILES, part = item / (PAIRS * TILES);
        const int end = (part + 1) * EACH < QUADS ? (part + 1) * EACH : QUADS;
        const int rows[2] = {own, own + PAIRS < ROWS ? own + PAIRS : own};
        REAL sum[2][TILE] = {};
#pragma unroll 2
        for (int q = part * EACH; q < end; ++q) {
            REAL v[2][4];
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                load(v[r], x + rows[r] * SAMPLE_ROOM + 4 * q);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                REAL error[TILE];
                load(error, d + (4 * q + i) * ROW_ROOM + tile * TILE_ROOM);
#pragma unroll
                for (int r = 0; r < 2; ++r) {
#pragma unroll
                    for (int c = 0; c < TILE; ++c) {
                        sum[r][c] += v[r][i] * error[c];
                    }
                }
            }
        }
#pragma unroll
        for (int c = 0; c < TILE; ++c) {
            REAL* to = sums + (part * COLUMNS + tile * TILE + c) * padded(ROWS);
            to[rows[0]] = sum[0][c];
            if (rows[1] != rows[0]) {
                to[rows[1]] = sum[1][c];
            }
        }
    }
}

__device__ inline REAL of_lane(REAL value, int lane) {
    return __shfl_sync(0xffffffffu, value, lane);
}

// Loss and errors of a sample, computed by one warp from its hidden values `a`, and from pre-activations
// `z` if the slope needs them. Sends the errors, times `scale`. Each lane has one output and a part of
// its sum.
__device__ inline void finish_sample(
    const REAL* a, const REAL* z, const REAL* w, const REAL* t, const Run& run, REAL scale,
    int s, Word* sent, Tag tag, double* place, unsigned int* flags) {
    constexpr int PARTS = 32 / OUTPUTS, TERMS = parts(FEEDING, PARTS);
    const int lane = threadIdx.x, o = lane % OUTPUTS, part = lane / OUTPUTS;
    REAL even = 0, odd = 0;
    if (part < PARTS) {
#pragma unroll (TERMS < 32 ? TERMS : 16)
        for (int i = 0; i < TERMS; ++i) {
            const int n = part + i * PARTS;
            const REAL term = n < FEEDING ? a[n] * w[n * OUTPUT_ROOM + o] : REAL(0);
            (i % 2 == 0 ? even : odd) += term;
        }
    }
    even += odd;
    REAL score = 0;
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
        score += of_lane(even, o + p * OUTPUTS);
    }
    REAL error[OUTPUTS], own_error, loss = 0;
    if (run.loss == CROSS_ENTROPY) {
        // All scores before the first is used, so that their latencies overlap.
        REAL scores[OUTPUTS], most[OUTPUTS], powers = 0, targets = 0, along = 0;
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            scores[i] = most[i] = of_lane(score, i);
        }
        // If one is NaN, the sum of powers is NaN whatever is the largest.
#pragma unroll
        for (int apart = 1; apart < OUTPUTS; apart *= 2) {
#pragma unroll
            for (int i = 0; i + apart < OUTPUTS; i += 2 * apart) {
                most[i] = most[i] > most[i + apart] ? most[i] : most[i + apart];
            }
        }
        // Relative to the largest so that large numbers do not cancel.
        const REAL power = exp(score - most[0]);
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            error[i] = of_lane(power, i);
        }
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            powers += error[i];
            targets += t[i];
            along += t[i] == 0 ? REAL(0) : t[i] * (scores[i] - most[0]);
        }
        loss = targets * log(powers) - along;
        own_error = (targets * (power / powers) - t[o]) * scale;
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            error[i] = of_lane(own_error, i);
        }
    } else {
        const REAL own_loss = loss_value(run.loss, score, t[o]);
        own_error = loss_slope(run.loss, score, t[o]) * scale;
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            error[i] = of_lane(own_error, i);
            loss += of_lane(own_loss, i);
        }
    }
    if (!isfinite(loss)) {
        tag = tag.stopped();
    }
    // More than one at once would take too many registers in float64.
    constexpr int UNITS = parts(HIDDEN, 32);
    constexpr int AT_ONCE = WORDS_EACH == 1 && UNITS < 4 ? UNITS : 1;
    for (int first = 0; first < UNITS; first += AT_ONCE) {
        REAL sums[AT_ONCE];
        // Lanes without a unit do the last one's sum for nothing, rather than branch.
#pragma unroll
        for (int n = 0; n < AT_ONCE; ++n) {
            const int h = lane + (first + n) * 32, unit = h < HIDDEN ? h : HIDDEN - 1;
            REAL weights[OUTPUTS];
            load(weights, w + unit * OUTPUT_ROOM);
            sums[n] = 0;
#pragma unroll
            for (int i = 0; i < OUTPUTS; ++i) {
                sums[n] += weights[i] * error[i];
            }
            const REAL pre = keeps_pre_activation(run.activation) ? z[unit] : REAL(0);
            sums[n] *= slope(run.activation, pre, a[unit]);
        }
#pragma unroll
        for (int n = 0; n < AT_ONCE; ++n) {
            const int h = lane + (first + n) * 32;
            if (h < HIDDEN) {
                const int column = h % COLUMNS;
                send(sent, (h - column) * SAMPLES + s * COLUMNS + column, sums[n], tag);
            }
        }
    }
    if (lane < OUTPUTS) {
        send(sent, ERRORS_SENT + s * SENT + lane, own_error, tag);
    }
    store_loss(loss, place, flags);
}

// A block of the first layer, which also owns samples.
__device__ inline void work(
    const State& state, const Rule& rule, const Run& run, double* losses, unsigned int first_tag,
    Word* sums_sent, Word* samples_sent, Word* weights_sent) {
    REAL* shared = (REAL*)block_memory();
    REAL *x = shared + X, *w = shared + W, *sums = shared + SUMS, *d = shared + D;
    REAL *last = shared + LAST, *z = shared + Z, *a = shared + A, *t = shared + T;
    int* row_numbers = (int*)(shared + ROW_NUMBERS);
    const int block = blockIdx.x, thread = threadIdx.x;
    const Part part(block);
    const REAL reciprocal = 1 / run.divisor;
    const State own = {w, SLOTS > 0 ? w + W_SIZE : w, SLOTS > 1 ? w + 2 * W_SIZE : w, state.flags};
    REAL* const kept[] = {state.params, state.first_slot, state.second_slot};
    // Sample `s` of a batch is owned by block s modulo WORKERS.
    const auto row_of = [&](long long step, int s) {
        return s < run.count(step) ? (int)run.order[step * SAMPLES + s] : -1;
    };
    const auto target_of = [&](int i) {
        const int s = block + i / OUTPUTS * WORKERS, row = s < SAMPLES ? row_numbers[s] : -1;
        return row < 0 ? REAL(0) : run.t.at(row, OUTPUTS, i % OUTPUTS);
    };

    for (int i = thread; i < (1 + SLOTS) * W_SIZE; i += THREADS) {
        w[i] = 0;
    }
    for (int i = thread; i < 4 * QUADS * ROW_ROOM; i += THREADS) {
        d[i] = 0;
    }
    for (int i = thread; i < 2 * ROWS * SAMPLE_ROOM; i += THREADS) {
        const int row = i / SAMPLE_ROOM % ROWS;
        x[i] = part.has_bias && row == OWN_WORDS - 1 ? run.divisor : REAL(0);
    }
    for (int i = thread; i < LAST_SIZE; i += THREADS) {
        last[i / OUTPUTS * OUTPUT_ROOM + i % OUTPUTS] = state.params[FIRST_SIZE + i];
    }
    for (int i = thread; i < FEEDING; i += THREADS) {
        a[i] = 1;
    }
    for (int s = thread; s < 4 * QUADS; s += THREADS) {
        row_numbers[s] = row_of(0, s);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k <= SLOTS; ++k) {
        for (int i = thread; i < ROWS * COLUMNS; i += THREADS) {
            const int row = i / COLUMNS, column = i % COLUMNS, p = part.parameter(row, column);
            if (p >= 0) {
                w[k * W_SIZE + weight_at(row, column)] = kept[k][p];
            }
        }
    }
    for (int i = thread; i < MOST_OWN * OUTPUTS; i += THREADS) {
        t[i] = target_of(i);
    }
    Inputs next;
    next.fetch(run, row_numbers, part);
    next.spread(x, part);
    __syncthreads();
    for (int s = thread; s < 4 * QUADS; s += THREADS) {
        row_numbers[s] = row_of(1, s);
    }
    __syncthreads();

    for (long long step = 0; step * SAMPLES < run.total; ++step) {
        const int count = run.count(step);
        const Tag tag = tag_of(first_tag, step);
        REAL* now = x + step % 2 * (ROWS * SAMPLE_ROOM);
        constexpr int ROWS_EACH = parts(4 * QUADS, THREADS);
        constexpr int TARGETS_EACH = parts(MOST_OWN * OUTPUTS, THREADS);
        int later[ROWS_EACH];
        REAL targets[TARGETS_EACH];

        forward(now, w, sums);
        __syncthreads();
        constexpr int SUMS_EACH = parts(SAMPLES * COLUMNS, THREADS);
        constexpr int SUMS_AT_ONCE = SUMS_EACH < 4 ? SUMS_EACH : 4;
        for (int first = 0; first < SUMS_EACH; first += SUMS_AT_ONCE) {
            REAL joined[SUMS_AT_ONCE];
#pragma unroll
            for (int n = 0; n < SUMS_AT_ONCE; ++n) {
                // Threads without a sum compute one for nothing, rather than branch.
                const int i = (thread + (first + n) * THREADS) % (SAMPLES * COLUMNS);
                const REAL* of_parts = sums + i % COLUMNS * QUADS * 4 + i / COLUMNS;
                joined[n] = of_parts[0];
#pragma unroll
                for (int p = 1; p < FORWARD_PARTS; ++p) {
                    joined[n] += of_parts[p * COLUMNS * QUADS * 4];
                }
            }
#pragma unroll
            for (int n = 0; n < SUMS_AT_ONCE; ++n) {
                const int i = thread + (first + n) * THREADS, s = i / COLUMNS;
                const int j = part.column + i % COLUMNS, group = block / COLUMN_GROUPS;
                if (s < count && j < HIDDEN) {
                    send(sums_sent, (s * ROW_GROUPS + group) * HIDDEN + j, joined[n], tag);
                }
            }
        }
        // Prefetch what the next update reads, while the sums of other blocks are on their way.
        if (IS_READ_EARLY) {
            next.fetch(run, row_numbers, part);
        }
#pragma unroll
        for (int n = 0; n < ROWS_EACH; ++n) {
            later[n] = row_of(step + 2, thread + n * THREADS);
        }

        for (int s = block, mine = 0; s < count; s += WORKERS, ++mine) {
            for (int h = thread; h < HIDDEN; h += THREADS) {
                const int first = s * ROW_GROUPS * HIDDEN + h;
                const REAL sum = receive_sum<ROW_GROUPS>(sums_sent, first, HIDDEN, tag) * reciprocal;
                if (keeps_pre_activation(run.activation)) {
                    z[h] = sum;
                }
                a[h] = activated(run.activation, sum);
            }
            // Warps without a hidden unit receive the weights, if there are any.
            constexpr int BUSY = parts(HIDDEN, 32) * 32, FREE = BUSY < THREADS ? BUSY : 0;
            if (mine == 0 && step > 0 && thread >= FREE) {
                receive<LAST_SIZE, FREE>(
                    weights_sent, LAST_SIZE, tag_of(first_tag, step - 1), [&](int i) { return i; },
                    [&](int i, REAL weight) {
                        last[i / OUTPUTS * OUTPUT_ROOM + i % OUTPUTS] = weight;
                    });
            }
            __syncthreads();
            // By other warps than the one that computes the loss, if there are any.
            constexpr int LOSS_THREADS = THREADS > 32 ? 32 : 0;
            if (thread >= LOSS_THREADS) {
                for (int h = thread - LOSS_THREADS; h < HIDDEN; h += THREADS - LOSS_THREADS) {
                    send(samples_sent, ERRORS_SENT + s * SENT + OUTPUTS + h, a[h], tag);
                }
            }
            if (thread < 32) {
                finish_sample(
                    a, z, last, t + mine * OUTPUTS, run, REAL(1) / count, s,
                    samples_sent, tag, losses + step * SAMPLES + s,
                    state.flags);
            }
            if (s + WORKERS < count) {
                __syncthreads();
            }
        }

        // By the last threads, because the first ones may still compute a loss.
#pragma unroll
        for (int n = 0; n < TARGETS_EACH; ++n) {
            const int i = THREADS - 1 - thread + n * THREADS;
            targets[n] = i < MOST_OWN * OUTPUTS ? target_of(i) : REAL(0);
        }
        if (!IS_READ_EARLY) {
            next.fetch(run, row_numbers, part);
        }
        next.spread(x + (step + 1) % 2 * (ROWS * SAMPLE_ROOM), part);
        const bool stops = receive<SAMPLES * COLUMNS>(
            samples_sent, SAMPLES * COLUMNS, tag,
            [&](int i) {
                // Padding, and samples missing from a short batch, read a valid word instead.
                const int s = i / COLUMNS, c = part.column + i % COLUMNS < HIDDEN ? i % COLUMNS : 0;
                return part.column * SAMPLES + (s < count ? s : 0) * COLUMNS + c;
            },
            [&](int i, REAL error) {
                const int s = i / COLUMNS, c = i % COLUMNS;
                const bool is_there = s < count && part.column + c < HIDDEN;
                d[s * ROW_ROOM + c / TILE * TILE_ROOM + c % TILE] = is_there ? error : REAL(0);
            });
        if (__syncthreads_or(stops)) {
            break;
        }
        // The previous ones are no longer read.
#pragma unroll
        for (int n = 0; n < ROWS_EACH; ++n) {
            if (thread + n * THREADS < 4 * QUADS) {
                row_numbers[thread + n * THREADS] = later[n];
            }
        }
#pragma unroll
        for (int n = 0; n < TARGETS_EACH; ++n) {
            const int i = THREADS - 1 - thread + n * THREADS;
            if (i < MOST_OWN * OUTPUTS) {
                t[i] = targets[n];
            }
        }
        gradients(now, d, sums);
        __syncthreads();
        constexpr int OWN_EACH = parts(ROWS * COLUMNS, THREADS);
        constexpr int OWN_AT_ONCE = OWN_EACH < 4 ? OWN_EACH : 4;
        for (int first = 0; first < OWN_EACH; first += OWN_AT_ONCE) {
            REAL total[OWN_AT_ONCE];
#pragma unroll
            for (int n = 0; n < OWN_AT_ONCE; ++n) {
                // Threads without a weight compute one's gradient for nothing, rather than branch.
                const int i = (thread + (first + n) * THREADS) % (ROWS * COLUMNS);
                const REAL* of_parts = sums + i / ROWS * padded(ROWS) + i % ROWS;
                total[n] = of_parts[0];
#pragma unroll
                for (int p = 1; p < UPDATE_PARTS; ++p) {
                    total[n] += of_parts[p * COLUMNS * padded(ROWS)];
                }
            }
#pragma unroll
            for (int n = 0; n < OWN_AT_ONCE; ++n) {
                const int i = thread + (first + n) * THREADS, row = i % ROWS, c = i / ROWS;
                if (i < ROWS * COLUMNS) {
                    const bool is_bias = part.has_bias && row == OWN_WORDS - 1;
                    update(rule, step, own, weight_at(row, c), total[n] * reciprocal, is_bias);
                }
            }
        }
        __syncthreads();
    }

#pragma unroll
    for (int k = 0; k <= SLOTS; ++k) {
        for (int i = thread; i < ROWS * COLUMNS; i += THREADS) {
            const int row = i / COLUMNS, column = i % COLUMNS, p = part.parameter(row, column);
            if (p >= 0) {
                kept[k][p] = w[k * W_SIZE + weight_at(row, column)];
            }
        }
    }
}

// A block of the last layer, which owns a contiguous range of its parameters.
__device__ inline void work_on_last(
    const State& state, const Rule& rule, const Run& run, unsigned int first_tag,
    const Word* samples_sent, Word* weights_sent) {
    REAL *errors = (REAL*)block_memory(), *a = errors + LAST_A, *w = errors + LAST_W;
    constexpr int SLOT = padded(MOST_LAST);
    const int block = blockIdx.x - WORKERS, thread = threadIdx.x;
    const int first = LAST_SIZE * block / LAST_BLOCKS;
    const int own = LAST_SIZE * (block + 1) / LAST_BLOCKS - first;
    const int first_unit = first / OUTPUTS;
    const State state_of_own = {
        w, SLOTS > 0 ? w + SLOT : w, SLOTS > 1 ? w + 2 * SLOT : w, state.flags};
    REAL* const kept[] = {state.params, state.first_slot, state.second_slot};
#pragma unroll
    for (int k = 0; k <= SLOTS; ++k) {
        for (int i = thread; i < own; i += THREADS) {
            w[k * SLOT + i] = kept[k][FIRST_SIZE + first + i];
        }
    }
    // Padding of the samples is never received.
    for (int i = thread; i < (OUTPUTS + MOST_UNITS) * SAMPLE_ROOM; i += THREADS) {
        errors[i] = 0;
    }
    // Threads per parameter.
    constexpr int APIECE = 8 * MOST_LAST <= THREADS ? 8 : 4 * MOST_LAST <= THREADS ? 4 : 2;
    __syncthreads();
    for (long long step = 0; step * SAMPLES < run.total; ++step) {
        const int count = run.count(step);
        const Tag tag = tag_of(first_tag, step);
        // Errors as errors[output][sample], and after them values as a[unit][sample], both zero for
        // samples missing from a short batch. The input of the bias is 1.
        constexpr int EACH = OUTPUTS + MOST_UNITS;
        const bool stops = receive<EACH * SAMPLES>(
            samples_sent, EACH * SAMPLES, tag,
            [&](int i) {
                // Padding, and missing samples, read a valid word instead.
                const int s = i / EACH, j = i % EACH, h = first_unit + j - OUTPUTS;
                const int place = j < OUTPUTS ? j : h < HIDDEN ? OUTPUTS + h : 0;
                return ERRORS_SENT + (s < count ? s : 0) * SENT + place;
            },
            [&](int i, REAL number) {
                const int s = i / EACH, j = i % EACH, h = first_unit + j - OUTPUTS;
                const REAL value = j >= OUTPUTS && h >= HIDDEN ? REAL(1) : number;
                errors[j * SAMPLE_ROOM + s] = s < count ? value : REAL(0);
            });
        if (__syncthreads_or(stops)) {
            break;
        }
        for (int base = 0; base < own; base += THREADS / APIECE) {
            const int i = base + thread / APIECE;
            const int unit = i < own ? (first + i) / OUTPUTS - first_unit : 0;
            const int o = (first + i) % OUTPUTS;
            REAL sum = 0;
#pragma unroll (parts(QUADS, APIECE) < 8 ? parts(QUADS, APIECE) : 4)
            for (int n = 0; n < parts(QUADS, APIECE); ++n) {
                const int q = thread % APIECE + n * APIECE;
                if (q < QUADS) {
                    const Quad v = quad(a + unit * SAMPLE_ROOM + 4 * q);
                    const Quad e = quad(errors + o * SAMPLE_ROOM + 4 * q);
                    sum += v.x * e.x + v.y * e.y + (v.z * e.z + v.w * e.w);
                }
            }
#pragma unroll
            for (int apart = 1; apart < APIECE; apart *= 2) {
                sum += of_lane(sum, thread % 32 ^ apart);
            }
            if (i < own && thread % APIECE == 0) {
                update(rule, step, state_of_own, i, sum, (first + i) / OUTPUTS == HIDDEN);
                send(weights_sent, first + i, w[i], tag);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k <= SLOTS; ++k) {
        for (int i = thread; i < own; i += THREADS) {
            kept[k][FIRST_SIZE + first + i] = w[k * SLOT + i];
        }
    }
}

extern "C" {

// Do all updates. Words are zero before the first launch that uses them, and `first_tag` is above the
// tags of all earlier launches.
__global__ void __launch_bounds__(THREADS, 1) train_resident(
    REAL* params, REAL* first_slot, REAL* second_slot, int, unsigned int* flags, int optimizer,
    double lr, double first, double second, double third, double decay_of_weights,
    double decay_of_biases, const double* coefficients,
    const INPUT* x, REAL divisor, const TARGET_ELEMENT* t, const long long* order, long long total,
    int activation, int loss, double* losses, unsigned int first_tag, Word* sums_sent,
    Word* samples_sent, Word* weights_sent) {
    const State state = {params, first_slot, second_slot, flags};
    const Rule rule = {
        OPTIMIZER_OF(optimizer), lr, first, second, third, decay_of_weights, decay_of_biases,
        coefficients};
    const Run run = {
        x, divisor, {t}, order, total, ACTIVATION_OF(activation), LOSS_OF(loss)};
    if (blockIdx.x < WORKERS) {
        work(state, rule, run, losses, first_tag, sums_sent, samples_sent, weights_sent);
    } else {
        work_on_last(state, rule, run, first_tag, samples_sent, weights_sent);
    }
}

}  // extern "C"
