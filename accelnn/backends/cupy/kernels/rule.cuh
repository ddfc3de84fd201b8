// The hyperparameters of an optimiser, and weight decay.

#pragma once

// `first` and `second` are μ, α, or β₁ and β₂.
struct Rule {
    int optimizer;
    double lr, first, second, eps, decay_of_weights, decay_of_biases;
    // Adam's η / (1 - β₁ᵏ) and √(1 - β₂ᵏ) for every update.
    const double* corrections;

    // Biases decay only if weights do.
    __device__ bool decays() const { return DECAYS_OF(decay_of_weights > 0); }
};

// The default: weight decay is part of the gradient.
__device__ inline void add_decay(const Rule&, REAL& p, REAL& g, double factor) {
    g += REAL(factor) * p;
}
