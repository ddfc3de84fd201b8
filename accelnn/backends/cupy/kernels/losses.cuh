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

// Cross entropy of softmax: T logsumexp(a) - Σ t a, where T = Σ t.
template <typename Target>
__device__ inline double cross_entropy(
    const REAL* scores, int outputs, Target t, long long row, REAL scale, REAL* error,
    double* shared) {
    REAL largest = scores[0];
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        largest = Largest::join(largest, scores[j]);
    }
    largest = over_block<Largest>(largest, (REAL*)shared);
    double sum = 0, total = 0, along = 0;
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        const REAL target = t.at(row, outputs, j);
        sum += exp(scores[j] - largest);
        total += target;
        // Relative to the largest, or else two large numbers would cancel.
        if (target != 0) {
            along += (double)target * (double)(scores[j] - largest);
        }
    }
    sum = over_block<Sum>(sum, shared);
    total = over_block<Sum>(total, shared);
    along = over_block<Sum>(along, shared);
    if (error != nullptr) {
        for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
            const REAL p = exp(scores[j] - largest) / (REAL)sum;
            error[j] = ((REAL)total * p - t.at(row, outputs, j)) * scale;
        }
    }
    return total * log(sum) - along;
}

// Turn scores into probabilities.
__device__ inline void probabilities(REAL* scores, int outputs, double* shared) {
    REAL largest = scores[0];
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        largest = Largest::join(largest, scores[j]);
    }
    largest = over_block<Largest>(largest, (REAL*)shared);
    double sum = 0;
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        sum += exp(scores[j] - largest);
    }
    sum = over_block<Sum>(sum, shared);
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        scores[j] = exp(scores[j] - largest) / (REAL)sum;
    }
    __syncthreads();
}

// Half the sum of squared differences.
template <typename Target>
__device__ inline double sum_squared_error(
    const REAL* scores, int outputs, Target t, long long row, REAL scale, REAL* error,
    double* shared) {
    double sum = 0;
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        const REAL difference = scores[j] - t.at(row, outputs, j);
        sum += 0.5 * (double)difference * (double)difference;
        if (error != nullptr) {
            error[j] = difference * scale;
        }
    }
    return over_block<Sum>(sum, shared);
}

// The loss of one sample. Writes its derivative by the scores, times `scale`, unless error is null.
template <typename Target>
__device__ inline double loss_of(
    int loss, const REAL* scores, int outputs, Target t, long long row, REAL scale, REAL* error,
    double* shared) {
    return loss == CROSS_ENTROPY
               ? cross_entropy(scores, outputs, t, row, scale, error, shared)
               : sum_squared_error(scores, outputs, t, row, scale, error, shared);
}
