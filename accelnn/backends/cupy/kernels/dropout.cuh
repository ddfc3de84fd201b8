// Dropout of hidden units by a counter-based generator, which draws what accelnn.formulas._dropout does.

#pragma once

#include "formulas.cuh"

// The first word of Philox4x32-10.
__device__ inline unsigned int philox(
    unsigned int a, unsigned int b, unsigned int c, unsigned int d, unsigned long long seed) {
    unsigned int key = (unsigned int)seed, other_key = (unsigned int)(seed >> 32);
#pragma unroll
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const unsigned long long x = (unsigned long long)PHILOX_MULTIPLIER * a;
        const unsigned long long y = (unsigned long long)PHILOX_OTHER_MULTIPLIER * c;
        a = (unsigned int)(y >> 32) ^ b ^ key;
        b = (unsigned int)y;
        c = (unsigned int)(x >> 32) ^ d ^ other_key;
        d = (unsigned int)x;
        key += PHILOX_WEYL;
        other_key += PHILOX_OTHER_WEYL;
    }
    return a;
}

// The dropout of an update.
struct Dropout {
    bool is_there;
    // A unit is kept, and scaled, if its word is at least this.
    unsigned long long least;
    REAL scale;
    unsigned long long seed;
    // The number of updates before this one.
    unsigned int update;

    __device__ bool drops() const { return DROPS_OF(is_there); }

    // By what the value of a unit of a hidden layer is multiplied, for a sample of the batch.
    __device__ REAL factor(int layer, int sample, int unit) const {
        return philox(update, layer, sample, unit, seed) >= least ? scale : REAL(0);
    }
};
