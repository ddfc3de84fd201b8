// Softmax followed by cross entropy, T logsumexp(a) - Σ t a, where T = Σ t.

#pragma once

#include "numbers.cuh"
#include "targets.cuh"

namespace formulas::cross_entropy {

// Three sums over outputs, in one reduction.
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

// The terms of one score, relative to the largest score so that large numbers do not cancel.
__device__ inline Sums terms_of(REAL score, REAL target) {
    return {exp(score), target, target == 0 ? 0 : (double)target * (double)score};
}

// Loss and error of a sample, computed by a block. The first thread returns the loss.
__device__ inline double of_block(
    const REAL* scores, int outputs, TARGET t, long long row, REAL scale, REAL* error,
    double* shared) {
    const REAL largest = largest_of(scores, outputs, shared);
    Sums sums = {0, 0, 0};
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        sums = sums + terms_of(scores[j] - largest, t.at(row, outputs, j));
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

// The loss of a sample, computed by one thread.
__device__ inline double of_thread(const REAL* scores, int outputs, TARGET t, long long row) {
    REAL largest = scores[0];
    for (int j = 1; j < outputs; ++j) {
        largest = Largest::join(largest, scores[j]);
    }
    Sums sums = {0, 0, 0};
    for (int j = 0; j < outputs; ++j) {
        sums = sums + terms_of(scores[j] - largest, t.at(row, outputs, j));
    }
    return sums.targets * log(sums.powers) - sums.along;
}

// Losses and errors of several samples, computed by a block with a thread for each output. There is room
// for a number for each in `powers` and `along`.
template <typename Store>
__device__ inline void of_samples(
    const REAL* scores, const REAL* targets, int samples, int outputs, REAL scale, REAL* errors,
    REAL* powers, REAL* along, Store store_loss) {
    for (int i = threadIdx.x; i < samples * outputs; i += blockDim.x) {
        const REAL* own = scores + i / outputs * outputs;
        REAL largest = own[0];
        for (int j = 1; j < outputs; ++j) {
            largest = Largest::join(largest, own[j]);
        }
        const REAL score = scores[i] - largest;
        powers[i] = exp(score);
        along[i] = targets[i] == 0 ? REAL(0) : targets[i] * score;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < samples * outputs; i += blockDim.x) {
        const int first = i / outputs * outputs;
        REAL sum = 0, total = 0, together = 0;
        for (int j = first; j < first + outputs; ++j) {
            sum += powers[j];
            total += targets[j];
            together += along[j];
        }
        errors[i] = (total * (powers[i] / sum) - targets[i]) * scale;
        if (i == first) {
            store_loss(i / outputs, total * log(sum) - together);
        }
    }
}

// The terms of the change for an output with this probability whose score changes by d.
__device__ inline Sums change_terms(REAL probability, REAL target, REAL d) {
    return {probability * exp_change(d), target, target * d};
}

// T log1p(Σ p expm1(d)) - Σ t d.
__device__ inline double change(const Sums& sums) {
    return sums.targets * log_change(sums.powers) - sums.along;
}

}  // namespace formulas::cross_entropy
