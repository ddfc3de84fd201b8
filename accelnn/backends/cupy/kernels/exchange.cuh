// Numbers that blocks of one launch send each other through the second-level cache, without a barrier.
//
// A word has 32 bits of a number and, in the same store, the step that they are of: who has read the
// tag has the number. A place is written again only when all who read it have answered, which is what a
// step's order of sending and receiving is made for.

#pragma once

#include "grid.cuh"

typedef unsigned long long Word;

#ifndef CUDA_ON_CPU
__device__ inline Word load_word(const Word* place) {
    Word word;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(place) : "memory");
    return word;
}

__device__ inline void store_word(Word* place, Word word) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(place), "l"(word) : "memory");
}

// What a thread does before it looks again, for the `looks`th time. What has not come after seconds
// never will: the launch fails, and no display hangs.
__device__ inline void look_again(unsigned int looks) {
    if (looks > 1u << 24) {
        __trap();
    }
}
#endif

// A double is in two words.
constexpr int WORDS_EACH = sizeof(REAL) / 4;

// The tag of a step, and with its lowest bit that the training stops there.
struct Tag {
    unsigned int number;

    __device__ Tag stopped() const { return {number | 1u}; }
    __device__ bool is_of(Word word) const { return ((unsigned)(word >> 32) ^ number) <= 1u; }
};

// Steps are counted from the first one that the words were there for, and their number may wrap
// around: no place is left unwritten for so long that it would hold the same tag from before.
__device__ inline Tag tag_of(unsigned int first, long long step) {
    return {(first + (unsigned int)step) << 1};
}

__device__ inline void send(Word* words, int place, REAL number, Tag tag) {
    unsigned int halves[WORDS_EACH];
    memcpy(halves, &number, sizeof(REAL));
#pragma unroll
    for (int k = 0; k < WORDS_EACH; ++k) {
        store_word(words + place * WORDS_EACH + k, (Word)tag.number << 32 | halves[k]);
    }
}

// Wait for `n` numbers of that tag, at most MOST, of which all threads of a block have some each:
// place(i) is where the i-th comes in, and take(i, number) what is done with it. Says whether one of
// this thread's was sent as the last.
template <int MOST, typename Place, typename Take>
__device__ inline bool receive(const Word* words, int n, Tag tag, Place place, Take take) {
    // So many loads of a thread are under way at once.
    constexpr int EACH = (MOST + THREADS - 1) / THREADS, AT_ONCE = EACH < 8 ? EACH : 8;
    bool stops = false;
    for (int base = threadIdx.x; base < n; base += AT_ONCE * THREADS) {
        Word found[AT_ONCE][WORDS_EACH];
        bool waits = true;
        for (unsigned int looks = 1; waits; ++looks) {
            waits = false;
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                const int i = base + j * THREADS;
#pragma unroll
                for (int k = 0; k < WORDS_EACH; ++k) {
                    if (i < n) {
                        found[j][k] = load_word(words + place(i) * WORDS_EACH + k);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
#pragma unroll
                for (int k = 0; k < WORDS_EACH; ++k) {
                    waits = waits || (base + j * THREADS < n && !tag.is_of(found[j][k]));
                }
            }
            if (waits) {
                look_again(looks);
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) {
            const int i = base + j * THREADS;
            if (i < n) {
                unsigned int halves[WORDS_EACH];
#pragma unroll
                for (int k = 0; k < WORDS_EACH; ++k) {
                    halves[k] = (unsigned int)found[j][k];
                    stops = stops || (found[j][k] >> 32 & 1u);
                }
                REAL number;
                memcpy(&number, halves, sizeof(REAL));
                take(i, number);
            }
        }
    }
    return stops;
}
