// What an optimiser was configured with, and how weights decay.

#pragma once

// `first` and `second` are μ, α, or β₁ and β₂.
struct Rule {
    int optimizer;
    double lr, first, second, eps, decay_of_weights, decay_of_biases;
    // η / (1 - β₁ᵏ) and √(1 - β₂ᵏ) of every update, which Adam needs.
    const double* corrections;

    // Whether there is any: biases decay only where weights do.
    __device__ bool decays() const { return DECAYS_OF(decay_of_weights > 0); }
};

// By the gradient, of all rules that have no other way.
__device__ inline void add_decay(const Rule&, REAL& p, REAL& g, double factor) {
    g += REAL(factor) * p;
}
