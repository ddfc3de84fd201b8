// CUDA's built-ins for g++.
//
// All blocks run at once, so that a barrier of the grid ends. Shared memory is an allocation of
// each block's, as large as the launch says and filled with NaN, which a sanitizer watches.
//
// The threads of a launch take turns on one processor, each until it waits, in an order that is
// drawn anew for every turn, so that no thread is always ahead of another: what lacks a barrier is
// wrong as it is with threads of the processor, and no time goes into waking many more of those
// than there are processors. With THREADS_OF_THE_PROCESSOR they are its own, which sanitizers know.

#pragma once

#define CUDA_ON_CPU
#define __global__
#define __device__
#define __launch_bounds__(...)

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#ifdef THREADS_OF_THE_PROCESSOR
#include <thread>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <algorithm>
#include <mutex>
#include <random>

#include <setjmp.h>
#include <ucontext.h>
#endif

using std::exp;
using std::expm1;
using std::fabs;
using std::fma;
using std::isfinite;
using std::log;
using std::log1p;
using std::sqrt;
using std::tanh;

// The standard normal distribution, with what rounding of x / √2 loses.
inline double normcdf(double x) {
    if (fabs(x) > 40) {
        return x > 0;
    }
    const double root = 0.70710678118654752, rest = -4.8336466567264567e-17;
    const double z = -root * x, lost = fma(-root, x, -z) - rest * x;
    return 0.5 * std::erfc(z) - 0.56418958354775629 * exp(-z * z) * lost;
}
inline float normcdf(float x) { return (float)normcdf((double)x); }

namespace cuda_on_cpu {

struct Index {
    unsigned int x = 0;
};

#ifdef THREADS_OF_THE_PROCESSOR
// It sleeps, where std::barrier looks again and again, which takes long where there are many more
// threads than processors. And nothing but the last to come is seen by those that wait: through a
// mutex or pthread_barrier they would also see who is ahead, which hides races from the sanitizer.
class Barrier {
public:
    explicit Barrier(unsigned int threads) : expected(threads) {}
    void arrive_and_wait() {
        const unsigned int now = generation.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 < expected) {
            while (generation.load(std::memory_order_acquire) == now) {
                syscall(SYS_futex, &generation, FUTEX_WAIT_PRIVATE, now, nullptr, nullptr, 0);
            }
        } else {
            arrived.store(0, std::memory_order_relaxed);
            generation.store(now + 1, std::memory_order_release);
            syscall(SYS_futex, &generation, FUTEX_WAKE_PRIVATE, expected, nullptr, nullptr, 0);
        }
    }

private:
    const unsigned int expected;
    std::atomic<unsigned int> arrived = 0, generation = 0;
};
inline void let_others_run() { sched_yield(); }
#else
inline void let_others_run();
inline void wait_for_change_of(const unsigned int& generation);

class Barrier {
public:
    explicit Barrier(unsigned int threads) : expected(threads) {}
    void arrive_and_wait() {
        if (++arrived < expected) {
            wait_for_change_of(generation);
        } else {
            arrived = 0;
            ++generation;
        }
    }

private:
    unsigned int expected, arrived = 0, generation = 0;
};
#endif

struct Block {
    explicit Block(unsigned int threads, std::size_t bytes)
        : barrier(threads), memory(static_cast<double*>(std::malloc(bytes))), lanes(threads) {
        std::memset(memory, 0xff, bytes);
        for (unsigned int first = 0; first < threads; first += 32) {
            const unsigned int left = threads - first;
            warps.push_back(std::make_unique<Barrier>(left < 32 ? left : 32));
        }
    }
    ~Block() { std::free(memory); }
    Barrier barrier;
    std::vector<std::unique_ptr<Barrier>> warps;
    double* memory;
    // What threads show each other: of a warp, and whether one of the block says yes.
    std::vector<double> lanes;
    std::atomic<int> any = 0;
};

inline thread_local Block* own_block;
inline std::unique_ptr<Barrier> grid;
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
inline void let_others_run() { cuda_on_cpu::let_others_run(); }
inline double* block_memory() { return cuda_on_cpu::own_block->memory; }

