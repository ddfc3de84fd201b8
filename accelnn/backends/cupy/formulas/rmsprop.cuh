// Updates in units of the root of a moving average of squared gradients.

#pragma once

#include "rule.cuh"

namespace formulas::rmsprop {

__device__ inline void update(const Rule& rule, long long step, REAL& p, REAL g, REAL& squares) {
    squares = REAL(rule.first) * squares + REAL(1 - rule.first) * g * g;
    p -= REAL(rule.rate(step)) * g / (sqrt(squares) + REAL(rule.second));
}

}  // namespace formulas::rmsprop
