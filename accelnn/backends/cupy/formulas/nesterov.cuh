// Momentum whose gradient is taken as if the velocity had already been applied.

#pragma once

#include "rule.cuh"

namespace formulas::nesterov {

__device__ inline void update(const Rule& rule, long long step, REAL& p, REAL g, REAL& velocity) {
    velocity = REAL(rule.first) * velocity + g;
    p -= REAL(rule.rate(step)) * (g + REAL(rule.first) * velocity);
}

}  // namespace formulas::nesterov
