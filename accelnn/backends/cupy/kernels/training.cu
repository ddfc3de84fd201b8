// Kernels of a net: its gradient, its training, and its evaluation.
//
// REAL, INPUT, TARGET and TARGET_ELEMENT are said when this is compiled.

#include "differences.cuh"
#include "optimizers.cuh"
#include "passes.cuh"

#define NET_AND_BATCH                                                                             \
    int layers, int has_bias, int activation, int loss_kind, const int *sizes, const INPUT *x,   \
        REAL unit_of_input, const TARGET_ELEMENT *t, const long long *order, int samples,        \
        int units, REAL *values, REAL *errors, double *losses

#define MADE_OF_THEM                                                                              \
    const Net net = {layers, has_bias, activation, loss_kind, sizes};                             \
    [[maybe_unused]] const TARGET target{t};                                                                     \
    [[maybe_unused]] const Trace trace = {units, values, errors, losses}

extern "C" {

// The first half of a step: losses and errors of a batch. Launched with as many blocks as samples.
__global__ void batch_errors(const REAL* params, NET_AND_BATCH) {
    MADE_OF_THEM;
    sample_pass(params, net, x, unit_of_input, target, order, samples, trace);
}

// The second half without an update.
__global__ void batch_gradient(REAL* gradient, double* loss, long long size, NET_AND_BATCH) {
    MADE_OF_THEM;
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long i = first; i < size; i += (long long)gridDim.x * blockDim.x) {
        gradient[i] = gradient_of(i, net, x, unit_of_input, order, samples, trace);
    }
    store_loss(losses, samples, loss);
}

// Steps of training in one launch of blocks that are all on the device at once.
//
// `loss` has one place for each step and begins with NaN; a loss that is not finite ends the
// training before its update. `corrections` holds two numbers of each step, for Adam.
__global__ void train(
    REAL* params, REAL* first_slot, REAL* second_slot, long long size, double* loss,
    long long total, int batch, int optimizer, double lr, double first, double second, double eps,
    const double* corrections, unsigned int* arrived, NET_AND_BATCH) {
    MADE_OF_THEM;
    const Rule rule = {optimizer, lr, first, second, eps};
    const long long own = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long start = 0, step = 0; start < total; start += batch, ++step) {
        const int count = (int)(total - start < batch ? total - start : batch);
        const long long* chosen = order + start;
        sample_pass(params, net, x, unit_of_input, target, chosen, count, trace);
        grid_barrier(arrived);
        // Every thread sums the same losses in the same order, and so they all stop together.
        double sum = 0;
        for (int s = 0; s < count; ++s) {
            sum += losses[s];
        }
        if (own == 0) {
            loss[step] = sum / count;
        }
        if (!isfinite(sum)) {
            return;
        }
        for (long long i = own; i < size; i += (long long)gridDim.x * blockDim.x) {
            const REAL g = gradient_of(i, net, x, unit_of_input, chosen, count, trace);
            update(
                rule, corrections[2 * step], corrections[2 * step + 1], g, params + i,
                first_slot + i, second_slot + i);
        }
        grid_barrier(arrived);
    }
}

// What differences need of a batch: pre-activations in `errors`, and in `values` what they become,
// under cross entropy the probabilities.
__global__ void batch_values(const REAL* params, NET_AND_BATCH) {
    MADE_OF_THEM;
    const int outputs = sizes[layers];
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        REAL* own = values + (long long)s * units;
        REAL* scores = forward(
            params, net, x + order[s] * sizes[0], unit_of_input, own,
            errors + (long long)s * units, (REAL*)block_memory());
        if (loss_kind == CROSS_ENTROPY) {
            probabilities(scores, outputs, block_memory());
        }
    }
}

// The gradient by structured differences, one launch for all parameters. `work` has room for
// two times `widest` numbers of each block.
__global__ void differences(
    const REAL* params, REAL* gradient, long long size, long long far_size, double step,
    double sign, double weight, double other_sign, double other_weight, REAL* work, int widest,
    NET_AND_BATCH) {
    MADE_OF_THEM;
    const Difference difference = {step, {sign, other_sign}, {weight, other_weight}};
    REAL* own = work + 2ll * blockIdx.x * widest;
    for (long long i = blockIdx.x; i < far_size; i += gridDim.x) {
        const REAL found = far_difference(
            place_of(i, net), params, net, x, unit_of_input, target, order, samples, trace,
            difference, own, widest);
        if (threadIdx.x == 0) {
            gradient[i] = found;
        }
    }
    const long long first = far_size + (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long i = first; i < size; i += (long long)gridDim.x * blockDim.x) {
        gradient[i] = near_difference(
            place_of(i, net), params, net, x, unit_of_input, target, order, samples, trace,
            difference);
    }
}

// Losses of samples, and whether the largest score names the label or the largest target.
__global__ void evaluate(const REAL* params, int* hits, NET_AND_BATCH) {
    MADE_OF_THEM;
    const int outputs = sizes[layers];
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        const long long row = order[s];
        REAL* own = values + (long long)blockIdx.x * units;
        const REAL* scores = forward(
            params, net, x + row * sizes[0], unit_of_input, own, nullptr,
            (REAL*)block_memory());
        const double loss = loss_of(
            loss_kind, scores, outputs, target, row, REAL(1), (REAL*)nullptr, block_memory());
        if (threadIdx.x == 0) {
            int best = 0, wanted = 0;
            bool is_number = scores[0] == scores[0];
            for (int j = 1; j < outputs; ++j) {
                best = scores[j] > scores[best] ? j : best;
                wanted = target.at(row, outputs, j) > target.at(row, outputs, wanted) ? j : wanted;
                is_number = is_number && scores[j] == scores[j];
            }
            losses[s] = loss;
            hits[s] = is_number && best == wanted;
        }
        __syncthreads();
    }
}

}  // extern "C"
