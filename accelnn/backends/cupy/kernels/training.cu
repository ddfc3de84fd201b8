// The kernels of a net: gradients, training and evaluation.
//
// REAL, INPUT, TARGET and TARGET_ELEMENT are compiler options.

#include "checks.cuh"
#include "clipping.cuh"
#include "differences.cuh"
#include "optimizers.cuh"
#include "passes.cuh"
#include "phases.cuh"
#include "products.cuh"
#include "tiles.cuh"

#define BATCH                                                                                     \
    const INPUT *x, REAL divisor, const TARGET_ELEMENT *t, const long long *order, int samples,   \
        const REAL *weights
#define NET int layers, int has_bias, int activation, int loss_kind, const int *sizes
#define TRACE int units, REAL *values, REAL *errors, double *losses
#define RULE                                                                                      \
    int optimizer, double lr, double first, double second, double third, double decay_of_weights,   \
        double decay_of_biases, const double *coefficients
#define DROPOUT                                                                                   \
    unsigned long long least, REAL scale, unsigned long long seed, const unsigned int *numbers
#define LAYERS int layers, int has_bias, const int *sizes
#define STATE                                                                                     \
    REAL *params, REAL *first_slot, REAL *second_slot, int size, unsigned int *flags

#define MAKE_BATCH const Batch batch = {x, divisor, {t}, order, samples, weights}
#define MAKE_DROPOUT(step)                                                                        \
    {numbers != nullptr, least, scale, seed, numbers == nullptr ? 0u : numbers[step]}
#define MAKE_NET                                                                                  \
    const Net net = {                                                                             \
        layers, has_bias, ACTIVATION_OF(activation), LOSS_OF(loss_kind),                          \
        in_shared_memory(sizes, layers)}
#define MAKE_LAYERS const Net net = {layers, has_bias, 0, 0, sizes}
#define MAKE_TRACE const Trace trace = {units, values, errors, losses}
#define MAKE_STATE const State state = {params, first_slot, second_slot, flags}
#define MAKE_RULE                                                                                 \
    const Rule rule = {                                                                           \
        OPTIMIZER_OF(optimizer), lr, first, second, third, decay_of_weights, decay_of_biases,     \
        coefficients}

// With PURPOSE, only the kernels of one purpose are compiled.
#ifdef PURPOSE
#define IS_FOR(number) (PURPOSE == number)
#else
#define IS_FOR(number) 1
#endif

extern "C" {

#if IS_FOR(0)
// Flag a non-finite parameter, before a kernel that would skip zero inputs.
__global__ void check_parameters(const REAL* params, int size, unsigned int* flags) {
    flag_not_finite(params, size, flags);
}

// The same for a single call, whose targets nobody has looked at.
__global__ void check_call(
    const REAL* params, int size, double limit, const void* t, int kind, long long count,
    double least, double most, int* labels, unsigned int* flags) {
    flag_not_finite(params, size, flags);
    flag_large(params, size, limit, flags);
    flag_targets(t, kind, count, least, most, labels, flags);
}

// The mean loss of each batch, or the means of any numbers; then, with flags, whether they say that the
// call is unfit.
__global__ void mean_losses(
    const double* losses, long long total, int samples, double* means, const unsigned int* flags) {
    if (flags != nullptr && blockIdx.x == 0 && threadIdx.x == 0) {
        means[(total + samples - 1) / samples] = flags[UNFIT];
    }
    for (long long step = blockIdx.x; step * samples < total; step += gridDim.x) {
        const long long start = step * samples;
        const int count = total - start < samples ? (int)(total - start) : samples;
        double sum = 0;
        for (int s = threadIdx.x; s < count; s += blockDim.x) {
            sum += losses[start + s] / count;
        }
        sum = over_block<Sum>(sum, count, block_memory());
        if (threadIdx.x == 0) {
            means[step] = sum;
        }
    }
}
#endif

#if IS_FOR(1)
// The first half of an update: losses and errors of a batch.
__global__ void batch_errors(
    const REAL* params, unsigned int* flags, DROPOUT, long long step, NET, BATCH, TRACE) {
    MAKE_NET;
    const Batch batch = {x, divisor, {t}, order, samples, weights, MAKE_DROPOUT(step)};
    MAKE_TRACE;
    sample_pass(params, net, batch, trace, flags);
}

// The second half without an update.
__global__ void batch_gradient(REAL* gradient, int size, NET, BATCH, TRACE) {
    MAKE_NET;
    MAKE_BATCH;
    MAKE_TRACE;
    each_gradient(size, net, batch, trace, [&](int i, REAL g) { gradient[i] = g; });
}

// The second half. Does nothing after a non-finite loss.
__global__ void batch_update(
    STATE, RULE, long long step, NET, BATCH, TRACE) {
    MAKE_NET;
    MAKE_BATCH;
    MAKE_TRACE;
    MAKE_STATE;
    MAKE_RULE;
    if (flags[STOPPED]) {
        return;
    }
    each_gradient(size, net, batch, trace, [&](int i, REAL g) {
        update(rule, step, state, i, g, rule.decays() && is_bias(i, net));
    });
}

// The launch bounds limit registers so that any formula can run with as many threads. Code with dropout
// needs more registers, as does code of doubles from Blackwell on.
#if defined(DROPS) && DROPS
constexpr int FLOAT_THREADS = 896;
#else
constexpr int FLOAT_THREADS = 1024;
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int TRAIN_THREADS = sizeof(REAL) == 4 ? FLOAT_THREADS : 768;
#else
constexpr int TRAIN_THREADS = sizeof(REAL) == 4 ? FLOAT_THREADS : 896;
#endif

// All updates in one cooperative launch: `order` has the samples of all batches, `samples` per batch. A
// non-finite loss stops the training before its update.
__global__ void __launch_bounds__(TRAIN_THREADS) train(
    STATE, RULE, long long total, DROPOUT, NET, BATCH, TRACE) {
    MAKE_NET;
    MAKE_STATE;
    MAKE_RULE;
    for (long long start = 0, step = 0; start < total; start += samples, ++step) {
        const int count = total - start < samples ? (int)(total - start) : samples;
        const Batch batch = {
            x, divisor, {t}, order + start, count, weights, MAKE_DROPOUT(step)};
        const Trace trace = {units, values, errors, losses + start};
        sample_pass(params, net, batch, trace, flags);
        grid_barrier(flags + ARRIVED);
        if (flags[STOPPED]) {
            return;
        }
        each_gradient(size, net, batch, trace, [&](int i, REAL g) {
            update(rule, step, state, i, g, rule.decays() && is_bias(i, net));
        });
        grid_barrier(flags + ARRIVED);
    }
}
#endif

#if IS_FOR(2)
// The forward pass for differences: pre-activations in `errors`, values in `values`, with probabilities
// for scores under cross entropy.
__global__ void batch_values(const REAL* params, const unsigned int* flags, NET, BATCH, TRACE) {
    MAKE_NET;
    MAKE_BATCH;
    const int outputs = net.sizes[layers];
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        const long long place = (long long)s * units;
        REAL* scores = forward(
            params, net, batch, s, flags, values + place, errors + place,
            (REAL*)block_memory());
        if (net.loss == CROSS_ENTROPY) {
            formulas::cross_entropy::softmax(scores, outputs, block_memory());
        }
    }
}

