// Blocks and their threads: memory that a block shares, sums over a block, a barrier of the grid.
//
// Kernels are written for any number of blocks and threads, so that they also run where a test
// makes threads of a processor of them.

#pragma once

#ifndef CUDA_ON_CPU
// The block's shared memory, as large as the launch says.
__device__ inline double* block_memory() {
    extern __shared__ double memory[];
    return memory;
}
#endif

#ifndef GRID_BARRIER_ELSEWHERE
// Wait until all blocks have come here, and see what they wrote. `arrived` starts at zero, and only
// grows; all blocks must be on the device at once, as a cooperative launch makes sure.
__device__ inline void grid_barrier(unsigned int* arrived) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        const unsigned int ticket = atomicAdd(arrived, 1u);
        const unsigned int goal = (ticket / gridDim.x + 1u) * gridDim.x;
        // The difference stays right when the count wraps round.
        while ((int)(*(volatile unsigned int*)arrived - goal) < 0) {
        }
        __threadfence();
    }
    __syncthreads();
}
#endif

struct Sum {
    template <typename T>
    __device__ static T join(T a, T b) { return a + b; }
};

struct Largest {
    // A NaN is the largest of all, so that no class hides it.
    template <typename T>
    __device__ static T join(T a, T b) { return (a > b || a != a) ? a : b; }
};

// Join one value of each thread, always in the same order; every thread gets the result.
template <typename Join, typename T>
__device__ inline T over_block(T value, T* shared) {
    __syncthreads();
    shared[threadIdx.x] = value;
    for (unsigned int active = blockDim.x; active > 1;) {
        const unsigned int half = (active + 1) / 2;
        __syncthreads();
        if (threadIdx.x < active / 2) {
            shared[threadIdx.x] = Join::join(shared[threadIdx.x], shared[threadIdx.x + half]);
        }
        active = half;
    }
    __syncthreads();
    return shared[0];
}
