// Blocks and their threads: memory that a block shares, sums over a block, a barrier of the grid.
//
// Kernels are written for any number of blocks and threads, so that they also run where a test
// makes threads of a processor of them.

#pragma once

#ifndef CUDA_ON_CPU
// The block's shared memory: three doubles for each thread, and then the widths of a net's layers.
__device__ inline double* block_memory() {
    extern __shared__ __align__(16) double memory[];
    return memory;
}

// What a thread does while it waits for other blocks.
__device__ inline void let_others_run() {}
#endif

#ifndef GRID_BARRIER_ELSEWHERE
// Wait until all blocks have come here, and see what they wrote. `arrived` is zero before the launch,
// and only grows; all blocks must be on the device at once, as a cooperative launch makes sure.
__device__ inline void grid_barrier(unsigned int* arrived) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        const unsigned int ticket = atomicAdd(arrived, 1u);
        const unsigned int goal = (ticket / gridDim.x + 1u) * gridDim.x;
        while ((int)(*(volatile unsigned int*)arrived - goal) < 0) {
            let_others_run();
        }
        __threadfence();
    }
    __syncthreads();
}
#endif

// The loop over `n` elements that all threads of the grid share out.
#define FOR_EACH(i, n)                                                                            \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                 \
         i += (long long)gridDim.x * blockDim.x)

struct Sum {
    template <typename T>
    __device__ static T join(T a, T b) { return a + b; }
};

struct Largest {
    // A NaN is the largest of all, so that no class hides it.
    template <typename T>
    __device__ static T join(T a, T b) { return (a > b || a != a) ? a : b; }
};

// Join one value of each of the first `n` threads, always in the same order; all get the result.
template <typename Join, typename T>
__device__ inline T over_block(T value, int n, T* shared) {
    const int thread = threadIdx.x, threads = blockDim.x;
    int active = n < threads ? n : threads;
    // The values of one warp concern no other.
    const bool is_one_warp = active <= 32;
    __syncthreads();
    shared[thread] = value;
    while (active > 1) {
        const int half = (active + 1) / 2;
        if (!is_one_warp) {
            __syncthreads();
        } else if (thread < 32) {
            __syncwarp();
        }
        if (thread < active / 2) {
            shared[thread] = Join::join(shared[thread], shared[thread + half]);
        }
        active = half;
    }
    __syncthreads();
    return shared[0];
}

// What kernels tell each other, in one word each: that a loss was not finite, which stops the
// training; that a parameter is not, so that zero inputs may not be passed over; and how many blocks
// have come to the grid's barrier.
enum Flag { STOPPED, NOT_FINITE, ARRIVED };

// Into how many parts, of eight terms or more, the sums of `columns` columns are cut, so that all
// threads of the block have something to add.
__device__ inline int parts_of(int columns, int terms) {
    const int threads = blockDim.x / columns, parts = (terms + 7) / 8;
    const int least = threads < parts ? threads : parts;
    return least > 1 ? least : 1;
}

// Σ a(k) b(k) for k = first, first + stride, ... below end. Eight terms at a time, so that their
// loads from memory are under way at once; b is not asked for where a is zero, if it may be.
template <typename A, typename B>
__device__ inline REAL dot(int first, int end, int stride, bool skips_zeros, A a, B b) {
    REAL sum = 0;
    for (int start = first; start < end; start += 8 * stride) {
        REAL left[8], right[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int k = start + i * stride;
            left[i] = k < end ? a(k) : REAL(0);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int k = start + i * stride;
            right[i] = k < end && !(skips_zeros && left[i] == 0) ? b(k) : REAL(0);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            sum += left[i] * right[i];
        }
    }
    return sum;
}
