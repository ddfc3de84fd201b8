// CUDA's built-ins for g++: every thread of a launch is a thread of the processor.
//
// All blocks run at once, so that a barrier of the grid ends. Shared memory is an allocation of
// each block's, as large as the launch says and filled with NaN, which a sanitizer watches.

#pragma once

#define CUDA_ON_CPU
#define __global__
#define __device__
#define __launch_bounds__(...)

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sched.h>

using std::exp;
using std::expm1;
using std::fma;
using std::isfinite;
using std::log;
using std::log1p;
using std::sqrt;
using std::tanh;

namespace cuda_on_cpu {

struct Index {
    unsigned int x = 0;
};

struct Block {
    explicit Block(unsigned int threads, std::size_t bytes)
        : barrier(threads), memory(static_cast<double*>(std::malloc(bytes))), lanes(threads) {
        std::memset(memory, 0xff, bytes);
        for (unsigned int first = 0; first < threads; first += 32) {
            const unsigned int left = threads - first;
            warps.push_back(std::make_unique<std::barrier<>>(left < 32 ? left : 32));
        }
    }
    ~Block() { std::free(memory); }
    std::barrier<> barrier;
    std::vector<std::unique_ptr<std::barrier<>>> warps;
    double* memory;
    // What threads show each other: of a warp, and whether one of the block says yes.
    std::vector<double> lanes;
    std::atomic<int> any = 0;
};

inline thread_local Block* own_block;
inline std::unique_ptr<std::barrier<>> grid;
inline std::map<std::string, void (*)(void**)> kernels;

template <typename... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <auto kernel>
struct Caller;

template <typename... A, void (*kernel)(A...)>
struct Caller<kernel> {
    static void run(void** arguments) {
        call(kernel, arguments, std::index_sequence_for<A...>());
    }
};

}  // namespace cuda_on_cpu

inline thread_local cuda_on_cpu::Index threadIdx, blockIdx;
inline cuda_on_cpu::Index blockDim, gridDim;

inline void __syncthreads() { cuda_on_cpu::own_block->barrier.arrive_and_wait(); }
inline void __syncwarp() {
    cuda_on_cpu::own_block->warps[threadIdx.x / 32]->arrive_and_wait();
}
inline int __syncthreads_or(int value) {
    auto& block = *cuda_on_cpu::own_block;
    block.any |= value;
    __syncthreads();
    const int any = block.any;
    __syncthreads();
    block.any = 0;
    __syncthreads();
    return any;
}
template <typename T>
T __shfl_sync(unsigned int, T value, int lane) {
    auto& lanes = cuda_on_cpu::own_block->lanes;
    lanes[threadIdx.x] = value;
    __syncwarp();
    const T found = lanes[threadIdx.x / 32 * 32 + lane];
    __syncwarp();
    return found;
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline double* block_memory() { return cuda_on_cpu::own_block->memory; }

inline unsigned int atomicAdd(unsigned int* place, unsigned int value) {
    return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}
inline unsigned int atomicExch(unsigned int* place, unsigned int value) {
    return __atomic_exchange_n(place, value, __ATOMIC_RELAXED);
}

// What a word is sent for is seen after it: a processor's caches do not make sure of that by themselves.
inline unsigned long long load_word(const unsigned long long* place) {
    return __atomic_load_n(place, __ATOMIC_ACQUIRE);
}
inline void store_word(unsigned long long* place, unsigned long long word) {
    __atomic_store_n(place, word, __ATOMIC_RELEASE);
}
inline void look_again(unsigned int) { sched_yield(); }

#ifdef GRID_BARRIER_ELSEWHERE
// ThreadSanitizer does not know fences, and calls a fenced barrier a race.
inline void grid_barrier(unsigned int*) { cuda_on_cpu::grid->arrive_and_wait(); }
#endif

#define KERNEL(name)                                                                              \
    static const bool name##_is_known =                                                           \
        (cuda_on_cpu::kernels[#name] = cuda_on_cpu::Caller<name>::run, true);

// As cuLaunchKernel: the addresses of all arguments.
extern "C" inline __attribute__((used)) int launch(
    const char* name, unsigned int blocks, unsigned int threads, std::size_t bytes,
    void** arguments) {
    using namespace cuda_on_cpu;
    const auto found = kernels.find(name);
    if (found == kernels.end()) {
        return 1;
    }
    blockDim.x = threads;
    gridDim.x = blocks;
    grid = std::make_unique<std::barrier<>>(blocks * threads);
    std::vector<std::unique_ptr<Block>> all;
    for (unsigned int b = 0; b < blocks; ++b) {
        all.push_back(std::make_unique<Block>(threads, bytes));
    }
    std::vector<std::thread> running;
    for (unsigned int i = 0; i < blocks * threads; ++i) {
        running.emplace_back([&, i] {
            blockIdx.x = i / threads;
            threadIdx.x = i % threads;
            own_block = all[i / threads].get();
            found->second(arguments);
        });
    }
    for (auto& thread : running) {
        thread.join();
    }
    return 0;
}
