// Adam whose weights decay apart from the gradient.

#pragma once

#include "formulas/adam.cuh"

namespace formulas::adamw {

using adam::update;

__device__ inline void decay(
    const Rule& rule, long long step, REAL& p, REAL&, double factor) {
    p *= REAL(1 - rule.rate(step) * factor);
}

}  // namespace formulas::adamw
