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

#include "optimizers.cuh"
#include "owned.cuh"

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
            // Long before it is needed.
            const REAL weight = run.weight(step, s);
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
                    a, z, last, t + mine * OUTPUTS, run, weight, count, s, samples_sent, tag, losses + step * SAMPLES + s,
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
    const REAL* weights, int activation, int loss, double* losses, unsigned int first_tag, Word* sums_sent,
    Word* samples_sent, Word* weights_sent) {
    const State state = {params, first_slot, second_slot, flags};
    const Rule rule = {
        OPTIMIZER_OF(optimizer), lr, first, second, third, decay_of_weights, decay_of_biases,
        coefficients};
    const Run run = {
        x, divisor, {t}, order, total, weights, ACTIVATION_OF(activation), LOSS_OF(loss)};
    if (blockIdx.x < WORKERS) {
        work(state, rule, run, losses, first_tag, sums_sent, samples_sent, weights_sent);
    } else {
        work_on_last(state, rule, run, first_tag, samples_sent, weights_sent);
    }
}

}  // extern "C"
