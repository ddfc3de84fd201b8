// What a call cannot take, found on the device so that the host waits for one answer.

#pragma once

#include "grid.cuh"

// A target, whose type is REAL if `kind` is 0, and otherwise an integer of so many bytes, negative if it
// is signed. Rounding moves no integer into the range of classes.
__device__ inline double target_at(const void* t, int kind, long long i) {
    switch (kind) {
        case 1: return ((const unsigned char*)t)[i];
        case 2: return ((const unsigned short*)t)[i];
        case 4: return ((const unsigned int*)t)[i];
        case 8: return (double)((const unsigned long long*)t)[i];
        case -1: return ((const signed char*)t)[i];
        case -2: return ((const short*)t)[i];
        case -4: return ((const int*)t)[i];
        case -8: return (double)((const long long*)t)[i];
        default: return ((const REAL*)t)[i];
    }
}

__device__ inline void flag_not_finite(const REAL* params, int size, unsigned int* flags) {
    FOR_EACH(i, size) {
        if (!isfinite(params[i])) {
            atomicExch(flags + NOT_FINITE, 1u);
        }
    }
}

// Flag magnitudes of `limit` or more, of which a NaN allows all.
__device__ inline void flag_large(
    const REAL* params, int size, double limit, unsigned int* flags) {
    FOR_EACH(i, size) {
        if (fabs((double)params[i]) >= limit) {
            atomicExch(flags + UNFIT, 1u);
        }
    }
}

// Flag targets out of range, and write the others as labels unless that is null.
__device__ inline void flag_targets(
    const void* t, int kind, long long count, double least, double most, int* labels,
    unsigned int* flags) {
    FOR_EACH(i, count) {
        const double target = target_at(t, kind, i);
        const bool fits = target >= least && target <= most;
        if (!fits) {
            atomicExch(flags + UNFIT, 1u);
        }
        if (labels != nullptr) {
            labels[i] = fits ? (int)target : 0;
        }
    }
}
