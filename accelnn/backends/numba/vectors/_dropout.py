"""Dropout masks, drawn a vector at a time."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    Vector,
    constant,
    llvm_type,
    splat,
)
from accelnn.formulas._dropout import MULTIPLIERS, ROUNDS, WEYL

__all__ = ["dropout_factors"]


@intrinsic
def dropout_factors(typing, like, update, layer, row, unit, seed, threshold, scale):
    """Return by what outputs `unit` and after of a row are multiplied, as in `Dropout.factors`.

    That is `scale`, or 0 where the first word of Philox is below `threshold`.
    """

    def generate(context, builder, signature, args):
        _, *counter, seed, threshold, scale = args
        kind = llvm_type(signature.return_type)
        words, wide = ir.VectorType(I32, kind.count), ir.VectorType(I64, kind.count)
        a, b, c, d = (splat(builder, builder.trunc(part, I32), words) for part in counter)
        d = builder.add(d, ir.Constant(words, list(range(kind.count))))
        half = ir.Constant(wide, [32] * kind.count)
        key = [builder.trunc(seed, I32), builder.trunc(builder.lshr(seed, I64(32)), I32)]

        def product(word, multiplier):
            """Return the upper and the lower half of a product of words."""
            factor = ir.Constant(wide, [int(multiplier)] * kind.count)
            whole = builder.mul(builder.zext(word, wide), factor)
            return builder.trunc(builder.lshr(whole, half), words), builder.trunc(whole, words)

        for turn in range(ROUNDS):
            first, second = (
                splat(builder, builder.add(part, I32(turn * weyl & 0xFFFFFFFF)), words)
                for part, weyl in zip(key, WEYL, strict=True)
            )
            x_upper, x_lower = product(a, MULTIPLIERS[0])
            y_upper, y_lower = product(c, MULTIPLIERS[1])
            a, c = (
                builder.xor(builder.xor(upper, word), key_word)
                for upper, word, key_word in ((y_upper, b, first), (x_upper, d, second))
            )
            b, d = y_lower, x_lower
        limit = splat(builder, threshold, wide)
        kept = builder.icmp_unsigned(">=", builder.zext(a, wide), limit)
        return builder.select(kept, splat(builder, scale, kind), constant(kind, 0.0))

    integers = (types.int64,) * 6
    return Vector(like.dtype)(like, *integers, like.dtype), generate
