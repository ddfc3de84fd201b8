// The loss of a sample, and its derivative with respect to the scores.

#pragma once

#include "formulas.cuh"

// The loss of a sample, computed by a block and returned to its first thread. Writes the derivative with
// respect to the scores, times `scale`, unless error is null.
__device__ inline double loss_of(
    int loss, const REAL* scores, int outputs, TARGET t, long long row, REAL scale, REAL* error,
    double* shared) {
    if (loss == CROSS_ENTROPY) {
        return formulas::cross_entropy::of_block(scores, outputs, t, row, scale, error, shared);
    }
    double sum = 0;
    for (int j = threadIdx.x; j < outputs; j += blockDim.x) {
        const REAL score = scores[j], target = t.at(row, outputs, j);
        sum += loss_value(loss, score, target);
        if (error != nullptr) {
            error[j] = loss_slope(loss, score, target) * scale;
        }
    }
    return over_block<Sum>(sum, outputs, shared);
}

// The loss of a sample, computed by one thread.
__device__ inline double thread_loss(
    int loss, const REAL* scores, int outputs, TARGET t, long long row) {
    if (loss == CROSS_ENTROPY) {
        return formulas::cross_entropy::of_thread(scores, outputs, t, row);
    }
    double sum = 0;
    for (int j = 0; j < outputs; ++j) {
        sum += loss_value(loss, scores[j], t.at(row, outputs, j));
    }
    return sum;
}

// Losses and errors of several samples, computed by a block with a thread for each output. There is room
// for a number for each in `powers` and `sums`.
template <typename Store>
__device__ inline void block_losses(
    int loss, const REAL* scores, const REAL* targets, int samples, int outputs, REAL scale,
    REAL* errors, REAL* powers, REAL* sums, Store store_loss) {
    if (loss == CROSS_ENTROPY) {
        formulas::cross_entropy::of_samples(
            scores, targets, samples, outputs, scale, errors, powers, sums, store_loss);
        return;
    }
    for (int i = threadIdx.x; i < samples * outputs; i += blockDim.x) {
        sums[i] = loss_value(loss, scores[i], targets[i]);
        errors[i] = loss_slope(loss, scores[i], targets[i]) * scale;
    }
    __syncthreads();
    for (int s = threadIdx.x; s < samples; s += blockDim.x) {
        REAL sum = 0;
        for (int j = s * outputs; j < (s + 1) * outputs; ++j) {
            sum += sums[j];
        }
        store_loss(s, sum);
    }
}

// Whether the argmax of a sample's scores is its label, or the argmax of its targets.
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

// The number of correct labels of a sample, 0 or 1 if it has one class label. With a NaN among the
// scores, none is correct.
__device__ inline int hits_of(
    int loss, const REAL* scores, int outputs, TARGET t, long long row) {
    if (!counts_labels(loss)) {
        return is_hit(scores, outputs, t, row);
    }
    int right = 0;
    for (int j = 0; j < outputs; ++j) {
        if (scores[j] != scores[j]) {
            return 0;
        }
        right += is_right(loss, scores[j], t.at(row, outputs, j));
    }
    return right;
}

// Store the loss of a sample. One that is not finite, or overflows REAL, stops the training.
__device__ inline void keep_loss(double loss, double* place, unsigned int* flags) {
    const bool is_finite = isfinite((REAL)loss);
    *place = is_finite ? loss : (double)(REAL)loss;
    if (!is_finite) {
        atomicExch(flags + STOPPED, 1u);
    }
}

// The same, called by all threads of a block.
__device__ inline void store_loss(double loss, double* place, unsigned int* flags) {
    if (threadIdx.x == 0) {
        keep_loss(loss, place, flags);
    }
}
