// Gradient descent.

#pragma once

#include "rule.cuh"

namespace formulas::sgd {

__device__ inline void update(const Rule& rule, long long step, REAL& p, REAL g) {
    p -= REAL(rule.rate(step)) * g;
}

}  // namespace formulas::sgd