// The gradient by structured differences, in one launch. The first `far_size` parameters are those
// before the last two layers. `work` has room for 2 * `widest` numbers per block.
__global__ void differences(
    const REAL* params, const unsigned int* flags, REAL* gradient, int size, int far_size,
    double step, double sign, double weight, double other_sign, double other_weight, REAL* work,
    int widest, NET, BATCH, TRACE) {
    MAKE_NET;
    MAKE_BATCH;
    MAKE_TRACE;
    const Difference difference = {
        step, {sign, other_sign}, {weight, other_weight}, !flags[NOT_FINITE]};
    REAL* own = work + 2ll * blockIdx.x * widest;
    for (int i = blockIdx.x; i < far_size; i += gridDim.x) {
        const REAL found = far_changes(i, params, net, batch, trace, difference, own, widest);
        if (threadIdx.x == 0) {
            gradient[i] = found;
        }
    }
    near_differences(
        far_size, size, params, net, batch, trace, difference,
        [&](int i, double found) { gradient[i] = (REAL)found; });
}
#endif

#if IS_FOR(3)
// Losses and numbers of correct labels of all samples.
__global__ void evaluate(const REAL* params, const unsigned int* flags, double* hits, NET, BATCH, TRACE) {
    MAKE_NET;
    MAKE_BATCH;
    const int outputs = net.sizes[layers];
    REAL* own = values + (long long)blockIdx.x * units;
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        const long long row = batch.row(s);
        const REAL* scores =
            forward(params, net, batch, s, flags, own, nullptr, (REAL*)block_memory());
        const double loss = loss_of(
            net.loss, scores, outputs, batch.t, row, REAL(1), nullptr, block_memory());
        if (threadIdx.x == 0) {
            losses[s] = loss;
            hits[s] = hits_of(net.loss, scores, outputs, batch.t, row);
        }
        __syncthreads();
    }
}
#endif

#if IS_FOR(4)
__global__ void gather_rows(int inputs, BATCH, REAL* rows) {
    MAKE_BATCH;
    gather(batch, inputs, rows);
}

__global__ void hidden_values(
    REAL* z, const REAL* b, REAL* kept, long long count, int width, int activation, int layer,
    DROPOUT, long long step) {
    const Dropout dropout = MAKE_DROPOUT(step);
    add_bias_and_activate(z, b, kept, count, width, ACTIVATION_OF(activation), layer, dropout);
}

__global__ void output_errors(
    REAL* scores, const REAL* b, int loss_kind, int outputs, BATCH, REAL* errors, double* losses,
    unsigned int* flags) {
    MAKE_BATCH;
    score_errors(scores, b, LOSS_OF(loss_kind), batch, outputs, errors, losses, flags);
}

