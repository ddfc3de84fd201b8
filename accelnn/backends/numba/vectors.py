"""Vectors in compiled code: as many numbers as two registers of this processor hold.

LLVM vectorises a loop when it can prove that it may; kernels that live from it say so instead. A
vector is loaded from an array, computed with by ``+ - * /``, where a scalar stands for itself in
every lane, and stored. Arrays are indexed flat and unchecked.
"""

import operator
from collections.abc import Callable, Sequence
from math import factorial, log
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

__all__ = [
    "LANES",
    "SHORT",
    "TALL",
    "WIDE",
    "absolute",
    "add_products",
    "at",
    "borrow",
    "exp_and_expm1",
    "filled",
    "first_lanes",
    "flush_denormals",
    "largest",
    "load",
    "maximum",
    "multiply_add",
    "prefetch",
    "restore",
    "root",
    "rows_of_zeros",
    "store",
    "store_rows",
    "total",
    "where_positive",
    "width",
    "zeros",
]

_features = llvmlite.binding.get_host_cpu_features()
_is_x86 = _features.get("sse2", False)
_avx512 = _features.get("avx512f", False)
_REGISTER_BYTES = 64 if _avx512 else 32 if _features.get("avx", False) else 16
_MANY_REGISTERS = _avx512 or not _is_x86

