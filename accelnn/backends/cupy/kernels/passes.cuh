// The two halves of an update: forward and backward passes per sample, then gradients per parameter.
//
// The passes of a sample need no other sample, but the gradient of a parameter needs the whole batch:
// there is one barrier between the halves, and one after them.

#pragma once

#include "batches.cuh"

// The architecture. Parameters are in one buffer, W of shape (inputs, outputs) and b for each layer.
struct Net {
    int layers;
    int has_bias;
    int activation;
    int loss;
    // Widths of all layers, the input first; in shared memory, because they are used everywhere.
    const int* sizes;

    // The number of parameters of a layer.
    __device__ int size(int layer) const {
        return (sizes[layer] + has_bias) * sizes[layer + 1];
    }
};

// Copy the widths of the layers to shared memory.
__device__ inline const int* in_shared_memory(const int* sizes, int layers) {
    int* own = (int*)(block_memory() + 3 * blockDim.x);
    for (int i = threadIdx.x; i <= layers; i += blockDim.x) {
        own[i] = sizes[i];
    }
    __syncthreads();
    return own;
}

// z = b + input W for one layer and sample, where `input(k)` is input k. A block loads inputs to shared
// memory, and its threads divide the columns and parts of their sums.
template <typename Input>
__device__ inline void affine(
    Input input, const REAL* w, const REAL* b, int inputs, int outputs, bool skips_zeros, REAL* z,
    REAL* shared) {
    const int threads = blockDim.x, thread = threadIdx.x;
    REAL *tile = shared, *sums = shared + threads;
    const int parts = parts_of(outputs, inputs < threads ? inputs : threads);
    const int width = parts > 1 ? outputs : threads, part = thread / width;
    for (int first = 0; first < outputs; first += width) {
        const int j = first + thread % width;
        const bool has_part = part < parts && j < outputs;
        REAL sum = 0;
        for (int base = 0; base < inputs; base += threads) {
            const int count = inputs - base < threads ? inputs - base : threads;
            __syncthreads();
            if (thread < count) {
                tile[thread] = input(base + thread);
            }
            __syncthreads();
            if (has_part) {
                // Skipping zeros pays: four pixels in five are zero.
                sum += dot(part, count, parts, skips_zeros, [&](int k) { return tile[k]; },
                    [&](int k) { return w[(base + k) * outputs + j]; });
            }
        }
        sums[thread] = sum;
        __syncthreads();
        if (part == 0 && j < outputs) {
            for (int p = 1; p < parts; ++p) {
                sum += sums[p * width + j - first];
            }
            z[j] = b == nullptr ? sum : sum + b[j];
        }
    }
    __syncthreads();
}

// The forward pass of a sample. Writes hidden values and scores to `values`, and to `pre`, unless it is
// null, pre-activations, or, where none is needed, hidden values without dropout. Returns a pointer to
// the scores.
__device__ inline REAL* forward(
    const REAL* params, const Net& net, const Batch& batch, int sample,
    const unsigned int* flags, REAL* values, REAL* pre, REAL* shared) {
    const long long row = batch.row(sample);
    const bool skips_zeros = !flags[NOT_FINITE];
    const REAL* w = params;
    REAL *from = nullptr, *to = values;
    for (int layer = 0;; ++layer) {
        const int inputs = net.sizes[layer], outputs = net.sizes[layer + 1];
        const REAL* b = net.has_bias ? w + inputs * outputs : nullptr;
        if (layer == 0) {
            affine(
                [&](int k) { return input_at(batch, row, inputs, k); }, w, b, inputs, outputs,
                skips_zeros, to, shared);
        } else {
            affine(
                [&](int k) { return from[k]; }, w, b, inputs, outputs, skips_zeros, to, shared);
        }
        const bool is_last = layer == net.layers - 1;
        for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
            if (pre != nullptr) {
                pre[to - values + j] = to[j];
            }
            if (!is_last) {
                to[j] = activated(net.activation, to[j]);
                if (batch.dropout.drops()) {
                    if (!keeps_pre_activation(net.activation)) {
                        pre[to - values + j] = to[j];
                    }
                    to[j] *= batch.dropout.factor(layer, sample, j);
                }
            }
        }
        __syncthreads();
        if (is_last) {
            return to;
        }
        from = to;
        to += outputs;
        w += net.size(layer);
    }
}