inline void prefetch(const void*) {}
inline unsigned int arrive(unsigned int* place) {
    return __atomic_fetch_add(place, 1u, __ATOMIC_RELEASE);
}
inline unsigned int look(const unsigned int* place) {
    let_others_run();
    return __atomic_load_n(place, __ATOMIC_ACQUIRE);
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
inline void look_again(unsigned int) { let_others_run(); }

#ifdef GRID_BARRIER_ELSEWHERE
// ThreadSanitizer does not know fences, and calls a fenced barrier a race.
inline void grid_barrier(unsigned int*) { cuda_on_cpu::grid->arrive_and_wait(); }
#endif

#define KERNEL(name)                                                                              \
    static const bool name##_is_known =                                                           \
        (cuda_on_cpu::kernels[#name] = cuda_on_cpu::Caller<name>::run, true);

namespace cuda_on_cpu {

// Run what each thread of a launch does.
#ifdef THREADS_OF_THE_PROCESSOR
template <typename Work>
void run_together(unsigned int count, const Work& work) {
    std::vector<std::thread> running;
    for (unsigned int i = 0; i < count; ++i) {
        running.emplace_back([&, i] { work(i); });
    }
    for (auto& thread : running) {
        thread.join();
    }
}
#else
constexpr std::size_t STACK = 1 << 17;

// A thread of a launch while others have their turn.
struct Turn {
    ucontext_t start;
    jmp_buf rest;
    std::unique_ptr<char[]> stack{new char[STACK]};
    Index thread, block;
    Block* own;
    bool is_begun, is_done;
    // What it waits for, and what that was.
    const unsigned int* awaited;
    unsigned int before;

    bool can_go_on() const { return awaited == nullptr || *awaited != before; }
};

// Stacks are kept for later launches, which are many.
inline std::vector<std::unique_ptr<Turn>> turns;
inline ucontext_t first_return;
inline jmp_buf scheduler;
inline Turn* turn;
inline void (*work_of_turn)(const void*, unsigned int);
inline const void* what_to_do;

// Jumps take no call of the system, as switches between contexts do.
inline void let_others_run() {
    Turn& own = *turn;
    own.thread = threadIdx;
    own.block = blockIdx;
    own.own = own_block;
    if (_setjmp(own.rest) == 0) {
        _longjmp(scheduler, 1);
    }
    threadIdx = turn->thread;
    blockIdx = turn->block;
    own_block = turn->own;
}

inline void wait_for_change_of(const unsigned int& generation) {
    turn->awaited = &generation;
    turn->before = generation;
    let_others_run();
    turn->awaited = nullptr;
}

inline void begin(unsigned int i) {
    work_of_turn(what_to_do, i);
    turn->is_done = true;
    _longjmp(scheduler, 1);
}

inline void go_on(Turn* next) {
    turn = next;
    if (_setjmp(scheduler) == 0) {
        if (turn->is_begun) {
            _longjmp(turn->rest, 1);
        }
        turn->is_begun = true;
        swapcontext(&first_return, &turn->start);
    }
}

template <typename Work>
void run_together(unsigned int count, const Work& work) {
    static std::minstd_rand draw;
    work_of_turn = [](const void* what, unsigned int i) { (*static_cast<const Work*>(what))(i); };
    what_to_do = &work;
    std::vector<Turn*> left;
    for (unsigned int i = 0; i < count; ++i) {
        if (i == turns.size()) {
            turns.push_back(std::make_unique<Turn>());
        }
        Turn& own = *turns[i];
        own.is_begun = own.is_done = false;
        own.awaited = nullptr;
        getcontext(&own.start);
        own.start.uc_stack.ss_sp = own.stack.get();
        own.start.uc_stack.ss_size = STACK;
        makecontext(&own.start, reinterpret_cast<void (*)()>(begin), 1, i);
        left.push_back(&own);
    }
    while (!left.empty()) {
        std::shuffle(left.begin(), left.end(), draw);
        for (Turn* next : left) {
            if (next->can_go_on()) {
                go_on(next);
            }
        }
        std::erase_if(left, [](const Turn* next) { return next->is_done; });
    }
}
#endif

}  // namespace cuda_on_cpu

// As cuLaunchKernel: the addresses of all arguments.
extern "C" inline __attribute__((used)) int launch(
    const char* name, unsigned int blocks, unsigned int threads, std::size_t bytes,
    void** arguments) {
    using namespace cuda_on_cpu;
    const auto found = kernels.find(name);
    if (found == kernels.end()) {
        return 1;
    }
#ifndef THREADS_OF_THE_PROCESSOR
    // Whoever else launches in this process takes turns, too.
    static std::mutex one_launch;
    const std::lock_guard<std::mutex> lock(one_launch);
#endif
    blockDim.x = threads;
    gridDim.x = blocks;
    grid = std::make_unique<Barrier>(blocks * threads);
    std::vector<std::unique_ptr<Block>> all;
    for (unsigned int b = 0; b < blocks; ++b) {
        all.push_back(std::make_unique<Block>(threads, bytes));
    }
    run_together(blocks * threads, [&](unsigned int i) {
        blockIdx.x = i / threads;
        threadIdx.x = i % threads;
        own_block = all[i / threads].get();
        found->second(arguments);
    });
    return 0;
}
