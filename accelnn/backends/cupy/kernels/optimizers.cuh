// One update of one parameter; formulas and defaults are those of accelnn.optimizers.

#pragma once

#include "grid.cuh"

enum Optimizer { SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM };

// What an optimiser was configured with: `first` and `second` are μ, α, or β₁ and β₂.
struct Rule {
    int optimizer;
    double lr, first, second, eps;
    // η / (1 - β₁ᵏ) and √(1 - β₂ᵏ) of every update, which Adam needs.
    const double* corrections;
};

// What updates change.
struct State {
    REAL *params, *first_slot, *second_slot;
    unsigned int* flags;
};

// Update number `step` of those that `corrections` are for, of one parameter.
__device__ inline void update(
    const Rule& rule, long long step, const State& state, int index, REAL g) {
    REAL *p = state.params + index, *slot = state.first_slot + index;
    REAL* other = state.second_slot + index;
    const REAL lr = rule.lr, first = rule.first, second = rule.second, eps = rule.eps;
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
