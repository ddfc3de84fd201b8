// Loss of one sample and its derivative by the scores; a block has the sample.

#pragma once

#include "grid.cuh"

enum Loss { CROSS_ENTROPY, SUM_SQUARED_ERROR };

// Class labels, one of each sample.
struct Labels {
    const int* label;
    __device__ REAL at(long long row, int, int unit) const { return label[row] == unit ? 1 : 0; }
};

// Targets of each sample and output.
struct Targets {
    const REAL* target;
    __device__ REAL at(long long row, int outputs, int unit) const {
        return target[row * outputs + unit];
    }
};

// Three sums over outputs, found together.
struct Sums {
    double powers, targets, along;
    __device__ Sums operator+(const Sums& other) const {
        return {powers + other.powers, targets + other.targets, along + other.along};
    }
};

__device__ inline REAL largest_of(const REAL* scores, int outputs, double* shared) {
    REAL largest = scores[0];
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        largest = Largest::join(largest, scores[j]);
    }
    return over_block<Largest>(largest, outputs, (REAL*)shared);
}

// Turn scores into probabilities.
__device__ inline void softmax(REAL* scores, int outputs, double* shared) {
    const REAL largest = largest_of(scores, outputs, shared);
    double sum = 0;
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        scores[j] = exp(scores[j] - largest);
        sum += scores[j];
    }
    sum = over_block<Sum>(sum, outputs, shared);
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        scores[j] /= (REAL)sum;
    }
    __syncthreads();
}

// Cross entropy of softmax: T logsumexp(a) - Σ t a, where T = Σ t. The first thread gets it.
__device__ inline double cross_entropy(
    const REAL* scores, int outputs, TARGET t, long long row, REAL scale, REAL* error,
    double* shared) {
    const REAL largest = largest_of(scores, outputs, shared);
    Sums sums = {0, 0, 0};
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        const REAL target = t.at(row, outputs, j), score = scores[j] - largest;
        // Relative to the largest, or else two large numbers would cancel.
        const double along = target == 0 ? 0 : (double)target * (double)score;
        sums = sums + Sums{exp(score), target, along};
    }
    sums = over_block<Sum>(sums, outputs, (Sums*)shared);
    if (error != nullptr) {
        for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
            const REAL p = exp(scores[j] - largest) / (REAL)sums.powers;
            error[j] = ((REAL)sums.targets * p - t.at(row, outputs, j)) * scale;
        }
    }
    return threadIdx.x == 0 ? sums.targets * log(sums.powers) - sums.along : 0;
}

// Half the sum of squared differences.
__device__ inline double sum_squared_error(
    const REAL* scores, int outputs, TARGET t, long long row, REAL scale, REAL* error,
    double* shared) {
    double sum = 0;
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        const REAL difference = scores[j] - t.at(row, outputs, j);
        sum += 0.5 * (double)difference * (double)difference;
        if (error != nullptr) {
            error[j] = difference * scale;
        }
    }
    return over_block<Sum>(sum, outputs, shared);
}

// The loss of one sample, for the first thread. Writes its derivative by the scores, times `scale`,
// unless error is null.
__device__ inline double loss_of(
    int loss, const REAL* scores, int outputs, TARGET t, long long row, REAL scale, REAL* error,
    double* shared) {
    return loss == CROSS_ENTROPY
               ? cross_entropy(scores, outputs, t, row, scale, error, shared)
               : sum_squared_error(scores, outputs, t, row, scale, error, shared);
}

// Whether a sample's largest score names its label, or its largest target.
__device__ inline bool is_hit(const REAL* scores, int outputs, TARGET t, long long row) {
    int best = 0, wanted = 0;
    bool is_number = scores[0] == scores[0];
    for (int j = 1; j < outputs; ++j) {
        const REAL most = t.at(row, outputs, wanted);
        best = scores[j] > scores[best] ? j : best;
        wanted = t.at(row, outputs, j) > most ? j : wanted;
        is_number = is_number && scores[j] == scores[j];
    }
    return is_number && best == wanted;
}

// Write down the loss of a sample. One that is not finite, or is beyond the range of the net's numbers,
// stops the training.
__device__ inline void keep_loss(double loss, double* place, unsigned int* flags) {
    const bool is_finite = isfinite((REAL)loss);
    *place = is_finite ? loss : (double)(REAL)loss;
    if (!is_finite) {
        atomicExch(flags + STOPPED, 1u);
    }
}

// The same of a sample that a block has.
__device__ inline void store_loss(double loss, double* place, unsigned int* flags) {
    if (threadIdx.x == 0) {
        keep_loss(loss, place, flags);
    }
}
