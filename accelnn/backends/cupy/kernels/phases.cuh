// All updates of a run in phases, with a grid barrier after each.
//
// An update computes the values of one layer after the other; losses; the errors of one layer after the
// other, backwards; the gradients of all layers; and the parameters. All but losses and parameters are
// tiled products, whose sums are in parts, which the next phase joins.
//
// Phases are data, so that there is one copy of the code of each kind: code of some 100 kB does not
// stay in the caches of instructions, and then fetching it takes longer than running it.

#pragma once

#include "optimizers.cuh"
#include "passes.cuh"
#include "products.cuh"
#include "tiles.cuh"

enum Operation { VALUES, ERRORS, GRADIENT, JOIN_VALUES, JOIN_ERRORS, LOSSES, UPDATE };

// Something to compute of a layer, and whether all blocks meet afterwards.
struct Phase {
    int operation, layer, meets;
};

// The parts of the sums of a layer: of its values, of its errors, and of its gradient.
struct Split {
    int values, errors, gradient;
};

// What the phases share. Values and errors of a layer are contiguous, with `room` samples each.
struct Buffers {
    // The inputs of the batch.
    REAL* x;
    REAL *values, *errors;
    // Parts of the sums of values or errors of a layer.
    REAL* sums;
    // Parts of the gradient, each as long as the parameters.
    REAL* gradients;
};

// A layer from `inputs` to `outputs` units, whose parameters begin at `first`.
struct Layer {
    int inputs, outputs, first;
    const REAL* b;
    REAL *values, *errors;
    Product<REAL> products[3];
};

// The most layers of a net, because their descriptions are in shared memory.
constexpr int MOST_TILED_LAYERS = 16;

// In shared memory, so that no register keeps any of it through a product.
struct Phases {
    Net net;
    State state;
    Rule rule;
    // The current batch, and the next one.
    Batch batch, next;
    Buffers buffers;
    double* losses;
    long long step;
    int size, room;
    // The samples that a block has at once when losses are computed, and whether it computes the last
    // layer, too: if that is small.
    int at_once, is_fused;
    int count;
    Layer layers[MOST_TILED_LAYERS];
    Phase phases[5 * MOST_TILED_LAYERS + 2];

    // Describe the layers and phases; called by one thread.
    __device__ void plan(const Split* splits) {
        const int last = net.layers - 1, apart = last - is_fused;
        long long first = 0, units = 0;
        const REAL* inputs_at = buffers.x;
        for (int i = 0; i <= last; ++i) {
            const int inputs = net.sizes[i], outputs = net.sizes[i + 1];
            const REAL* w = state.params + first;
            Layer& own = layers[i];
            own.inputs = inputs;
            own.outputs = outputs;
            own.first = (int)first;
            own.b = net.has_bias ? w + (long long)inputs * outputs : nullptr;
            own.values = buffers.values + units * room;
            own.errors = buffers.errors + units * room;
            own.products[VALUES] = {
                {inputs_at, inputs, 1}, {w, 1, outputs}, room, outputs, inputs, splits[i].values,
                -1, 1, buffers.sums, (long long)room * outputs};
            own.products[GRADIENT] = {
                {inputs_at, 1, inputs}, {own.errors, 1, outputs}, inputs + net.has_bias, outputs,
                room, splits[i].gradient, inputs, 1, buffers.gradients + first, size};
            if (i > 0) {
                layers[i - 1].products[ERRORS] = {
                    {own.errors, outputs, 1}, {w, outputs, 1}, room, inputs, outputs,
                    splits[i - 1].errors, -1, 1, buffers.sums, (long long)room * inputs};
            }
            inputs_at = own.values;
            first += net.size(i);
            units += outputs;
        }
        count = 0;
        for (int i = 0; i <= apart; ++i) {
            phases[count++] = {VALUES, i, 1};
            // The last ones are joined where losses are computed.
            if (i < apart) {
                phases[count++] = {JOIN_VALUES, i, 1};
            }
        }
        phases[count++] = {LOSSES, last, 1};
        for (int i = apart - 1; i >= 0; --i) {
            phases[count++] = {ERRORS, i, 1};
            phases[count++] = {JOIN_ERRORS, i, 1};
        }
        for (int i = 0; i <= last; ++i) {
            phases[count++] = {GRADIENT, i, i == last};
        }
        phases[count++] = {UPDATE, 0, 1};
    }

