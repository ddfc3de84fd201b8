// One update of one parameter, by the rule that the optimiser names.

#pragma once

#include "formulas.cuh"

// The parameters and the optimiser's state.
struct State {
    REAL *params, *first_slot, *second_slot;
    unsigned int* flags;
};

// Do update number `step`, counted from the first of `coefficients`, for one parameter.
__device__ inline void update(
    const Rule& rule, long long step, const State& state, int index, REAL g, bool is_bias) {
    REAL& p = state.params[index];
    const int optimizer = OPTIMIZER_OF(rule.optimizer);
    if (rule.decays()) {
        const double factor = is_bias ? rule.decay_of_biases : rule.decay_of_weights;
        decay(optimizer, rule, step, p, g, factor);
    }
    update(
        optimizer, rule, step, p, g, state.first_slot[index], state.second_slot[index]);
    if (!isfinite(p)) {
        atomicExch(state.flags + NOT_FINITE, 1u);
    }
}