# Numbers in a vector.
LANES = {np.float32: 2 * _REGISTER_BYTES // 4, np.float64: 2 * _REGISTER_BYTES // 8}
# Rows of a product whose sums stay in registers, with three more for what is multiplied; the rest
# of the rows come in blocks of `SHORT`. In a transposed product, a divisor of `LANES`.
TALL = 12 if _MANY_REGISTERS else 6
SHORT = 4
WIDE = min(8 if _MANY_REGISTERS else 4, *LANES.values())

# The bits of x86's control word by which denormal results and operands count as zero.
_FLUSH = 0x8040

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


class Vector(types.Type):
    """Numba's type of a vector of `LANES` numbers of one dtype."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


def _llvm(vector: Vector) -> ir.VectorType:
    if vector.dtype == types.float32:
        return ir.VectorType(ir.FloatType(), LANES[np.float32])
    return ir.VectorType(ir.DoubleType(), LANES[np.float64])


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _llvm(vector))


# Pieces of machine code ------------------------------------------------------------------------


def _is_single(kind: ir.VectorType) -> bool:
    return isinstance(kind.element, ir.FloatType)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, i: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [i], inbounds=True)


def _load(builder: Any, pointer: Any, kind: ir.VectorType) -> Any:
    pointer = builder.bitcast(pointer, kind.as_pointer())
    return builder.load(pointer, align=4 if _is_single(kind) else 8)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, pointer, align=4 if _is_single(value.type) else 8)


def _splat(builder: Any, number: Any, kind: ir.VectorType) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, _I32(0))
    mask = ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, mask)


def _constant(kind: ir.VectorType, number: float) -> ir.Constant:
    rounded = float(np.float32(number)) if _is_single(kind) else number
    return ir.Constant(kind, [rounded] * kind.count)


def _call(builder: Any, name: str, *args: Any) -> Any:
    """Call an LLVM intrinsic of vectors that returns one of their kind."""
    kind = args[0].type
    full_name = f"llvm.{name}.v{kind.count}f{32 if _is_single(kind) else 64}"
    signature = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, full_name), args)


def _horner(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Return the sum of ``coefficients[k] * x**k``."""
    result = _constant(x.type, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = _call(builder, "fmuladd", result, x, _constant(x.type, coefficient))
    return result


def _reduce(builder: Any, x: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine lanes pairwise, halves with halves, into one number."""
    lanes, undefined = x.type.count, ir.Constant(x.type, ir.Undefined)
    while lanes > 1:
        lanes //= 2
        order = [(i + lanes) % x.type.count for i in range(x.type.count)]
        mask = ir.Constant(ir.VectorType(_I32, x.type.count), order)
        x = combine(x, builder.shuffle_vector(x, undefined, mask))
    return builder.extract_element(x, _I32(0))


# Operators -------------------------------------------------------------------------------------


def _define_operator(op: Any, instruction: str) -> None:
    @type_callable(op)
    def _type(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            vectors = [x for x in (a, b) if isinstance(x, Vector)]
            others = [x for x in (a, b) if not isinstance(x, Vector)]
            if not vectors or not all(isinstance(x, types.Number) for x in others):
                return None
            return vectors[0] if len(set(vectors)) == 1 else None

        return typer

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = signature.return_type
        kind = _llvm(vector)
        operands = []
        for arg, type_ in zip(args, signature.args, strict=True):
            if isinstance(type_, Vector):
                operands.append(arg)
            else:
                number = context.cast(builder, arg, type_, vector.dtype)
                operands.append(_splat(builder, number, kind))
        return getattr(builder, instruction)(*operands)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *pair)(generate)


for _op, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_op, _instruction)


# Memory ----------------------------------------------------------------------------------------


@intrinsic
def borrow(typing, arguments):
    """Return an argument of a kernel, an array or a tuple with arrays in it, without its counts.

    Numba counts references to arrays atomically whenever they are handed on, and threads that share
    an array then wait for each other. The caller of a kernel keeps its arguments alive anyway; of
    an array that the kernel itself has made, this must not be used.
    """

    def without_counts(context, builder, type_, value):
        if isinstance(type_, types.Array):
            array = context.make_array(type_)(context, builder, value)
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            array.parent = cgutils.get_null_value(array.parent.type)
            return array._getvalue()  # noqa: SLF001 - Numba's own way to end an array
        if isinstance(type_, types.BaseTuple):
            for i, member in enumerate(type_):
                item = builder.extract_value(value, i)
                item = without_counts(context, builder, member, item)
                value = builder.insert_value(value, item, i)
        return value

    def generate(context, builder, signature, args):
        return without_counts(context, builder, signature.return_type, args[0])

    return arguments(arguments), generate


@intrinsic
def zeros(typing, array):
    """Return a vector of zeros of the dtype of `array`."""

    def generate(context, builder, signature, args):
        return _constant(_llvm(signature.return_type), 0.0)

    return Vector(array.dtype)(array), generate


@intrinsic
def width(typing, array):
    """Return the number of lanes for the dtype of `array`, known when the kernel is compiled."""

    def generate(context, builder, signature, args):
        return _I64(_llvm(Vector(signature.args[0].dtype)).count)

    return types.intp(array), generate


@intrinsic
def filled(typing, like, number):
    """Return a vector of the dtype of an array or vector with `number` in every lane."""

    def generate(context, builder, signature, args):
        return _splat(builder, args[1], _llvm(signature.return_type))

    return Vector(like.dtype)(like, like.dtype), generate


@intrinsic
def load(typing, array, i):
    """Return the vector at ``array[i]``."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        return _load(builder, pointer, _llvm(signature.return_type))

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing, array, i, vector):
    """Write a vector at ``array[i]``."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        _store(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def at(typing, array, i):
    """Return ``array[i]``; integers as they index."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        value = builder.load(pointer)
        if not isinstance(signature.args[0].dtype, types.Integer) or value.type == _I64:
            return value
        return builder.zext(value, _I64)

    result = types.intp if isinstance(array.dtype, types.Integer) else array.dtype
    return result(array, types.intp), generate


@intrinsic
def prefetch(typing, array, i):
    """Ask for the cache line of ``array[i]``, which may lie anywhere."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep_in_l2, data = _I32(0), _I32(2), _I32(1)
        builder.call(function, [pointer, read, keep_in_l2, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def flush_denormals(typing):
    """Let results below the smallest normal number be zero; return what to `restore` afterwards.

    The slopes of a net that is sure of itself are full of them, and each costs some processors a
    hundred times an ordinary sum. Others have no such switch, nor need of one.
    """

    def generate(context, builder, signature, args):
        if not _is_x86:
            return _I32(0)
        place = cgutils.alloca_once(builder, _I32)
        _control_word(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, _I32(_FLUSH)), place)
        _control_word(builder, "ldmxcsr", place)
        return before

    return types.int32(), generate


@intrinsic
def restore(typing, before):
    """Undo `flush_denormals`."""

    def generate(context, builder, signature, args):
        if _is_x86:
            place = cgutils.alloca_once_value(builder, args[0])
            _control_word(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), generate


def _control_word(builder: Any, instruction: str, place: Any) -> None:
    pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    name = f"llvm.x86.sse.{instruction}"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [pointer])


# Products --------------------------------------------------------------------------------------


@intrinsic
def multiply_add(typing, array, i, vector, total):
    """Return ``array[i] * vector + total``."""

    def generate(context, builder, signature, args):
        number = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]))
        factor = _splat(builder, number, args[2].type)
        return _call(builder, "fmuladd", factor, args[2], args[3])

    return total(array, types.intp, vector, total), generate


@intrinsic(prefer_literal=True)
def rows_of_zeros(typing, array, count):
    """Return a tuple of `count` vectors of zeros of the dtype of `array`."""

    def generate(context, builder, signature, args):
        vector = signature.return_type.dtype
        return cgutils.pack_array(builder, [_constant(_llvm(vector), 0.0)] * count.literal_value)

    return types.UniTuple(Vector(array.dtype), count.literal_value)(array, count), generate


@intrinsic
def add_products(typing, rows, array, i, stride, vector):
    """Return ``rows[r] + array[i + r * stride] * vector`` for every r."""

    def generate(context, builder, signature, args):
        rows, array, i, stride, vector = args
        sums = []
        for r in range(signature.args[0].count):
            number = builder.load(_pointer(context, builder, signature.args[1], array, i))
            factor = _splat(builder, number, vector.type)
            row = builder.extract_value(rows, r)
            sums.append(_call(builder, "fmuladd", factor, vector, row))
            i = builder.add(i, stride)
        return cgutils.pack_array(builder, sums)

    return rows(rows, array, types.intp, types.intp, vector), generate


@intrinsic
def store_rows(typing, array, i, stride, rows):
    """Write vector r of a tuple at ``array[i + r * stride]``."""

    def generate(context, builder, signature, args):
        array, i, stride, rows = args
        for r in range(signature.args[3].count):
            pointer = _pointer(context, builder, signature.args[0], array, i)
            _store(builder, builder.extract_value(rows, r), pointer)
            i = builder.add(i, stride)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, rows), generate


# Functions -------------------------------------------------------------------------------------


@intrinsic
def absolute(typing, x):
    """Return |x|."""

    def generate(context, builder, signature, args):
        return _call(builder, "fabs", args[0])

    return x(x), generate


@intrinsic
def root(typing, x):
    """Return the square root of x."""

    def generate(context, builder, signature, args):
        return _call(builder, "sqrt", args[0])

    return x(x), generate


@intrinsic
def maximum(typing, x, y):
    """Return the larger of x and y; where x is NaN, NaN."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", *args), args[1], args[0])

    return x(x, y), generate


