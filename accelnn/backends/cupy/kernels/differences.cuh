// Structured finite differences: moving one weight moves one unit, and what that unit feeds.

#pragma once

#include "changes.cuh"

// (f(x + h) - f(x - h)) / 2h and its like: one or two moves, each with the weight of its change.
struct Difference {
    double step;
    double sign[2], weight[2];
};

// Where the parameters of a layer begin.
__device__ inline long long start_of(int layer, Net net) {
    long long start = 0;
    for (int i = 0; i < layer; ++i) {
        start += (long long)(net.sizes[i] + net.has_bias) * net.sizes[i + 1];
    }
    return start;
}

// By how much a unit step of a parameter moves its unit's pre-activation: its input.
template <typename Input>
__device__ inline REAL input_of(
    Place at, Net net, const Input* x, REAL unit_of_input, long long row, const REAL* values) {
    if (at.k == net.sizes[at.layer]) {
        return 1;
    }
    if (at.layer == 0) {
        return (REAL)x[row * net.sizes[0] + at.k] * unit_of_input;
    }
    return values[at.unit - net.sizes[at.layer] + at.k];
}

template <typename Target>
__device__ inline double total_of(Target t, long long row, int outputs) {
    double total = 0;
    for (int o = 0; o < outputs; ++o) {
        total += t.at(row, outputs, o);
    }
    return total;
}

// A parameter of the last layer, or of the one before: one thread has it.
template <typename Input, typename Target>
__device__ inline REAL near_difference(
    Place at, const REAL* params, Net net, const Input* x, REAL unit_of_input, Target t,
    const long long* order, int samples, Trace trace, Difference difference) {
    const int outputs = net.sizes[net.layers];
    const bool is_last = at.layer == net.layers - 1;
    const REAL* w =
        is_last ? nullptr : params + start_of(net.layers - 1, net) + (long long)at.j * outputs;
    double sum = 0;
    for (int s = 0; s < samples; ++s) {
        const REAL* values = trace.values + (long long)s * trace.units;
        const REAL* pre = trace.errors + (long long)s * trace.units;
        const REAL* now = values + trace.units - outputs;
        const REAL input = input_of(at, net, x, unit_of_input, order[s], values);
        if (input == 0) {
            continue;
        }
        const double total = total_of(t, order[s], outputs);
        for (int move = 0; move < 2; ++move) {
            if (difference.weight[move] == 0) {
                continue;
            }
            REAL d = input * (REAL)(difference.sign[move] * difference.step);
            Sums sums = {0, 0};
            if (is_last) {
                add_output(net.loss, now[at.j], t.at(order[s], outputs, at.j), d, &sums);
            } else {
                d = activation_change(net.activation, pre[at.unit + at.j], d);
                for (int o = 0; o < outputs; ++o) {
                    add_output(net.loss, now[o], t.at(order[s], outputs, o), d * w[o], &sums);
                }
            }
            sum += difference.weight[move] * loss_change(net.loss, total, sums);
        }
    }
    return sum / difference.step / samples;
}

// A parameter further down: one block has it. `work` holds two layers of changes.
template <typename Input, typename Target>
__device__ inline REAL far_difference(
    Place at, const REAL* params, Net net, const Input* x, REAL unit_of_input, Target t,
    const long long* order, int samples, Trace trace, Difference difference, REAL* work,
    int widest) {
    const int outputs = net.sizes[net.layers];
    double sum = 0;
    for (int s = 0; s < samples; ++s) {
        const REAL* values = trace.values + (long long)s * trace.units;
        const REAL* pre = trace.errors + (long long)s * trace.units;
        const REAL* now = values + trace.units - outputs;
        const REAL input = input_of(at, net, x, unit_of_input, order[s], values);
        if (input == 0) {
            continue;
        }
        const double total = total_of(t, order[s], outputs);
        for (int move = 0; move < 2; ++move) {
            if (difference.weight[move] == 0) {
                continue;
            }
            const REAL moved = activation_change(
                net.activation, pre[at.unit + at.j],
                input * (REAL)(difference.sign[move] * difference.step));
            Sums sums = {0, 0};
            int unit = at.unit;
            for (int layer = at.layer + 1; layer < net.layers; ++layer) {
                const int inputs = net.sizes[layer], width = net.sizes[layer + 1];
                const REAL* w = params + start_of(layer, net);
                const REAL* from = work + (layer % 2) * widest;
                REAL* to = work + ((layer + 1) % 2) * widest;
                unit += inputs;
                __syncthreads();
                for (int o = threadIdx.x; o < width; o += blockDim.x) {
                    REAL d = 0;
                    if (layer == at.layer + 1) {
                        d = moved * w[(long long)at.j * width + o];
                    } else {
                        for (int i = 0; i < inputs; ++i) {
                            d += from[i] * w[(long long)i * width + o];
                        }
                    }
                    if (layer == net.layers - 1) {
                        add_output(net.loss, now[o], t.at(order[s], outputs, o), d, &sums);
                    } else {
                        to[o] = activation_change(net.activation, pre[unit + o], d);
                    }
                }
            }
            sums.first = over_block<Sum>(sums.first, block_memory());
            sums.second = over_block<Sum>(sums.second, block_memory());
            sum += difference.weight[move] * loss_change(net.loss, total, sums);
        }
    }
    return sum / difference.step / samples;
}