// The errors of a sample's hidden layers from those of its scores, the last of `errors`. Threads divide
// the inputs of a layer and parts of their sums, so that neighbours read the same row of weights.
__device__ inline void backward(
    const REAL* params, const Net& net, const Dropout& dropout, int sample, const REAL* values,
    REAL* errors, REAL* shared) {
    const REAL* w = params;
    int unit = 0;
    for (int layer = 0; layer < net.layers - 1; ++layer) {
        w += net.size(layer);
        unit += net.sizes[layer + 1];
    }
    for (int layer = net.layers - 1; layer > 0; --layer) {
        const int inputs = net.sizes[layer], outputs = net.sizes[layer + 1];
        const int parts = parts_of(inputs, outputs);
        const int part = threadIdx.x % parts, rows = blockDim.x / parts;
        const REAL* error = errors + unit;
        unit -= inputs;
        for (int first = 0; first < inputs; first += rows) {
            const int row = threadIdx.x / parts, k = first + row;
            const bool has_part = row < rows && k < inputs;
            __syncthreads();
            shared[threadIdx.x] =
                has_part ? dot(part, outputs, parts, false, [&](int j) { return error[j]; },
                               [&](int j) { return w[k * outputs + j]; })
                         : REAL(0);
            __syncthreads();
            if (has_part && part == 0) {
                REAL sum = 0;
                for (int p = 0; p < parts; ++p) {
                    sum += shared[threadIdx.x + p];
                }
                // The error's place still holds what `forward` has kept for the slope.
                REAL& place = errors[unit + k];
                const REAL z = keeps_pre_activation(net.activation) ? place : REAL(0);
                const REAL a = dropout.drops() ? place : values[unit + k];
                if (dropout.drops()) {
                    sum *= dropout.factor(layer - 1, sample, k);
                }
                place = sum * slope(net.activation, z, a);
            }
        }
        w -= net.size(layer - 1);
    }
    __syncthreads();
}

// Forward and backward passes of a batch, one sample per block at a time.
__device__ inline void sample_pass(
    const REAL* params, const Net& net, const Batch& batch, const Trace& trace,
    unsigned int* flags) {
    const int outputs = net.sizes[net.layers];
    REAL* shared = (REAL*)block_memory();
    for (int s = blockIdx.x; s < batch.samples; s += gridDim.x) {
        const long long row = batch.row(s);
        REAL* values = trace.values + (long long)s * trace.units;
        REAL* errors = trace.errors + (long long)s * trace.units;
        const bool keeps = keeps_pre_activation(net.activation) || batch.dropout.drops();
        REAL* pre = keeps ? errors : nullptr;
        const REAL* scores = forward(params, net, batch, s, flags, values, pre, shared);
        const REAL weight = batch.weight(row);
        const double loss = loss_of(
            net.loss, scores, outputs, batch.t, row, weight / batch.samples,
            errors + (scores - values), block_memory());
        store_loss(loss * weight, trace.losses + s, flags);
        backward(params, net, batch.dropout, s, values, errors, shared);
    }
}

// The position of a parameter: weight k, or the bias if k is the number of inputs, of unit j of a layer
// whose units begin at index `unit` of a trace.
struct Place {
    int layer, unit, k, j;
};

__device__ inline Place place_of(int index, const Net& net) {
    Place found = {0, 0, 0, 0};
    for (; index >= net.size(found.layer); ++found.layer) {
        index -= net.size(found.layer);
        found.unit += net.sizes[found.layer + 1];
    }
    const int outputs = net.sizes[found.layer + 1];
    found.k = index / outputs;
    found.j = index % outputs;
    return found;
}

__device__ inline bool is_bias(int index, const Net& net) {
    const Place at = place_of(index, net);
    return at.k == net.sizes[at.layer];
}

// The derivative of the loss with respect to one parameter, summed over every `stride`th sample.
__device__ inline REAL gradient_of(
    int index, const Net& net, const Batch& batch, const Trace& trace, int first, int stride) {
    const Place at = place_of(index, net);
    const int inputs = net.sizes[at.layer];
    const REAL* errors = trace.errors + at.unit + at.j;
    const auto error = [&](int s) { return errors[(long long)s * trace.units]; };
    if (at.k == inputs) {
        const auto one = [](int) { return REAL(1); };
        return dot(first, batch.samples, stride, false, error, one);
    }
    if (at.layer == 0) {
        const auto input = [&](int s) { return input_at(batch, batch.row(s), inputs, at.k); };
        return dot(first, batch.samples, stride, false, error, input);
    }
    const REAL* values = trace.values + at.unit - inputs + at.k;
    const auto value = [&](int s) { return values[(long long)s * trace.units]; };
    return dot(first, batch.samples, stride, false, error, value);
}

// Call `use(index, derivative)` for every parameter. If there are more threads than parameters, several
// divide the samples of one, and the block handles all of its parameters at once.
template <typename Use>
__device__ inline void each_gradient(
    int size, const Net& net, const Batch& batch, const Trace& trace, Use use) {
    REAL* shared = (REAL*)block_memory();
    const int each = size / gridDim.x + (size % gridDim.x > 0);
    const int parts = each < (int)blockDim.x ? parts_of(each, batch.samples) : 1;
    const int width = blockDim.x / parts, part = threadIdx.x / width;
    const int own = threadIdx.x % width;
    for (int base = blockIdx.x * width; base < size; base += gridDim.x * width) {
        const int index = base + own;
        const bool has_part = part < parts && index < size;
        REAL sum = has_part ? gradient_of(index, net, batch, trace, part, parts) : REAL(0);
        if (parts > 1) {
            shared[threadIdx.x] = sum;
            __syncthreads();
            for (int p = 1; part == 0 && p < parts; ++p) {
                sum += shared[p * width + own];
            }
        }
        if (has_part && part == 0) {
            use(index, sum);
        }
    }
}
