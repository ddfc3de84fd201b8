"""What functions of `math` and builtins are for vectors, so that a scalar function takes them too.

Branches and comparisons have no meaning for vectors: Numba then refuses the function's types.
"""

import builtins
import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors._circular import arctangent, cosine, sine
from accelnn.backends.numba.vectors._error_function import error_function
from accelnn.backends.numba.vectors._functions import (
    absolute,
    exp_and_expm1,
    maximum,
    root,
    where_positive,
)
from accelnn.backends.numba.vectors._memory import filled
from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    Vector,
    call,
    constant,
    horner,
    is_single,
)

__all__ = ["logarithm"]

# log(1 + f) = 2 atanh(s), s = f / (2 + f): terms in s² after the first, for |s| < 0.1716.
_LOG_TERMS = {True: 5, False: 11}
_LN2 = {
    True: (0.693359375, math.log(2.0) - 0.693359375),
    False: (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
}
# Bits of a mantissa, and those of √½.
_MANTISSA = {True: 23, False: 52}
# Whole powers up to here are products.
HIGHEST_POWER = 8


@intrinsic
def logarithm(typing, x):
    """Return log(x) to about one unit in the last place; -inf at 0, NaN below it.

    x = 2ⁿ (1 + f) with √½ <= 1 + f < √2.
    """

    def generate(context, builder, signature, args):
        kind = args[0].type
        single = is_single(kind)
        bits, shift = (I32 if single else I64), _MANTISSA[single]
        integers = ir.VectorType(bits, kind.count)

        def whole(number: int) -> ir.Constant:
            return ir.Constant(integers, [number] * kind.count)

        def real(number: float) -> ir.Constant:
            return constant(kind, number)

        dtype = np.float32 if single else np.float64
        info = np.finfo(dtype)
        # What is no normal number, as one.
        is_tiny = builder.fcmp_ordered("<", args[0], real(float(info.tiny)))
        raised = builder.fmul(args[0], real(2.0 ** (shift + 2)))
        x = builder.select(is_tiny, raised, args[0])
        lowered = builder.select(is_tiny, real(-(shift + 2.0)), real(0.0))

        root_half = int(dtype(math.sqrt(0.5)).view(np.int32 if single else np.int64))
        encoded = builder.bitcast(x, integers)
        exponent = builder.ashr(builder.sub(encoded, whole(root_half)), whole(shift))
        mantissa = builder.sub(encoded, builder.shl(exponent, whole(shift)))
        n = builder.fadd(builder.sitofp(exponent, kind), lowered)
        f = builder.fsub(builder.bitcast(mantissa, kind), real(1.0))
        s = builder.fdiv(f, builder.fadd(f, real(2.0)))
        square = builder.fmul(s, s)
        series = horner(builder, square, [2.0 / (2 * k + 3) for k in range(_LOG_TERMS[single])])
        series = builder.fmul(square, series)
        # 2 s = f - s f, of which the large part comes last.
        half = builder.fmul(real(0.5), builder.fmul(f, f))
        small = builder.fmul(s, builder.fadd(half, series))
        high, low = (real(part) for part in _LN2[single])
        small = builder.fadd(small, builder.fmul(n, low))
        rest = builder.fsub(half, small)
        result = builder.fadd(builder.fmul(n, high), builder.fsub(f, rest))

        is_infinite = builder.fcmp_ordered("==", args[0], real(math.inf))
        result = builder.select(is_infinite, args[0], result)
        is_zero = builder.fcmp_ordered("==", args[0], real(0.0))
        result = builder.select(is_zero, real(-math.inf), result)
        is_number = builder.fcmp_ordered(">=", args[0], real(0.0))
        return builder.select(is_number, result, real(math.nan))

    return x(x), generate


@intrinsic
def where_finite(typing, x, finite, otherwise):
    """Return `finite` where x is below infinity, else `otherwise`."""

    def generate(context, builder, signature, args):
        condition = builder.fcmp_ordered("<", args[0], constant(args[0].type, math.inf))
        return builder.select(condition, args[1], args[2])

    return x(x, finite, otherwise), generate


@intrinsic
def with_sign(typing, x, y):
    """Return |x| with the sign of y."""

    def generate(context, builder, signature, args):
        return call(builder, "copysign", *args)

    return x(x, y), generate


def _sin(x: Any) -> Any:
    return sine(x)


def _cos(x: Any) -> Any:
    return cosine(x)


def _atan(x: Any) -> Any:
    return arctangent(x)


def _erf(x: Any) -> Any:
    return error_function(x)


def _cosh(x: Any) -> Any:
    e = exp_and_expm1(absolute(x))[0]
    return 0.5 * e + 0.5 / e


def _exp(x: Any) -> Any:
    return exp_and_expm1(x)[0]


def _expm1(x: Any) -> Any:
    return exp_and_expm1(x)[1]


def _log(x: Any) -> Any:
    return logarithm(x)


def _log1p(x: Any) -> Any:
    after = 1.0 + x
    log = logarithm(after)
    # What 1 + x lost in rounding, except at the ends.
    corrected = log + (x - (after - 1.0)) / after
    return where_finite(after, where_positive(after, corrected, log), log)


def _tanh(x: Any) -> Any:
    m = exp_and_expm1(-2.0 * absolute(x))[1]
    ratio = m / (2.0 + m)
    return where_positive(x, -1.0 * ratio, ratio)


def _root(x: Any) -> Any:
    return root(x)


def _absolute(x: Any) -> Any:
    return absolute(x)


def _negative(x: Any) -> Any:
    return -1.0 * x


def _itself(x: Any) -> Any:
    return x


def _for_vectors(function: Any) -> Any:
    def choose(x: Any) -> Any:
        return function if isinstance(x, Vector) else None

    return choose


for _of_numbers, _of_vectors in {
    math.exp: _exp,
    math.expm1: _expm1,
    math.log: _log,
    math.log1p: _log1p,
    math.tanh: _tanh,
    math.cosh: _cosh,
    math.sin: _sin,
    math.cos: _cos,
    math.atan: _atan,
    math.erf: _erf,
    math.sqrt: _root,
    math.fabs: _absolute,
    builtins.abs: _absolute,
    operator.neg: _negative,
    operator.pos: _itself,
}.items():
    overload(_of_numbers)(_for_vectors(_of_vectors))


def _larger(x: Any, y: Any) -> Any:
    return maximum(x, y)


def _smaller(x: Any, y: Any) -> Any:
    return -1.0 * maximum(-1.0 * x, -1.0 * y)


def _copysign(x: Any, y: Any) -> Any:
    return with_sign(x, y)


def _for_two_vectors(of_vectors: Any) -> Any:
    """Return a choice of a function of two vectors, or of one and a number in every lane."""
    function = inlined(of_vectors)

    def of_both(x: Any, y: Any) -> Any:
        return function(x, y)

    def of_first(x: Any, y: Any) -> Any:
        return function(x, filled(x, y))

    def of_second(x: Any, y: Any) -> Any:
        return function(filled(y, x), y)

    def choose(x: Any, y: Any) -> Any:
        if isinstance(x, Vector):
            if isinstance(y, Vector):
                return of_both
            return of_first if isinstance(y, types.Number) else None
        return of_second if isinstance(y, Vector) and isinstance(x, types.Number) else None

    return choose


for _of_two_numbers, _of_two_vectors in {
    builtins.max: _larger,
    builtins.min: _smaller,
    math.copysign: _copysign,
}.items():
    overload(_of_two_numbers)(_for_two_vectors(_of_two_vectors))


@overload(operator.pow, prefer_literal=True)
def _power(x: Any, n: Any) -> Any:
    if not isinstance(x, Vector) or not isinstance(n, types.IntegerLiteral):
        return None
    times = n.literal_value
    if not 1 <= times <= HIGHEST_POWER:
        return None

    def product(x: Any, n: Any) -> Any:
        result = x
        for _ in range(times - 1):
            result = result * x
        return result

    return product
