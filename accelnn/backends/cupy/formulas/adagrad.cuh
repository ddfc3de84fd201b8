// Updates in units of the root of all squared gradients so far.

#pragma once

#include "rule.cuh"

namespace formulas::adagrad {

__device__ inline void update(const Rule& rule, long long step, REAL& p, REAL g, REAL& squares) {
    squares += g * g;
    p -= REAL(rule.rate(step)) * g / (sqrt(squares) + REAL(rule.first));
}

}  // namespace formulas::adagrad
