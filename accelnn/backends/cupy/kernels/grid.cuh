// Shared memory, block reductions, and a grid barrier.
//
// Kernels work with any number of blocks and threads, so that tests can run them on CPU threads.

#pragma once

#ifndef CUDA_ON_CPU
// The block's shared memory: three doubles per thread, then the widths of the layers.
__device__ inline double* block_memory() {
    extern __shared__ __align__(16) double memory[];
    return memory;
}

// Fetch what will be loaded soon, while something else is waited for.
__device__ inline void prefetch(const REAL* place) {
    asm volatile("prefetch.global.L1 [%0];" ::"l"(place));
}

// Add one, and return what was there. What the block wrote before is visible to those who see it.
__device__ inline unsigned int arrive(unsigned int* arrived) {
#if __CUDA_ARCH__ >= 700
    unsigned int before;
    asm volatile("atom.release.gpu.global.add.u32 %0, [%1], 1;"
                 : "=r"(before) : "l"(arrived) : "memory");
    return before;
#else
    __threadfence();
    return atomicAdd(arrived, 1u);
#endif
}

__device__ inline unsigned int look(const unsigned int* arrived) {
#if __CUDA_ARCH__ >= 700
    unsigned int now;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(arrived) : "memory");
#else
    const unsigned int now = *(const volatile unsigned int*)arrived;
    __threadfence();
#endif
    return now;
}
#endif

#ifndef GRID_BARRIER_ELSEWHERE
// Wait until all blocks are here; their writes are visible afterwards. `arrived` is zero before the
// launch and only grows. All blocks must be resident at once, as a cooperative launch guarantees.
__device__ inline void grid_barrier(unsigned int* arrived) {
    __syncthreads();
    if (threadIdx.x == 0) {
        const unsigned int ticket = arrive(arrived);
        const unsigned int goal = (ticket / gridDim.x + 1u) * gridDim.x;
        while ((int)(look(arrived) - goal) < 0) {
        }
    }
    __syncthreads();
}
#endif

// A grid-stride loop over `n` elements.
#define FOR_EACH(i, n)                                                                            \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                 \
         i += (long long)gridDim.x * blockDim.x)

struct Sum {
    template <typename T>
    __device__ static T join(T a, T b) { return a + b; }
};

struct Largest {
    // NaN counts as the largest, so that it propagates.
    template <typename T>
    __device__ static T join(T a, T b) { return (a > b || a != a) ? a : b; }
};

// Reduce one value of each of the first `n` threads, in a fixed order; all threads get the result.
template <typename Join, typename T>
__device__ inline T over_block(T value, int n, T* shared) {
    const int thread = threadIdx.x, threads = blockDim.x;
    int active = n < threads ? n : threads;
    // Within one warp no block-wide barrier is needed.
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

// Flags, one word each: a loss was not finite, which stops the training; a parameter is not finite, so
// zero inputs must not be skipped; the number of blocks that arrived at the grid barrier; and a target is
// out of range, or a parameter too large for the step of a difference.
enum Flag { STOPPED, NOT_FINITE, ARRIVED, UNFIT };

// The number of parts, of at least eight terms, that the sums of `columns` columns are split into to
// keep all threads of the block busy.
__device__ inline int parts_of(int columns, int terms) {
    const int threads = blockDim.x / columns, parts = (terms + 7) / 8;
    const int least = threads < parts ? threads : parts;
    return least > 1 ? least : 1;
}

// Σ a(k) b(k) for k = first, first + stride, ... below end, eight terms at a time so that their loads
// overlap. With `skips_zeros`, b(k) is not loaded where a(k) is zero.
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
