// What blocks compute of their own numbers: sums over inputs and over samples, and the errors of a sample.

#pragma once

#include "exchange.cuh"
#include "layout.cuh"

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
// `z` if the slope needs them. Sends the errors, times `weight` and divided by the number of samples.
// Each lane has one output and a part of its sum.
__device__ inline void finish_sample(
    const REAL* a, const REAL* z, const REAL* w, const REAL* t, const Run& run, REAL weight,
    int count, int s, Word* sent, Tag tag, double* place, unsigned int* flags) {
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
    const REAL scale = weight / count;
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
    loss *= weight;
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
