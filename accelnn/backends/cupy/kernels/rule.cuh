// The hyperparameters of an optimiser, and weight decay.

#pragma once

// `first` to `third` are those of its formula, in the order of the fields in Python.
struct Rule {
    int optimizer;
    double lr, first, second, third, decay_of_weights, decay_of_biases;
    // The rule's `coefficients` for every update.
    const double* coefficients;

    // Biases decay only if weights do.
    __device__ bool decays() const { return DECAYS_OF(decay_of_weights > 0); }
};

// The default: weight decay is part of the gradient.
__device__ inline void add_decay(const Rule&, REAL& p, REAL& g, double factor) {
    g += REAL(factor) * p;
}
