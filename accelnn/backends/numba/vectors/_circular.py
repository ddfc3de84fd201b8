"""Sine, cosine and arc tangent of vectors."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import I32, I64, call, constant, horner, is_single

__all__ = ["arctangent", "cosine", "sine"]

# π/2 in parts of 33 bits, of which the products with whole numbers up to 2²⁰ are exact, and a rest.
_HALF_PI = tuple(
    map(
        float.fromhex,
        (
            "0x1.921fb54400000p+0",
            "0x1.0b4611a600000p-34",
            "0x1.3198a2e000000p-69",
            "0x1.b839a252049c1p-104",
        ),
    )
)
# Beyond, the C library reduces arguments.
_MOST = 2.0**20
# Terms of the series of sine and cosine, whose remainders for |r| <= π/4 are under a quarter of a
# unit in the last place: (π/4)¹⁸ / 19! = 1e-19 and (π/4)¹⁸ / 18! = 2e-18 of numbers from 0.7 on in
# float64, (π/4)¹⁰ / 11! = 2e-9 and (π/4)¹⁰ / 10! = 2.5e-8 times 1/42 of the terms kept in float32.
_TERMS = {True: 6, False: 9}
# Terms of that of the arc tangent, |t| <= tan(π/8), so that t² <= 0.1716: 0.1716²¹ / 43 = 2e-18 and
# 0.1716⁹ / 19 = 7e-9 of the first one.
_ARCTANGENT_TERMS = {True: 9, False: 21}
_TAN_OF_EIGHTH, _TAN_OF_THREE_EIGHTHS = math.sqrt(2.0) - 1.0, math.sqrt(2.0) + 1.0


def _inverse_factorials(first: int, terms: int) -> list[float]:
    """Return (-1)ᵏ / (first + 2k)!."""
    return [(-1.0) ** k / math.factorial(first + 2 * k) for k in range(terms)]


def _circular(name: str, quarters: int) -> Any:
    """Return the sine of vectors, so many quarters of a turn further on."""

    @intrinsic
    def function(typing, x):
        """Return sin or cos to about two units in the last place; NaN of what is not finite.

        x = n π/2 + r with |r| <= π/4, in double precision: x - n P₁ is exact, being near x, and
        r is rounded up to three times, unless it is so small that its first steps are exact too.
        """

        def generate(context, builder, signature, args):
            (x,) = args
            kind, single = x.type, is_single(x.type)
            wide = ir.VectorType(ir.DoubleType(), kind.count)
            x_wide = builder.fpext(x, wide) if single else x
            # Adding 1.5 * 2⁵² rounds to an integer, which the low bits then hold.
            magic = constant(wide, 1.5 * 2.0**52)
            shifted = call(builder, "fmuladd", x_wide, constant(wide, 2.0 / math.pi), magic)
            n, r = builder.fsub(shifted, magic), x_wide
            for part in _HALF_PI:
                r = call(builder, "fmuladd", n, constant(wide, -part), r)
            longs = ir.VectorType(I64, kind.count)
            quarter = builder.bitcast(shifted, longs)
            integers, top = longs, 62
            if single:
                integers, top = ir.VectorType(I32, kind.count), 30
                r, quarter = builder.fptrunc(r, kind), builder.trunc(quarter, integers)

            def whole(number: int) -> ir.Constant:
                return ir.Constant(integers, [number] * kind.count)

            quarter = builder.add(quarter, whole(quarters))
            square, terms = builder.fmul(r, r), _TERMS[single]
            inner = horner(builder, square, _inverse_factorials(3, terms - 1))
            sine = call(builder, "fmuladd", builder.fmul(r, square), _negated(builder, inner), r)
            inner = horner(builder, square, _inverse_factorials(2, terms - 1))
            one = constant(kind, 1.0)
            cosine = call(builder, "fmuladd", square, _negated(builder, inner), one)
            is_odd = builder.trunc(quarter, ir.VectorType(ir.IntType(1), kind.count))
            near = builder.bitcast(builder.select(is_odd, cosine, sine), integers)
            sign = builder.shl(builder.and_(quarter, whole(2)), whole(top))
            near = builder.bitcast(builder.xor(near, sign), kind)

            size = call(builder, "fabs", x)
            is_near = builder.fcmp_ordered("<=", size, constant(kind, _MOST))
            mask = ir.IntType(kind.count)
            some_are_far = builder.icmp_unsigned(
                "!=", builder.bitcast(is_near, mask), ir.Constant(mask, 2**kind.count - 1)
            )
            before = builder.block
            with builder.if_then(some_are_far, likely=False):
                picked = builder.select(is_near, near, call(builder, name, x))
                inside = builder.block
            result = builder.phi(kind)
            result.add_incoming(near, before)
            result.add_incoming(picked, inside)
            return result

        return x(x), generate

    return function


def _negated(builder: Any, x: Any) -> Any:
    return builder.fmul(x, constant(x.type, -1.0))


sine, cosine = _circular("sin", 0), _circular("cos", 1)


@intrinsic
def arctangent(typing, x):
    """Return atan(x) to about two units in the last place; NaN stays NaN.

    |x| is a tangent, and so is t, of an angle that is less by 0, π/4 or π/2: x itself up to
    tan(π/8), (|x| - 1) / (|x| + 1) up to tan(3π/8), and -1 / |x|.
    """

    def generate(context, builder, signature, args):
        (x,) = args
        kind, single = x.type, is_single(x.type)
        size, one = call(builder, "fabs", x), constant(kind, 1.0)
        is_middle = builder.fcmp_ordered(">", size, constant(kind, _TAN_OF_EIGHTH))
        is_large = builder.fcmp_ordered(">", size, constant(kind, _TAN_OF_THREE_EIGHTHS))

        def chosen(small: Any, middle: Any, large: Any) -> Any:
            return builder.select(is_large, large, builder.select(is_middle, middle, small))

        above = chosen(size, builder.fsub(size, one), constant(kind, -1.0))
        below = chosen(one, builder.fadd(size, one), size)
        t = builder.fdiv(above, below)
        square = builder.fmul(t, t)
        terms = _ARCTANGENT_TERMS[single]
        series = horner(builder, square, [(-1.0) ** k / (2 * k + 3) for k in range(terms - 1)])
        series = builder.fmul(builder.fmul(t, square), series)
        # What π/4 and π/2 are beyond their roundings is added to what is small.
        quarter, rest = _parts_of_quarter_turn(single=single)
        none = constant(kind, 0.0)
        base = chosen(none, constant(kind, quarter), constant(kind, 2.0 * quarter))
        beyond = chosen(none, constant(kind, rest), constant(kind, 2.0 * rest))
        small = builder.fsub(t, builder.fsub(series, beyond))
        return call(builder, "copysign", builder.fadd(base, small), x)

    return x(x), generate


def _parts_of_quarter_turn(*, single: bool) -> tuple[float, float]:
    """Return π/4 rounded to a dtype, and what is left."""
    exact = sum(map(Fraction, _HALF_PI), Fraction()) / 2
    rounded = float(np.float32(exact)) if single else float(exact)
    return rounded, float(exact - Fraction(rounded))
