// Targets of samples, as kernels read them.

#pragma once

#include "grid.cuh"

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
