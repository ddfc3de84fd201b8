// Structured finite differences: moving one weight affects one unit, and the layers after it.

#pragma once

#include "passes.cuh"

// A difference such as (f(x + h) - f(x - h)) / 2h: one or two moves, and the weights of their changes.
struct Difference {
    double step;
    double sign[2], weight[2];
    bool skips_zeros;
};

using formulas::cross_entropy::Sums;

// The contribution of one output that changes by d to the sums for the change of the loss. `now` is the
// probability under cross entropy, and the output under all other losses.
__device__ inline Sums output_change(int loss, REAL now, REAL target, REAL d) {
    if (loss == CROSS_ENTROPY) {
        return formulas::cross_entropy::change_terms(now, target, d);
    }
    return {loss_change(loss, now, target, d), 0, 0};
}

__device__ inline double sample_change(int loss, const Sums& sums) {
    return loss == CROSS_ENTROPY ? formulas::cross_entropy::change(sums) : sums.powers;
}

// The index of a layer's first parameter.
__device__ inline int start_of(int layer, const Net& net) {
    int start = 0;
    for (int i = 0; i < layer; ++i) {
        start += net.size(i);
    }
    return start;
}

// Pre-activations and values of one sample, as written by `batch_values`.
struct Sample {
    long long row;
    const REAL *pre, *values, *outputs;
};

__device__ inline Sample sample_of(int s, const Batch& batch, const Trace& trace, int outputs) {
    const REAL* values = trace.values + (long long)s * trace.units;
    const REAL* pre = trace.errors + (long long)s * trace.units;
    return {batch.row(s), pre, values, values + trace.units - outputs};
}

// The change of a unit's pre-activation per change of a parameter: the input that it multiplies.
__device__ inline REAL input_of(
    const Place& at, const Net& net, const Batch& batch, const Sample& sample) {
    const int inputs = net.sizes[at.layer];
    if (at.k == inputs) {
        return 1;
    }
    return at.layer == 0 ? input_at(batch, sample.row, inputs, at.k)
                         : sample.values[at.unit - inputs + at.k];
}

// The weighted sum of the changes of every `stride`th sample's loss. `change(sample, d)` is the change
// for a sample when the parameter's unit moves by d.
template <typename Change>
__device__ inline double changes_of(
    const Place& at, const Net& net, const Batch& batch, const Trace& trace,
    const Difference& difference, int first, int stride, Change change) {
    double sum = 0;
    for (int s = first; s < batch.samples; s += stride) {
        const Sample sample = sample_of(s, batch, trace, net.sizes[net.layers]);
        const REAL input = input_of(at, net, batch, sample);
        // Unrolled so that the arrays of `difference` stay in registers.
#pragma unroll
        for (int move = 0; move < 2; ++move) {
            if (!(difference.skips_zeros && input == 0) && difference.weight[move] != 0) {
                const REAL d = input * (REAL)(difference.sign[move] * difference.step);
                sum += difference.weight[move] * change(sample, d);
            }
        }
    }
    return sum / difference.step / batch.samples;
}

// The changes for a parameter of the last two layers: one thread computes the change of a sample.
__device__ inline double near_changes(
    int index, const REAL* params, const Net& net, const Batch& batch, const Trace& trace,
    const Difference& difference, int first, int stride) {
    const Place at = place_of(index, net);
    const int outputs = net.sizes[net.layers];
    const bool is_last = at.layer == net.layers - 1;
    const REAL* w = is_last ? nullptr : params + start_of(net.layers - 1, net) + at.j * outputs;
    const auto change = [&](const Sample& sample, REAL d) {
        if (!is_last) {
            d = activation_change(net.activation, sample.pre[at.unit + at.j], d);
        }
        Sums sums = {0, 0, 0};
        for (int o = 0; o < outputs; ++o) {
            const REAL moved = is_last ? (o == at.j ? d : REAL(0)) : d * w[o];
            const REAL target = batch.t.at(sample.row, outputs, o);
            sums = sums + output_change(net.loss, sample.outputs[o], target, moved);
        }
        return sample_change(net.loss, sums);
    };
    return changes_of(at, net, batch, trace, difference, first, stride, change);
}

// For a parameter of an earlier layer, a block computes a sample's change. `work` holds two layers of it.
__device__ inline double far_changes(
    int index, const REAL* params, const Net& net, const Batch& batch, const Trace& trace,
    const Difference& difference, REAL* work, int widest) {
    const Place at = place_of(index, net);
    const int outputs = net.sizes[net.layers];
    const auto change = [&](const Sample& sample, REAL d) {
        const REAL moved = activation_change(net.activation, sample.pre[at.unit + at.j], d);
        const REAL* w = params + start_of(at.layer + 1, net);
        Sums sums = {0, 0, 0};
        int unit = at.unit;
        for (int layer = at.layer + 1; layer < net.layers; ++layer) {
            const int inputs = net.sizes[layer], width = net.sizes[layer + 1];
            const REAL* from = work + (layer % 2) * widest;
            REAL* to = work + ((layer + 1) % 2) * widest;
            unit += inputs;
            __syncthreads();
            for (int o = threadIdx.x; o < width; o += blockDim.x) {
                const auto weight = [&](int i) { return w[i * width + o]; };
                const REAL d = layer == at.layer + 1
                                   ? moved * weight(at.j)
                                   : dot(0, inputs, 1, false, [&](int i) { return from[i]; }, weight);
                if (layer == net.layers - 1) {
                    const REAL target = batch.t.at(sample.row, outputs, o);
                    sums = sums + output_change(net.loss, sample.outputs[o], target, d);
                } else {
                    to[o] = activation_change(net.activation, sample.pre[unit + o], d);
                }
            }
            w += net.size(layer);
        }
        return sample_change(net.loss, over_block<Sum>(sums, outputs, (Sums*)block_memory()));
    };
    return changes_of(at, net, batch, trace, difference, 0, 1, change);
}

// Derivatives for parameters from `first` on. A block computes 32 at a time, and its threads divide the
// samples.
template <typename Store>
__device__ inline void near_differences(
    int first, int size, const REAL* params, const Net& net, const Batch& batch,
    const Trace& trace, const Difference& difference, Store store) {
    double* shared = block_memory();
    const int width = blockDim.x < 32 ? blockDim.x : 32, parts = blockDim.x / width;
    const int part = threadIdx.x / width, own = threadIdx.x % width;
    for (int base = first + blockIdx.x * width; base < size; base += gridDim.x * width) {
        const int index = base + own;
        const bool has_part = part < parts && index < size;
        __syncthreads();
        shared[threadIdx.x] =
            has_part
                ? near_changes(index, params, net, batch, trace, difference, part, parts)
                : 0;
        __syncthreads();
        if (has_part && part == 0) {
            double sum = 0;
            for (int p = 0; p < parts; ++p) {
                sum += shared[p * width + own];
            }
            store(index, sum);
        }
    }
}
