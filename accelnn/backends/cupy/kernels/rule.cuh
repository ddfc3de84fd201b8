// The hyperparameters of an optimiser, and weight decay.

#pragma once

// `lr` is negative if every update has its own learning rate; `first` to `third` are the numbers of the
// rule's formula, in the order of the fields in Python.
struct Rule {
    int optimizer;
    double lr, first, second, third, decay_of_weights, decay_of_biases;
    // Of every update, the rule's two `coefficients` and the learning rate.
    const double* coefficients;

    __device__ double coefficient(long long step, int k) const { return coefficients[3 * step + k]; }
    __device__ double rate(long long step) const {
        return SCHEDULED_OF(lr < 0) ? coefficient(step, 2) : lr;
    }

    // Biases decay only if weights do.
    __device__ bool decays() const { return DECAYS_OF(decay_of_weights > 0); }
};

// The default: weight decay is part of the gradient.
__device__ inline void add_decay(const Rule&, long long, REAL& p, REAL& g, double factor) {
    g += REAL(factor) * p;
}
