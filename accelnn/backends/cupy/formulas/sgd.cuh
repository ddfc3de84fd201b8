// Gradient descent.

#pragma once

#include "rule.cuh"

namespace formulas::sgd {

__device__ inline void update(const Rule& rule, long long, REAL& p, REAL g) {
    p -= REAL(rule.lr) * g;
}

}  // namespace formulas::sgd
