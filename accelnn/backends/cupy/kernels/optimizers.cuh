// One update of one parameter, with the formulas of accelnn.optimizers.

#pragma once

#include "formulas.cuh"

// The hyperparameters of an optimiser: `first` and `second` are μ, α, or β₁ and β₂.
struct Rule {
    int optimizer;
    double lr, first, second, eps, decay_of_weights, decay_of_biases;
    // Adam's η / (1 - β₁ᵏ) and √(1 - β₂ᵏ) for every update.
    const double* corrections;

    // Biases decay only if weights do.
    __device__ bool decays() const { return DECAYS_OF(decay_of_weights > 0); }
};

// The parameters and the optimiser's state.
struct State {
    REAL *params, *first_slot, *second_slot;
    unsigned int* flags;
};

// Do update number `step`, counted from the first of `corrections`, for one parameter.
__device__ inline void update(
    const Rule& rule, long long step, const State& state, int index, REAL g, bool is_bias) {
    REAL *p = state.params + index, *slot = state.first_slot + index;
    REAL* other = state.second_slot + index;
    const REAL lr = rule.lr, first = rule.first, second = rule.second, eps = rule.eps;
    if (rule.decays()) {
        const double decay = is_bias ? rule.decay_of_biases : rule.decay_of_weights;
        if (rule.optimizer == ADAMW) {
            *p *= REAL(1 - rule.lr * decay);
        } else {
            g += REAL(decay) * *p;
        }
    }
    switch (rule.optimizer) {
        case SGD:
            *p -= lr * g;
            break;
        case MOMENTUM:
            *slot = first * *slot + g;
            *p -= lr * *slot;
            break;
        case NESTEROV:
            *slot = first * *slot + g;
            *p -= lr * (g + first * *slot);
            break;
        case ADAGRAD:
            *slot += g * g;
            *p -= lr * g / (sqrt(*slot) + eps);
            break;
        case RMSPROP:
            *slot = first * *slot + REAL(1 - rule.first) * g * g;
            *p -= lr * g / (sqrt(*slot) + eps);
            break;
        case ADAM:
        case ADAMW:
            *slot = first * *slot + REAL(1 - rule.first) * g;
            *other = second * *other + REAL(1 - rule.second) * g * g;
            *p -= REAL(rule.corrections[2 * step]) * *slot /
                  (sqrt(*other) / REAL(rule.corrections[2 * step + 1]) + eps);
            break;
    }
    if (!isfinite(*p)) {
        atomicExch(state.flags + NOT_FINITE, 1u);
    }
}
