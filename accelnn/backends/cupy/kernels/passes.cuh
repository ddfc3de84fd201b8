// The two halves of a training step: what each sample does, and what each parameter does.
//
// Of a sample, all layers forward and backward need that sample alone, and of a parameter the whole
// batch: one barrier lies between them, and one after.

#pragma once

#include "activations.cuh"
#include "losses.cuh"

// The architecture. Parameters lie in one buffer, W of shape (inputs, outputs) and b of each layer.
struct Net {
    int layers;
    int has_bias;
    int activation;
    int loss;
    // Widths of all layers, the input first.
    const int* sizes;
};

// What a batch leaves behind for the parameters. Units of all layers but the input lie one after
// the other, `units` of each sample.
struct Trace {
    int units;
    REAL* values;
    REAL* errors;
    double* losses;
};

// z = b + input W of one layer. Threads share out columns, and where there are more threads than
// columns the inputs as well.
template <typename Input>
__device__ inline void affine(
    const Input* input, REAL unit_of_input, const REAL* w, const REAL* b, int inputs, int outputs,
    REAL* z, REAL* shared) {
    const int threads = blockDim.x;
    const int groups = threads > outputs ? threads / outputs : 1;
    const int width = groups > 1 ? outputs : threads;
    const int group = threadIdx.x / width;
    for (int first = 0; first < outputs; first += width) {
        const int j = first + threadIdx.x % width;
        REAL sum = 0;
        if (group < groups && j < outputs) {
            for (int k = group; k < inputs; k += groups) {
                const REAL value = (REAL)input[k] * unit_of_input;
                // Four pixels in five are zero.
                if (value != 0) {
                    sum += value * w[(long long)k * outputs + j];
                }
            }
        }
        __syncthreads();
        shared[threadIdx.x] = sum;
        __syncthreads();
        if (group == 0 && j < outputs) {
            for (int g = 1; g < groups; ++g) {
                sum += shared[g * width + j - first];
            }
            z[j] = b == nullptr ? sum : sum + b[j];
        }
    }
    __syncthreads();
}

__device__ inline void activate(int activation, REAL* z, int n) {
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        z[j] = activated(activation, z[j]);
    }
    __syncthreads();
}

// Scores of one sample, whose hidden values stay in `values`, and before activation in `pre` unless
// that is null. Returns where the scores begin.
template <typename Input>
__device__ inline REAL* forward(
    const REAL* params, Net net, const Input* x, REAL unit_of_input, REAL* values, REAL* pre,
    REAL* shared) {
    const REAL* w = params;
    REAL* from = nullptr;
    REAL* to = values;
    for (int layer = 0; layer < net.layers; ++layer) {
        const int inputs = net.sizes[layer], outputs = net.sizes[layer + 1];
        const REAL* b = w + (long long)inputs * outputs;
        const REAL* bias = net.has_bias ? b : nullptr;
        if (layer == 0) {
            affine(x, unit_of_input, w, bias, inputs, outputs, to, shared);
        } else {
            affine(from, REAL(1), w, bias, inputs, outputs, to, shared);
        }
        if (pre != nullptr) {
            for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
                pre[to - values + j] = to[j];
            }
            __syncthreads();
        }
        if (layer < net.layers - 1) {
            activate(net.activation, to, outputs);
            from = to;
            to += outputs;
        }
        w = b + (net.has_bias ? outputs : 0);
    }
    return to;
}

// Errors of all hidden layers of one sample, from those of the scores, the last of `errors`.
__device__ inline void backward(const REAL* params, Net net, const REAL* values, REAL* errors) {
    long long end = 0;
    int unit = 0;
    for (int layer = 0; layer < net.layers; ++layer) {
        end += (long long)(net.sizes[layer] + (net.has_bias ? 1 : 0)) * net.sizes[layer + 1];
        unit += net.sizes[layer + 1];
    }
    const REAL* w = params + end;
    unit -= net.sizes[net.layers];
    for (int layer = net.layers - 1; layer > 0; --layer) {
        const int inputs = net.sizes[layer], outputs = net.sizes[layer + 1];
        w -= (long long)(inputs + (net.has_bias ? 1 : 0)) * outputs;
        const REAL* error = errors + unit;
        unit -= inputs;
        __syncthreads();
        for (int k = threadIdx.x; k < inputs; k += blockDim.x) {
            REAL sum = 0;
            for (int j = 0; j < outputs; ++j) {
                sum += error[j] * w[(long long)k * outputs + j];
            }
            errors[unit + k] = sum * slope(net.activation, values[unit + k]);
        }
    }
    __syncthreads();
}

// Samples of a batch, one to a block at a time.
template <typename Input, typename Target>
__device__ inline void sample_pass(
    const REAL* params, Net net, const Input* x, REAL unit_of_input, Target t,
    const long long* order, int samples, Trace trace) {
    const int outputs = net.sizes[net.layers];
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        const long long row = order[s];
        REAL* values = trace.values + (long long)s * trace.units;
        REAL* errors = trace.errors + (long long)s * trace.units;
        const REAL* scores = forward(
            params, net, x + row * net.sizes[0], unit_of_input, values, nullptr,
            (REAL*)block_memory());
        const double loss = loss_of(
            net.loss, scores, outputs, t, row, REAL(1) / samples, errors + (scores - values),
            block_memory());
        if (threadIdx.x == 0) {
            trace.losses[s] = loss;
        }
        backward(params, net, values, errors);
    }
}

// Where a parameter belongs: weight k, or the bias, of unit j of a layer, whose units begin at
// `unit` of a trace.
struct Place {
    int layer, unit, k, j;
};

__device__ inline Place place_of(long long place, Net net) {
    Place found = {0, 0, 0, 0};
    for (;; ++found.layer) {
        const int outputs = net.sizes[found.layer + 1];
        const long long size = (long long)(net.sizes[found.layer] + net.has_bias) * outputs;
        if (place < size) {
            found.k = (int)(place / outputs);
            found.j = (int)(place % outputs);
            return found;
        }
        place -= size;
        found.unit += outputs;
    }
}

// The derivative of the loss by one parameter, summed over the batch in the order of samples.
template <typename Input>
__device__ inline REAL gradient_of(
    long long place, Net net, const Input* x, REAL unit_of_input, const long long* order,
    int samples, Trace trace) {
    const Place at = place_of(place, net);
    const int inputs = net.sizes[at.layer];
    const REAL* error = trace.errors + at.unit + at.j;
    REAL sum = 0;
    if (at.k == inputs) {
        for (int s = 0; s < samples; ++s) {
            sum += error[(long long)s * trace.units];
        }
    } else if (at.layer == 0) {
        for (int s = 0; s < samples; ++s) {
            const REAL value = (REAL)x[order[s] * inputs + at.k] * unit_of_input;
            sum += value * error[(long long)s * trace.units];
        }
    } else {
        const REAL* value = trace.values + at.unit - inputs + at.k;
        for (int s = 0; s < samples; ++s) {
            sum += value[(long long)s * trace.units] * error[(long long)s * trace.units];
        }
    }
    return sum;
}

// The mean loss of a batch, in the order of samples; one thread of the grid writes it.
__device__ inline void store_loss(const double* losses, int samples, double* loss) {
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        double sum = 0;
        for (int s = 0; s < samples; ++s) {
            sum += losses[s];
        }
        *loss = sum / samples;
    }
}
