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

enum Operation { VALUES, ERRORS, GRADIENT, JOIN_VALUES, JOIN_ERRORS, FINISH, LOSSES, UPDATE };

// Something to compute of a layer, by the blocks from `first_block` on, and whether all meet afterwards.
struct Phase {
    int operation, layer, meets;
    unsigned int first_block;
};

// The most outputs of a net whose last layer is computed by warps; their scores are in registers.
constexpr int MOST_SCORES = 16;

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
    // The samples that a block has at once when losses are computed, and whether warps do that, together
    // with the last layer.
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
            phases[count++] = {VALUES, i, 1, 0};
            // The last ones are joined where losses are computed.
            if (i < apart) {
                phases[count++] = {JOIN_VALUES, i, 1, 0};
            }
        }
        phases[count++] = {is_fused ? FINISH : LOSSES, last, 1, 0};
        for (int i = apart - 1; i >= 0; --i) {
            phases[count++] = {ERRORS, i, 1, 0};
            phases[count++] = {JOIN_ERRORS, i, 1, 0};
        }
        unsigned int first_block = 0;
        for (int i = 0; i <= last; ++i) {
            phases[count++] = {GRADIENT, i, i == last, first_block};
            const Product<REAL>& product = layers[i].products[GRADIENT];
            first_block = (first_block + product.tiles() * product.parts) % gridDim.x;
        }
        phases[count++] = {UPDATE, 0, 1, 0};
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

    // Losses and errors from the sums of scores, some samples of a block at a time.
    __device__ void find_losses() const {
        const Layer& own = layers[net.layers - 1];
        // Divisions of unsigned numbers are shorter.
        const unsigned int threads = blockDim.x, thread = threadIdx.x, outputs = own.outputs;
        const unsigned int all = batch.samples, each = at_once * outputs;
        const int parts = own.products[VALUES].parts;
        REAL *scores = (REAL*)block_memory(), *errors = scores + each, *targets = errors + each;
        REAL *powers = targets + each, *sums = powers + each;
        const Finish finish = finish_of(net.layers - 1, false);
        for (unsigned int first = blockIdx.x * at_once; first < all; first += gridDim.x * at_once) {
            const unsigned int left = all - first, most = at_once;
            const unsigned int samples = left < most ? left : most;
            for (unsigned int i = thread; i < samples * outputs; i += threads) {
                const long long index = (long long)first * outputs + i;
                const unsigned int s = i / outputs, o = i - s * outputs;
                scores[i] = finish.of(joined_at(outputs, parts, index), index, o);
                targets[i] = batch.t.at(batch.row(first + s), outputs, o);
            }
            __syncthreads();
            block_losses(
                LOSS_OF(net.loss), scores, targets, samples, outputs, REAL(1) / batch.samples, errors,
                powers, sums,
                [&](int s, REAL loss) { keep_loss(loss, losses + first + s, state.flags); });
            __syncthreads();
            for (unsigned int i = thread; i < samples * outputs; i += threads) {
                own.errors[(long long)first * outputs + i] = errors[i];
            }
            __syncthreads();
        }
    }

    // The values of the last hidden layer from their sums, scores, losses, and the errors of both layers:
    // of a sample by a warp, whose lanes divide the hidden units.
    __device__ void finish_samples() const {
        const int activation = ACTIVATION_OF(net.activation);
        // Hidden units of a lane at once.
        constexpr int UNITS = 4;
        const unsigned int lanes = blockDim.x < 32 ? blockDim.x : 32, warps = blockDim.x / lanes;
        const unsigned int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes;
        const Layer &own = layers[net.layers - 1], &before = layers[net.layers - 2];
        const int outputs = own.outputs;
        const unsigned int hidden = own.inputs, all = batch.samples;
        const REAL *w = state.params + own.first, *b = own.b, *before_b = before.b;
        const REAL scale = REAL(1) / batch.samples;
        const int parts = before.products[VALUES].parts;
        const long long size = (long long)room * hidden;
        REAL* const values = (REAL*)block_memory() + warp * hidden;
#pragma unroll 1
        for (unsigned int s = warp * gridDim.x + blockIdx.x; s < all; s += warps * gridDim.x) {
            const long long row = batch.row(s), start = (long long)s * hidden;
            REAL scores[MOST_SCORES];
#pragma unroll
            for (int o = 0; o < MOST_SCORES; ++o) {
                scores[o] = o < outputs && lane == 0 && b != nullptr ? b[o] : REAL(0);
            }
#pragma unroll 1
            for (unsigned int base = lane; base < hidden; base += UNITS * lanes) {
                REAL sum[UNITS];
#pragma unroll
                for (int n = 0; n < UNITS; ++n) {
                    const unsigned int h = base + n * lanes;
                    sum[n] = h < hidden && before_b != nullptr ? before_b[h] : REAL(0);
                }
#pragma unroll 2
                for (int part = 0; part < parts; ++part) {
                    const REAL* from = buffers.sums + part * size + start + base;
#pragma unroll
                    for (int n = 0; n < UNITS; ++n) {
                        sum[n] += base + n * lanes < hidden ? from[n * lanes] : REAL(0);
                    }
                }
#pragma unroll
                for (int n = 0; n < UNITS; ++n) {
                    const unsigned int h = base + n * lanes;
                    const REAL value = activated(activation, sum[n]);
                    if (h < hidden) {
                        const REAL* weights = w + (int)h * outputs;
#pragma unroll
                        for (int o = 0; o < MOST_SCORES; ++o) {
                            scores[o] += o < outputs ? value * weights[o] : REAL(0);
                        }
                        values[h] = before.values[start + h] = value;
                        if (keeps_pre_activation(activation)) {
                            before.errors[start + h] = sum[n];
                        }
                    }
                }
            }
            const auto targets = batch.t.of(row, outputs);
#pragma unroll 1
            for (unsigned int apart = 1; apart < lanes; apart *= 2) {
#pragma unroll
                for (int o = 0; o < MOST_SCORES; ++o) {
                    scores[o] += __shfl_sync(0xffffffffu, scores[o], lane ^ apart);
                }
            }
            const auto target = [&](int o) { return targets.at(o); };
            // From here on, they are errors.
            const REAL loss =
                lane_loss<MOST_SCORES>(LOSS_OF(net.loss), scores, target, outputs, scale);
            if (lane == 0) {
                keep_loss(loss, losses + s, state.flags);
            }
#pragma unroll
            for (int o = 0; o < MOST_SCORES; ++o) {
                if (o < outputs && (int)lane == o % (int)lanes) {
                    own.errors[(long long)s * outputs + o] = scores[o];
                }
            }
#pragma unroll 1
            for (unsigned int h = lane; h < hidden; h += lanes) {
                const REAL* weights = w + (int)h * outputs;
                REAL sum = 0;
#pragma unroll
                for (int o = 0; o < MOST_SCORES; ++o) {
                    sum += o < outputs ? weights[o] * scores[o] : REAL(0);
                }
                REAL& place = before.errors[start + h];
                const REAL pre = keeps_pre_activation(activation) ? place : REAL(0);
                place = sum * slope(activation, pre, values[h]);
            }
        }
    }

    // Copy the inputs of the next batch.
    __device__ void gather_next() const { gather(next, net.sizes[0], buffers.x); }

    // Do an update; false after a loss that is not finite, and then no parameter was changed.
    __device__ bool do_update() const {
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
            const int operation = phases[i].operation, layer = phases[i].layer;
            if (operation <= GRADIENT) {
                multiply(layers[layer].products[operation], phases[i].first_block);
            } else if (operation <= JOIN_ERRORS) {
                join(operation, layer);
            } else if (operation == FINISH) {
                finish_samples();
            } else if (operation == LOSSES) {
                find_losses();
            } else {
                update_all();
                gather_next();
            }
            if (phases[i].meets) {
                grid_barrier(state.flags + ARRIVED);
            }
            if ((operation == FINISH || operation == LOSSES) && state.flags[STOPPED]) {
                return false;
            }
        }
        return true;
    }
};
static_assert(sizeof(Phases) <= 8192, "what is allocated for them");
