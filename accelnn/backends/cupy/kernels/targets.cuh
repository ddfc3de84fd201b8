// The two kinds of targets.

#pragma once

#include "grid.cuh"

// One class label per sample.
struct Labels {
    const int* label;
    __device__ REAL at(long long row, int, int unit) const { return label[row] == unit ? 1 : 0; }

    // The targets of a sample, loaded as early as this is asked for.
    struct OfSample {
        int label;
        __device__ REAL at(int unit) const { return label == unit ? 1 : 0; }
    };
    __device__ OfSample of(long long row, int) const { return {label[row]}; }
};

// One number per sample and output.
struct Targets {
    const REAL* target;
    __device__ REAL at(long long row, int outputs, int unit) const {
        return target[row * outputs + unit];
    }

    struct OfSample {
        const REAL* target;
        __device__ REAL at(int unit) const { return target[unit]; }
    };
    __device__ OfSample of(long long row, int outputs) const { return {target + row * outputs}; }
};
