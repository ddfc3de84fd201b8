// Gradient descent with a velocity.

#pragma once

#include "rule.cuh"

namespace formulas::momentum {

__device__ inline void update(const Rule& rule, long long step, REAL& p, REAL g, REAL& velocity) {
    velocity = REAL(rule.first) * velocity + g;
    p -= REAL(rule.rate(step)) * velocity;
}

}  // namespace formulas::momentum
