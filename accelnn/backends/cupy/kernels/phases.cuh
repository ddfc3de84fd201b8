// All updates of a run as phases of tiled products, with a grid barrier after each.
//
// An update computes the values of one layer after the other; losses; the errors of one layer after the
// other, backwards; the gradients of all layers; and the parameters. If the sums of a product are split
// into parts, the next phase joins them.

#pragma once

#include "optimizers.cuh"
#include "passes.cuh"
#include "tiles.cuh"

// The parts of the sums of a layer: of its values, of its errors, and of its gradient.
struct Split {
    int values, errors, gradient;
};

// What the phases share. Values and errors of a layer are contiguous, with `room` samples each.
struct Buffers {
    REAL *values, *errors;
    // Parts of the sums of values or errors of a layer.
    REAL* sums;
    // Parts of the gradient, each as long as the parameters.
    REAL* gradients;
};

// A layer from `inputs` to `outputs` units, whose parameters begin at `first`.
struct Layer {
    int inputs, outputs, first;
    const REAL *w, *b;
    REAL *values, *errors;
};

// The most layers of a net, whose descriptions are in shared memory.
constexpr int MOST_TILED_LAYERS = 32;

// In shared memory, so that no register keeps any of it through the product of a phase.
struct Phases {
    Net net;
    State state;
    Rule rule;
    Batch batch;
    const Split* splits;
    Buffers buffers;
    double* losses;
    long long step;
    int size, room;
    // The samples that a block has at once when losses are computed, and whether it computes the last
    // layer, too: if that is small.
    int at_once, is_fused;
    Layer layers[MOST_TILED_LAYERS];

    // Called by one thread.
    __device__ void describe_layers() {
        int first = 0;
        long long units = 0;
        for (int i = 0; i < net.layers; ++i) {
            const int inputs = net.sizes[i], outputs = net.sizes[i + 1];
            const REAL *w = state.params + first, *b = w + (long long)inputs * outputs;
            layers[i] = {inputs, outputs, first, w, net.has_bias ? b : nullptr,
                         buffers.values + units * room, buffers.errors + units * room};
            first += net.size(i);
            units += outputs;
        }
    }

    // The inputs of a layer.
    __device__ Rows inputs_of(int i) const {
        return {batch, i == 0 ? nullptr : layers[i - 1].values, layers[i].inputs};
    }

    // What makes values, or errors, of the sums of a layer.
    __device__ Finish values_of(int i) const {
        const Layer& own = layers[i];
        const int activation = i + 1 < net.layers ? net.activation : -1;
        return {inputs_of(i).divisor(), own.b, nullptr, own.errors, activation};
    }

    __device__ Finish errors_of(int i) const {
        return {1, nullptr, layers[i].values, layers[i].errors, net.activation};
    }

    // Store the value or the error of a unit, or a part of its sum.
    __device__ void store(
        const Finish& finish, REAL* to, int parts, int part, int width, int s, int unit,
        REAL sum) const {
        const long long index = (long long)s * width + unit;
        if (parts == 1) {
            to[index] = finish.of(sum, index, unit);
        } else {
            buffers.sums[(long long)part * room * width + index] = sum;
        }
    }

    __device__ REAL joined_at(int width, int parts, long long index) const {
        return joined(buffers.sums, parts, (long long)room * width, index);
    }

    // Turn the sums of a layer into values or errors.
    __device__ void join(const Finish& finish, int width, int parts, REAL* to) const {
        FOR_EACH(index, (long long)batch.samples * width) {
            to[index] = finish.of(joined_at(width, parts, index), index, (int)(index % width));
        }
    }

    __device__ void find_values(int i) const {
        const Layer& own = layers[i];
        int first_block = 0;
        each_product<true, false>(
            first_block, batch.samples, own.outputs, own.inputs, splits[i].values, inputs_of(i),
            numbers([&](int j, int k) { return own.w[(long long)k * own.outputs + j]; }),
            [&](int part, int s, int j, REAL sum) {
                store(values_of(i), own.values, splits[i].values, part, own.outputs, s, j, sum);
            });
    }

    __device__ void find_errors(int i) const {
        const Layer &own = layers[i], &next = layers[i + 1];
        int first_block = 0;
        each_product<true, true>(
            first_block, batch.samples, own.outputs, next.outputs, splits[i].errors,
            numbers([&](int s, int j) { return next.errors[(long long)s * next.outputs + j]; }),
            numbers([&](int k, int j) { return next.w[(long long)k * next.outputs + j]; }),
            [&](int part, int s, int k, REAL sum) {
                store(errors_of(i), own.errors, splits[i].errors, part, own.outputs, s, k, sum);
            });
    }

    __device__ void find_gradient(int i, int& first_block) const {
        const Layer& own = layers[i];
        each_product<false, false>(
            first_block, own.inputs + net.has_bias, own.outputs, batch.samples,
            splits[i].gradient, Columns{inputs_of(i)},
            numbers([&](int j, int s) { return own.errors[(long long)s * own.outputs + j]; }),
            [&](int part, int k, int j, REAL sum) {
                buffers.gradients[(long long)part * size + own.first + k * own.outputs + j] = sum;
            });
    }

