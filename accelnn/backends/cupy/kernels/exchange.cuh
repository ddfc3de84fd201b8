// Message passing between the blocks of one launch, through the L2 cache and without a barrier.
//
// A word holds 32 bits of a number and a tag, the update that they belong to, written by one store: a
// reader that sees the tag has the number. The order of messages within an update ensures that a word is
// overwritten only after all of its readers have sent theirs.

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

// Called before each poll. Fails the launch after some seconds, so that a lost message hangs nothing.
__device__ inline void look_again(unsigned int looks) {
    if (looks > 1u << 24) {
        __trap();
    }
}
#endif

// A double takes two words.
constexpr int WORDS_EACH = sizeof(REAL) / 4;

// The tag of an update. The lowest bit says that the training stops there.
struct Tag {
    unsigned int number;

    __device__ Tag stopped() const { return {number | 1u}; }
    __device__ bool is_of(Word word) const { return ((unsigned)(word >> 32) ^ number) <= 1u; }
};

// Tags count the updates since the words were allocated and may wrap around: every word is rewritten
// often enough never to hold an equal, stale tag.
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

// The number that words hold.
__device__ inline REAL number_of(const Word (&words)[WORDS_EACH]) {
    unsigned int halves[WORDS_EACH];
#pragma unroll
    for (int k = 0; k < WORDS_EACH; ++k) {
        halves[k] = (unsigned int)words[k];
    }
    REAL number;
    memcpy(&number, halves, sizeof(REAL));
    return number;
}

// Wait for N numbers with that tag, `stride` words apart, and return their sum in that order. Called by
// one thread.
template <int N>
__device__ inline REAL receive_sum(const Word* words, int first, int stride, Tag tag) {
    constexpr int AT_ONCE = N * WORDS_EACH < 16 ? N : 8 / WORDS_EACH;
    REAL sum = 0;
    for (int base = 0; base < N; base += AT_ONCE) {
        Word found[AT_ONCE][WORDS_EACH];
        bool waits = true;
        for (unsigned int looks = 1; waits; ++looks) {
            waits = false;
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
#pragma unroll
                for (int k = 0; k < WORDS_EACH; ++k) {
                    if (base + j < N) {
                        found[j][k] = load_word(words + (first + (base + j) * stride) * WORDS_EACH + k);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
#pragma unroll
                for (int k = 0; k < WORDS_EACH; ++k) {
                    waits |= base + j < N && !tag.is_of(found[j][k]);
                }
            }
            if (waits) {
                look_again(looks);
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) {
            if (base + j < N) {
                sum += number_of(found[j]);
            }
        }
    }
    return sum;
}

// Wait for `n` numbers with that tag, at most MOST, divided among the threads of a block from number FIRST
// on. place(i) is the word of the i-th, and take(i, number) consumes it. Returns whether one of this
// thread's numbers says that the training stops.
template <int MOST, int FIRST = 0, typename Place, typename Take>
__device__ inline bool receive(const Word* words, int n, Tag tag, Place place, Take take) {
    // Loads of a thread in flight at once.
    constexpr int OF = THREADS - FIRST;
    constexpr int EACH = (MOST + OF - 1) / OF, AT_ONCE = EACH < 8 ? EACH : 8;
    bool stops = false;
    for (int base = threadIdx.x - FIRST; base < n; base += AT_ONCE * OF) {
        Word found[AT_ONCE][WORDS_EACH];
        bool waits = true;
        for (unsigned int looks = 1; waits; ++looks) {
            waits = false;
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                const int i = base + j * OF;
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
                    waits |= base + j * OF < n && !tag.is_of(found[j][k]);
                }
            }
            if (waits) {
                look_again(looks);
            }
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) {
            const int i = base + j * OF;
            if (i < n) {
#pragma unroll
                for (int k = 0; k < WORDS_EACH; ++k) {
                    stops = stops || (found[j][k] >> 32 & 1u);
                }
                take(i, number_of(found[j]));
            }
        }
    }
    return stops;
}
