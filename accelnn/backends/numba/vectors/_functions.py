"""Elementwise functions and reductions of vectors."""

from collections.abc import Sequence
from math import factorial, log
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    Vector,
    call,
    constant,
    horner,
    is_single,
    lanes_before,
    llvm_type,
    reduce,
    splat,
)

__all__ = [
    "absolute",
    "exp_and_expm1",
    "first_lanes",
    "largest",
    "maximum",
    "one_hot",
    "polynomial",
    "root",
    "total",
    "where_positive",
]


@intrinsic
def absolute(typing, x):
    """Return |x|."""

    def generate(context, builder, signature, args):
        return call(builder, "fabs", args[0])

    return x(x), generate


@intrinsic
def root(typing, x):
    """Return the square root of x."""

    def generate(context, builder, signature, args):
        return call(builder, "sqrt", args[0])

    return x(x), generate


@intrinsic
def maximum(typing, x, y):
    """Return the larger of x and y, and NaN where x is NaN."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", *args), args[1], args[0])

    return x(x, y), generate


@intrinsic
def where_positive(typing, x, positive, otherwise):
    """Return `positive` where x > 0, else `otherwise`."""

    def generate(context, builder, signature, args):
        x, positive, otherwise = args
        condition = builder.fcmp_ordered(">", x, constant(x.type, 0.0))
        return builder.select(condition, positive, otherwise)

    return positive(x, positive, otherwise), generate


@intrinsic
def first_lanes(typing, x, count, otherwise):
    """Return the first `count` lanes of x, and `otherwise` in the rest."""

    def generate(context, builder, signature, args):
        x, count, otherwise = args
        condition = lanes_before(builder, count, x.type.count)
        return builder.select(condition, x, splat(builder, otherwise, x.type))

    return x(x, types.intp, x.dtype), generate


@intrinsic
def one_hot(typing, like, lane):
    """Return a vector of zeros with a one in that lane, if there is one."""

    def generate(context, builder, signature, args):
        kind = llvm_type(signature.return_type)
        lanes = ir.VectorType(I64, kind.count)
        numbers = ir.Constant(lanes, list(range(kind.count)))
        is_lane = builder.icmp_signed("==", numbers, splat(builder, args[1], lanes))
        return builder.select(is_lane, constant(kind, 1.0), constant(kind, 0.0))

    return Vector(like.dtype)(like, types.intp), generate


@intrinsic
def total(typing, x):
    """Return the sum of all lanes."""

    def generate(context, builder, signature, args):
        return reduce(builder, args[0], builder.fadd)

    return x.dtype(x), generate


@intrinsic
def largest(typing, x):
    """Return the largest lane, ignoring NaN."""

    def generate(context, builder, signature, args):
        return reduce(builder, args[0], lambda a, b: call(builder, "maxnum", a, b))

    return x.dtype(x), generate


def polynomial(coefficients: Sequence[Sequence[float]]) -> Any:
    """Return a polynomial of vectors from its coefficients, lowest power first, for each dtype."""

    @intrinsic
    def evaluate(typing, x):
        """Return the sum of the coefficients times the powers of x."""

        def generate(context, builder, signature, args):
            return horner(builder, args[0], coefficients[0 if is_single(args[0].type) else 1])

        return x(x), generate

    return evaluate


# For |x| up to here, exp(x) is a normal number.
_EXP_LIMIT = {True: 87.0, False: 708.0}
# Terms of the series of expm1(r) / r, whose remainder at |r| = ln(2) / 2 is below half an ulp.
_EXP_TERMS = {True: 7, False: 13}
# ln(2) in two parts; the product of the first and any exponent is exact.
_LN2 = {
    True: (0.693359375, log(2.0) - 0.693359375),
    False: (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
}


@intrinsic
def exp_and_expm1(typing, x):
    """Return exp(x) to about 1 ulp, and exp(x) - 1 to about 2 ulp.

    x = n ln(2) + r with |r| <= ln(2) / 2; expm1(r) is a series; exp(x) = 2ⁿ (1 + expm1(r)). x is
    clipped so that results are normal numbers, or 0 below them, because what is 0 elsewhere makes
    NaN of an infinite factor. NaN stays NaN.
    """

    def generate(context, builder, signature, args):
        kind = args[0].type
        single = is_single(kind)
        limit = constant(kind, _EXP_LIMIT[single])
        low = constant(kind, -_EXP_LIMIT[single])
        is_below = builder.fcmp_ordered("<", args[0], low)
        x = builder.select(is_below, low, args[0])
        x = builder.select(builder.fcmp_ordered(">", x, limit), limit, x)

        # Adding 1.5 * 2**(mantissa bits) rounds to an integer, held in the low bits of the sum.
        bits, shift = (I32, 23) if single else (I64, 52)
        magic = constant(kind, 1.5 * 2.0**shift)
        shifted = call(builder, "fmuladd", x, constant(kind, 1.0 / log(2.0)), magic)
        n = builder.fsub(shifted, magic)
        r = x
        for part in _LN2[single]:
            r = call(builder, "fmuladd", n, constant(kind, -part), r)
        series = horner(builder, r, [1.0 / factorial(k + 1) for k in range(_EXP_TERMS[single])])
        minus_one = builder.fmul(r, series)

        integers = ir.VectorType(bits, kind.count)
        exponent = builder.shl(
            builder.bitcast(shifted, integers), ir.Constant(integers, [shift] * kind.count)
        )
        one = constant(kind, 1.0)
        power = builder.bitcast(builder.add(exponent, builder.bitcast(one, integers)), kind)
        exp = call(builder, "fmuladd", power, minus_one, power)
        exp = builder.select(is_below, constant(kind, 0.0), exp)
        expm1 = call(builder, "fmuladd", power, minus_one, builder.fsub(power, one))
        return context.make_tuple(builder, signature.return_type, [exp, expm1])

    return types.UniTuple(x, 2)(x), generate
