// Momentum in units of recent gradients.

#pragma once

#include "rule.cuh"

namespace formulas::adam {

__device__ inline void update(
    const Rule& rule, long long step, REAL& p, REAL g, REAL& mean, REAL& squares) {
    mean = REAL(rule.first) * mean + REAL(1 - rule.first) * g;
    squares = REAL(rule.second) * squares + REAL(1 - rule.second) * g * g;
    p -= REAL(rule.coefficient(step, 0)) * mean /
         (sqrt(squares) / REAL(rule.coefficient(step, 1)) + REAL(rule.third));
}

}  // namespace formulas::adam
