// Scalar functions that formulas share.

#pragma once

// exp(d) - 1 and log(1 + d). Small arguments, the common case, need only a few terms.
__device__ inline REAL exp_change(REAL d) {
    if (d > REAL(0.01) || !(d >= REAL(-0.01))) {
        return expm1(d);
    }
    REAL sum = 1;
#pragma unroll
    for (int n = 7; n > 1; --n) {
        sum = 1 + d * (REAL(1) / n) * sum;
    }
    return d * sum;
}

__device__ inline double log_change(double d) {
    if (d > 0.01 || !(d >= -0.01)) {
        return log1p(d);
    }
    double sum = 1.0 / 9;
#pragma unroll
    for (int n = 8; n > 0; --n) {
        sum = 1.0 / n - d * sum;
    }
    return d * sum;
}

// x clipped to ±`most`; NaN stays NaN.
__device__ inline REAL capped(REAL x, REAL most) { return x > most ? most : x < -most ? -most : x; }