__global__ void hidden_errors(
    REAL* errors, const REAL* values, const REAL* kept, long long count, int width, int activation,
    int layer, DROPOUT, long long step) {
    const int kind = ACTIVATION_OF(activation);
    const Dropout dropout = MAKE_DROPOUT(step);
    FOR_EACH(i, count) {
        const REAL z = keeps_pre_activation(kind) ? kept[i] : REAL(0);
        const REAL a = dropout.drops() ? kept[i] : values[i];
        REAL error = errors[i];
        if (dropout.drops()) {
            error *= dropout.factor(layer, (int)(i / width), (int)(i % width));
        }
        errors[i] = error * slope(kind, z, a);
    }
}

// A sum of squares of each block, for the norm of a gradient.
__global__ void gradient_squares(const REAL* gradient, int size, double* squares) {
    const double sum = sum_of_squares(gradient, size);
    if (threadIdx.x == 0) {
        squares[blockIdx.x] = sum;
    }
}

// Does nothing after a non-finite loss. A gradient is clipped if there are sums of its squares.
__global__ void update_parameters(
    STATE, RULE, LAYERS, long long step, const REAL* gradient, double most, const double* squares,
    int count) {
    MAKE_STATE;
    MAKE_RULE;
    MAKE_LAYERS;
    if (flags[STOPPED]) {
        return;
    }
    const bool clips = CLIPS_OF(squares != nullptr);
    const REAL factor = clips ? clipping_factor(most, squares, count) : REAL(1);
    FOR_EACH(i, size) {
        const REAL g = clips ? gradient[i] * factor : gradient[i];
        update(rule, step, state, (int)i, g, rule.decays() && is_bias((int)i, net));
    }
}
#endif

#if IS_FOR(5)
// Parts of the sums of a layer's values, for an evaluation; the first layer reads samples.
__global__ void __launch_bounds__(TILE_THREADS, 1) tile_values(
    const REAL* from, const REAL* w, int inputs, int outputs, int parts, REAL* to, BATCH) {
    const Factor<REAL> matrix = {w, 1, outputs};
    const long long size = (long long)samples * outputs;
    unsigned int first_block = 0;
    if (from == nullptr) {
        const Product<INPUT> product = {
            {x, inputs, 1}, matrix, samples, outputs, inputs, parts, -1, divisor, to, size};
        multiply(product, first_block);
    } else {
        const Product<REAL> product = {
            {from, inputs, 1}, matrix, samples, outputs, inputs, parts, -1, 1, to, size};
        multiply(product, first_block);
    }
}

// Values from the parts of their sums.
__global__ void tile_join(
    const REAL* sums, const REAL* b, int width, int activation, int parts, int samples, REAL* to) {
    const Finish finish = {b, nullptr, nullptr, activation};
    const long long size = (long long)samples * width;
    FOR_EACH(i, size) {
        to[i] = finish.of(joined(sums, parts, size, i), i, (int)(i % width));
    }
}

// Losses and numbers of correct labels from the scores.
__global__ void tile_hits(
    const REAL* scores, int loss_kind, int outputs, BATCH, double* losses, double* hits) {
    MAKE_BATCH;
    FOR_EACH(s, samples) {
        const REAL* own = scores + s * outputs;
        const long long row = batch.row((int)s);
        losses[s] = thread_loss(LOSS_OF(loss_kind), own, outputs, batch.t, row);
        hits[s] = hits_of(LOSS_OF(loss_kind), own, outputs, batch.t, row);
    }
}
#endif

#if IS_FOR(6)
// All updates in one cooperative launch, as `train` does them, by tiled products.
__global__ void __launch_bounds__(TILE_THREADS, 1) train_tiles(
    STATE, RULE, long long total, NET, BATCH, const int* splits, int at_once, int is_fused, int room,
    REAL* gathered, REAL* values, REAL* errors, REAL* sums, REAL* gradients, double* losses) {
    Phases& phases = *(Phases*)((char*)block_memory() + TILE_BYTES);
    const auto batch_of = [&](int step) {
        const long long start = (long long)step * samples, left = total - start;
        const int count = left < samples ? (left > 0 ? (int)left : 0) : samples;
        return Batch{x, divisor, {t}, order + start, count, weights};
    };
    if (threadIdx.x == 0) {
        phases.net = {layers, has_bias, ACTIVATION_OF(activation), LOSS_OF(loss_kind), sizes};
        phases.state = {params, first_slot, second_slot, flags};
        phases.rule = {
            optimizer, lr, first, second, third, decay_of_weights, decay_of_biases, coefficients};
        phases.buffers = {gathered, values, errors, sums, gradients};
        phases.size = size;
        phases.room = room;
        phases.at_once = at_once;
        phases.is_fused = is_fused;
        phases.plan((const Split*)splits);
        phases.next = batch_of(0);
    }
    for (int step = -1; (long long)step * samples < total; ++step) {
        if (threadIdx.x == 0 && step >= 0) {
            phases.batch = phases.next;
            phases.next = batch_of(step + 1);
            phases.losses = losses + (long long)step * samples;
            phases.step = step;
            if (step == 0 || phases.batch.samples < samples) {
                phases.take(phases.batch.samples);
            }
        }
        __syncthreads();
        if (!phases.do_update(step < 0)) {
            return;
        }
    }
}
#endif

}  // extern "C"
