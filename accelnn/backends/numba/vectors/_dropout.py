"""Dropout masks, drawn a vector at a time."""

import functools

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    LANES,
    Vector,
    constant,
    llvm_type,
    splat,
)
from accelnn.formulas._dropout import MULTIPLIERS, ROUNDS, WEYL

__all__ = ["dropout_factors"]

# As many products of two 32-bit words as a register holds.
PRODUCTS = LANES[np.float64] // 2
LOWER_HALF = 0xFFFFFFFF


@intrinsic
def dropout_factors(typing, like, update, layer, row, unit, seed, threshold, scale):
    """Return by what outputs `unit` and after of a row are multiplied, as in `Dropout.factors`.

    That is `scale`, or 0 where the first word of Philox is below `threshold`, which is at least 1.
    """

    def generate(context, builder, signature, args):
        _, *counter, seed, threshold, scale = args
        kind = llvm_type(signature.return_type)
        key = [builder.and_(seed, I64(LOWER_HALF)), builder.lshr(seed, I64(32))]
        drawn = [
            builder.trunc(_first_words(builder, counter, first, key), _vector(I32, PRODUCTS))
            for first in range(0, kind.count, PRODUCTS)
        ]
        words = _joined(builder, drawn)
        last_dropped = builder.trunc(builder.sub(threshold, I64(1)), I32)
        kept = builder.icmp_unsigned(">", words, splat(builder, last_dropped, words.type))
        return builder.select(kept, splat(builder, scale, kind), constant(kind, 0.0))

    integers = (types.int64,) * 6
    return Vector(like.dtype)(like, *integers, like.dtype), generate


def _first_words(builder, counter, first, key):
    """Draw the first words for the units from `first` on, as the lower halves of 64-bit numbers.

    The upper halves are whatever is left there: products are of lower halves, which processors
    multiply without clearing the upper ones. In the first rounds, what all units have in common
    is computed once.
    """
    kind = _vector(I64, PRODUCTS)
    a, b, c, unit = counter
    units = ir.Constant(kind, list(range(first, first + PRODUCTS)))
    d = builder.add(splat(builder, unit, kind), units)

    def spread(word):
        return word if word.type == kind else splat(builder, word, kind)

    def number(value, word):
        """Return a number for each unit that `word` has one for."""
        return ir.Constant(kind, [value] * PRODUCTS) if word.type == kind else I64(value)

    def product(word, multiplier):
        """Return the upper half of a product of words, and a number whose lower half is its."""
        lower = builder.and_(word, number(LOWER_HALF, word))
        whole = builder.mul(lower, number(int(multiplier), word))
        return builder.lshr(whole, number(32, word)), whole

    def mixed(*words):
        if any(word.type == kind for word in words):
            words = [spread(word) for word in words]
        return functools.reduce(builder.xor, words)

    for turn in range(ROUNDS):
        keys = (builder.add(part, I64(turn * weyl)) for part, weyl in zip(key, WEYL, strict=True))
        x_upper, x_lower = product(a, MULTIPLIERS[0])
        y_upper, y_lower = product(c, MULTIPLIERS[1])
        a, c = (
            mixed(word, upper, key_word)
            for upper, word, key_word in zip((y_upper, x_upper), (b, d), keys, strict=True)
        )
        b, d = y_lower, x_lower
    return a


def _joined(builder, parts):
    """Return one vector of the elements of several, whose number is a power of two."""
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        order = ir.Constant(_vector(I32, count), list(range(count)))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(*pair, order) for pair in pairs]
    return parts[0]


def _vector(element, count):
    return ir.VectorType(element, count)