    __device__ void update_layer(int i) const {
        const Layer& own = layers[i];
        const int parts = splits[i].gradient, weights = own.inputs * own.outputs;
        const REAL divisor = inputs_of(i).divisor();
        FOR_EACH(k, net.size(i)) {
            const int index = own.first + (int)k;
            update(
                rule, step, state, index, joined(buffers.gradients, parts, size, index) / divisor,
                rule.decays() && k >= weights);
        }
    }

    // Scores, losses and errors, sample by sample; fused, those of the last two layers.
    __device__ void find_losses() const {
        const int last = net.layers - 1, from = is_fused ? last - 1 : last;
        const int threads = blockDim.x, thread = threadIdx.x;
        const Layer &own = layers[last], &before = layers[from];
        const int outputs = own.outputs, inputs = is_fused ? own.inputs : 0;
        // Weights in rows of an odd length, so that neighbouring rows are in different banks.
        const int row = outputs | 1, each = at_once * outputs;
        // The parts of a score, of at least eight terms each.
        const int wanted = (inputs + 7) / 8, most = threads / each > 1 ? threads / each : 1;
        const int parts = wanted < most ? wanted : most, split = splits[from].values;
        REAL* scores = (REAL*)block_memory();
        REAL *errors = scores + each, *values = errors + each, *w = values + at_once * inputs;
        REAL *sums = w + inputs * row, *found = is_fused ? values : scores;
        for (int i = thread; i < inputs * outputs; i += threads) {
            w[i / outputs * row + i % outputs] = own.w[i];
        }
        const Finish forwards = values_of(from), backwards = errors_of(from);
        for (int first = blockIdx.x * at_once; first < batch.samples; first += gridDim.x * at_once) {
            const int left = batch.samples - first, count = left < at_once ? left : at_once;
            for (int i = thread; i < count * before.outputs; i += threads) {
                const long long index = (long long)first * before.outputs + i;
                REAL value = 0;
                if (split == 1) {
                    value = before.values[index];
                } else {
                    const REAL sum = joined_at(before.outputs, split, index);
                    value = forwards.of(sum, index, i % before.outputs);
                    before.values[index] = value;
                }
                found[i] = value;
            }
            __syncthreads();
            if (is_fused) {
                for (int i = thread; i < each * parts; i += threads) {
                    const int s = i % each / outputs, o = i % outputs;
                    REAL sum = 0;
#pragma unroll 4
                    for (int k = i / each; k < inputs && s < count; k += parts) {
                        sum += values[s * inputs + k] * w[k * row + o];
                    }
                    sums[i] = sum;
                }
                __syncthreads();
                for (int i = thread; i < count * outputs; i += threads) {
                    const REAL sum = joined(sums, parts, each, i);
                    scores[i] = own.b == nullptr ? sum : sum + own.b[i % outputs];
                }
                __syncthreads();
            }
            for (int s = thread; s < count; s += threads) {
                const double loss = thread_loss(
                    net.loss, scores + s * outputs, outputs, batch.t, batch.row(first + s),
                    REAL(1) / batch.samples, errors + s * outputs);
                keep_loss(loss, losses + first + s, state.flags);
            }
            __syncthreads();
            for (int i = thread; i < count * outputs; i += threads) {
                own.errors[(long long)first * outputs + i] = errors[i];
            }
            for (int i = thread; i < count * inputs; i += threads) {
                const int s = i / inputs, k = i % inputs;
                REAL sum = 0;
#pragma unroll 4
                for (int o = 0; o < outputs; ++o) {
                    sum += w[k * row + o] * errors[s * outputs + o];
                }
                const long long index = (long long)first * inputs + i;
                before.errors[index] = backwards.of(sum, index, k);
            }
            __syncthreads();
        }
    }

    // Do an update; false after a loss that is not finite, and then no parameter was changed.
    __device__ bool update_all() const {
        const int apart = net.layers - is_fused;
#pragma unroll 1
        for (int i = 0; i < apart; ++i) {
            find_values(i);
            meet();
            // The last ones are joined where losses are computed.
            if (splits[i].values > 1 && i < apart - 1) {
                join(values_of(i), layers[i].outputs, splits[i].values, layers[i].values);
                meet();
            }
        }
        find_losses();
        meet();
        if (state.flags[STOPPED]) {
            return false;
        }
#pragma unroll 1
        for (int i = apart - 2; i >= 0; --i) {
            find_errors(i);
            meet();
            if (splits[i].errors > 1) {
                join(errors_of(i), layers[i].outputs, splits[i].errors, layers[i].errors);
                meet();
            }
        }
        int first_block = 0;
#pragma unroll 1
        for (int i = 0; i < net.layers; ++i) {
            find_gradient(i, first_block);
        }
        meet();
#pragma unroll 1
        for (int i = 0; i < net.layers; ++i) {
            update_layer(i);
        }
        meet();
        return true;
    }

    __device__ void meet() const { grid_barrier(state.flags + ARRIVED); }
};
static_assert(sizeof(Phases) <= 2304, "what is allocated for them");
