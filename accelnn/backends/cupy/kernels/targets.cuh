// The two kinds of targets.

#pragma once

#include "grid.cuh"

// One class label per sample.
struct Labels {
    const int* label;
    __device__ REAL at(long long row, int, int unit) const { return label[row] == unit ? 1 : 0; }
};

// One number per sample and output.
struct Targets {
    const REAL* target;
    __device__ REAL at(long long row, int outputs, int unit) const {
        return target[row * outputs + unit];
    }
};