    // Tell the products how many samples the batch has; called by one thread.
    __device__ void take(int samples) {
        for (int i = 0; i < net.layers; ++i) {
            layers[i].products[VALUES].rows = layers[i].products[ERRORS].rows = samples;
            layers[i].products[GRADIENT].terms = samples;
        }
    }

    // What makes values, or errors, of the sums of a layer.
    __device__ Finish finish_of(int i, bool makes_errors) const {
        const Layer& own = layers[i];
        const int activation = i + 1 < net.layers ? net.activation : -1;
        return {own.b, makes_errors ? own.values : nullptr, own.errors, activation};
    }

    __device__ REAL joined_at(int width, int parts, long long index) const {
        return joined(buffers.sums, parts, (long long)room * width, index);
    }

    // Turn the sums of a layer into values or errors.
    __device__ void join(int operation, int i) const {
        const bool makes_errors = operation == JOIN_ERRORS;
        const Finish finish = finish_of(i, makes_errors);
        const int width = layers[i].outputs;
        const int parts = layers[i].products[makes_errors ? ERRORS : VALUES].parts;
        REAL* to = makes_errors ? layers[i].errors : layers[i].values;
        const int threads = gridDim.x * blockDim.x;
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < batch.samples * width; i += threads) {
            to[i] = finish.of(joined_at(width, parts, i), i, i % width);
        }
    }

    __device__ void update_all() const {
        const int threads = gridDim.x * blockDim.x;
        for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < size; index += threads) {
            prefetch(state.params + index);
            int i = 0;
            while (i + 1 < net.layers && index >= layers[i + 1].first) {
                ++i;
            }
            const Layer& own = layers[i];
            const int weights = own.inputs * own.outputs, parts = own.products[GRADIENT].parts;
            update(
                rule, step, state, index, joined(buffers.gradients, parts, size, index),
                rule.decays() && index - own.first >= weights);
        }
    }

    // Scores, losses and errors, sample by sample; fused, those of the last two layers.
    __device__ void find_losses() const {
        const int last = net.layers - 1, from = last - is_fused;
        const Layer &own = layers[last], &before = layers[from];
        // Divisions of unsigned numbers are shorter.
        const unsigned int threads = blockDim.x, thread = threadIdx.x, count = batch.samples;
        const unsigned int outputs = own.outputs, inputs = is_fused ? own.inputs : 0;
        const unsigned int width = before.outputs;
        // Weights in rows of an odd length, so that neighbouring rows are in different banks.
        const unsigned int row = outputs | 1, each = at_once * outputs;
        // The parts of a score, of at least eight terms each.
        const unsigned int wanted = (inputs + 7) / 8, most = threads / each > 1 ? threads / each : 1;
        const unsigned int parts = wanted < most ? wanted : most;
        const int split = before.products[VALUES].parts;
        REAL* scores = (REAL*)block_memory();
        REAL *errors = scores + each, *targets = errors + each, *powers = targets + each;
        REAL *values = powers + each, *w = values + at_once * inputs, *sums = w + (inputs + 1) * row;
        REAL *found = is_fused ? values : scores, *bias = w + inputs * row;
        const REAL* weights = state.params + own.first;
        const Finish finish = finish_of(from, false);
        const REAL scale = REAL(1) / batch.samples;
        const int activation = ACTIVATION_OF(net.activation);
        // Numbers of the last layer that a thread loads at once, so that it waits for them once.
        constexpr int AT_ONCE = 4;
        const unsigned int numbers = (inputs + net.has_bias) * outputs;
        for (unsigned int base = thread; is_fused && base < numbers; base += AT_ONCE * threads) {
            REAL loaded[AT_ONCE];
#pragma unroll
            for (int n = 0; n < AT_ONCE; ++n) {
                const unsigned int i = base + n * threads;
                loaded[n] = i < numbers ? weights[i] : REAL(0);
            }
#pragma unroll
            for (int n = 0; n < AT_ONCE; ++n) {
                const unsigned int i = base + n * threads, k = i / outputs;
                if (i < numbers) {
                    w[k * row + i - k * outputs] = loaded[n];
                }
            }
        }
        for (unsigned int first = blockIdx.x * at_once; first < count; first += gridDim.x * at_once) {
            const unsigned int left = count - first, most_at_once = at_once;
            const unsigned int samples = left < most_at_once ? left : most_at_once;
            const unsigned int scored = samples * outputs, s_own = thread / outputs;
            // A thread's first target is awaited only when scores are there.
            const long long own_row = thread < scored ? batch.row(first + s_own) : 0;
            for (unsigned int i = thread; i < samples * width; i += threads) {
                const long long index = (long long)first * width + i;
                const REAL sum = joined_at(width, split, index);
                const REAL value = finish.of(sum, index, i % width);
                before.values[index] = value;
                found[i] = value;
            }
            REAL own_target = 0;
            if (thread < scored) {
                own_target = batch.t.at(own_row, outputs, thread - s_own * outputs);
            }
            __syncthreads();
            if (is_fused) {
                for (unsigned int i = thread; i < each * parts; i += threads) {
                    const unsigned int part = i / each, at = i - part * each, s = at / outputs;
                    const REAL *of_sample = values + s * inputs, *of_output = w + at - s * outputs;
                    REAL sum = 0;
#pragma unroll 4
                    for (unsigned int k = part; k < inputs && s < samples; k += parts) {
                        sum += of_sample[k] * of_output[k * row];
                    }
                    sums[i] = sum;
                }
                __syncthreads();
                for (unsigned int i = thread; i < scored; i += threads) {
                    REAL score = net.has_bias ? bias[i % outputs] : REAL(0);
#pragma unroll 4
                    for (unsigned int part = 0; part < parts; ++part) {
                        score += sums[part * each + i];
                    }
                    scores[i] = score;
                }
            }
            for (unsigned int i = thread; i < scored; i += threads) {
                const unsigned int s = i / outputs;
                targets[i] = i == thread
                    ? own_target
                    : batch.t.at(batch.row(first + s), outputs, i - s * outputs);
            }
            __syncthreads();
            block_losses(
                LOSS_OF(net.loss), scores, targets, samples, outputs, scale, errors, powers, sums,
                [&](int s, REAL loss) {
                    const REAL weight = batch.weight(batch.row(first + s));
                    keep_loss(loss * weight, losses + first + s, state.flags);
                });
            __syncthreads();
            if (batch.is_weighted()) {
                for (unsigned int i = thread; i < scored; i += threads) {
                    errors[i] *= batch.weight(batch.row(first + i / outputs));
                }
                __syncthreads();
            }
            for (unsigned int i = thread; i < scored; i += threads) {
                own.errors[(long long)first * outputs + i] = errors[i];
            }
            for (unsigned int i = thread; i < samples * inputs; i += threads) {
                const unsigned int s = i / inputs;
                const REAL *of_sample = errors + s * outputs, *of_unit = w + (i - s * inputs) * row;
                REAL sum = 0;
#pragma unroll 4
                for (unsigned int o = 0; o < outputs; ++o) {
                    sum += of_unit[o] * of_sample[o];
                }
                REAL& place = before.errors[(long long)first * inputs + i];
                const REAL pre = keeps_pre_activation(activation) ? place : REAL(0);
                place = sum * slope(activation, pre, values[i]);
            }
            __syncthreads();
        }
    }

    // Do an update and copy the inputs of the next one; before the first one, do the latter alone. False
    // after a loss that is not finite, and then no parameter was changed.
    __device__ bool do_update(bool is_first) const {
        unsigned int first_block = 0;
#pragma unroll 1
        for (int i = is_first ? count - 1 : 0; i < count; ++i) {
            const int operation = phases[i].operation, layer = phases[i].layer;
            if (operation <= GRADIENT) {
                multiply(layers[layer].products[operation], first_block);
            } else if (operation <= JOIN_ERRORS) {
                join(operation, layer);
            } else if (operation == LOSSES) {
                find_losses();
            } else {
                if (!is_first) {
                    update_all();
                }
                gather(next, layers[0].inputs, buffers.x);
            }
            if (phases[i].meets) {
                grid_barrier(state.flags + ARRIVED);
                first_block = 0;
            }
            if (operation == LOSSES && state.flags[STOPPED]) {
                return false;
            }
        }
        return true;
    }
};
static_assert(sizeof(Phases) <= 8192, "what is allocated for them");