@intrinsic
def where_positive(typing, x, positive, otherwise):
    """Return `positive` where x > 0, else `otherwise`."""

    def generate(context, builder, signature, args):
        x, positive, otherwise = args
        condition = builder.fcmp_ordered(">", x, _constant(x.type, 0.0))
        return builder.select(condition, positive, otherwise)

    return positive(x, positive, otherwise), generate


@intrinsic
def first_lanes(typing, x, count, otherwise):
    """Return the first `count` lanes of x, and `otherwise` in the rest."""

    def generate(context, builder, signature, args):
        x, count, otherwise = args
        lanes = ir.VectorType(_I64, x.type.count)
        numbers = ir.Constant(lanes, list(range(x.type.count)))
        condition = builder.icmp_signed("<", numbers, _splat(builder, count, lanes))
        return builder.select(condition, x, _splat(builder, otherwise, x.type))

    return x(x, types.intp, x.dtype), generate


@intrinsic
def total(typing, x):
    """Return the sum of all lanes."""

    def generate(context, builder, signature, args):
        return _reduce(builder, args[0], builder.fadd)

    return x.dtype(x), generate


@intrinsic
def largest(typing, x):
    """Return the largest lane, without regard to NaN."""

    def generate(context, builder, signature, args):
        return _reduce(builder, args[0], lambda a, b: _call(builder, "maxnum", a, b))

    return x.dtype(x), generate


# exp and expm1 of |x| up to here are normal numbers: half the largest exponent, and some.
_EXP_LIMIT = {True: 87.0, False: 708.0}
# Terms of the series of expm1(r) / r whose remainder at |r| = ln(2) / 2 is under half a unit.
_EXP_TERMS = {True: 7, False: 13}
# ln(2) in two parts, of which the first times any exponent is exact.
_LN2 = {
    True: (0.693359375, log(2.0) - 0.693359375),
    False: (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
}


@intrinsic
def exp_and_expm1(typing, x):
    """Return exp(x) and exp(x) - 1, each to about a unit in the last place.

    x = n ln(2) + r with |r| <= ln(2) / 2; expm1(r) is a series; exp(x) = 2ⁿ (1 + expm1(r)). What
    would leave the range of normal numbers stops at its ends; NaN stays NaN.
    """

    def generate(context, builder, signature, args):
        kind = args[0].type
        single = _is_single(kind)
        limit = _constant(kind, _EXP_LIMIT[single])
        low = _constant(kind, -_EXP_LIMIT[single])
        x = builder.select(builder.fcmp_ordered("<", args[0], low), low, args[0])
        x = builder.select(builder.fcmp_ordered(">", x, limit), limit, x)

        # Adding 1.5 * 2**(mantissa bits) rounds to an integer, which the low bits then hold.
        bits, shift = (_I32, 23) if single else (_I64, 52)
        magic = _constant(kind, 1.5 * 2.0**shift)
        shifted = _call(builder, "fmuladd", x, _constant(kind, 1.0 / log(2.0)), magic)
        n = builder.fsub(shifted, magic)
        r = x
        for part in _LN2[single]:
            r = _call(builder, "fmuladd", n, _constant(kind, -part), r)
        series = _horner(builder, r, [1.0 / factorial(k + 1) for k in range(_EXP_TERMS[single])])
        minus_one = builder.fmul(r, series)

        integers = ir.VectorType(bits, kind.count)
        exponent = builder.shl(
            builder.bitcast(shifted, integers), ir.Constant(integers, [shift] * kind.count)
        )
        one = _constant(kind, 1.0)
        power = builder.bitcast(builder.add(exponent, builder.bitcast(one, integers)), kind)
        exp = _call(builder, "fmuladd", power, minus_one, power)
        expm1 = _call(builder, "fmuladd", power, minus_one, builder.fsub(power, one))
        return context.make_tuple(builder, signature.return_type, [exp, expm1])

    return types.UniTuple(x, 2)(x), generate
