"""Building blocks of matrix products."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    Vector,
    call,
    pointer_to,
    splat,
)

__all__ = [
    "add_products",
    "add_products_of",
    "first_half",
    "multiply_add",
    "rows_of",
    "sum_products",
]


@intrinsic
def multiply_add(typing, array, i, vector, total):
    """Return ``array[i] * vector + total``."""

    def generate(context, builder, signature, args):
        number = builder.load(pointer_to(context, builder, signature.args[0], args[0], args[1]))
        factor = splat(builder, number, args[2].type)
        return call(builder, "fmuladd", factor, args[2], args[3])

    return total(array, types.intp, vector, total), generate


@intrinsic
def first_half(typing, vector):
    """Return the first half of the lanes of a vector, as a vector of half the width."""

    def generate(context, builder, signature, args):
        lanes = list(range(args[0].type.count // 2))
        order = ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
        return builder.shuffle_vector(args[0], ir.Constant(args[0].type, ir.Undefined), order)

    return Vector(vector.dtype, half=True)(vector), generate


@intrinsic(prefer_literal=True)
def rows_of(typing, vector, count):
    """Return a tuple of `count` copies of a vector."""

    def generate(context, builder, signature, args):
        return cgutils.pack_array(builder, [args[0]] * count.literal_value)

    return types.UniTuple(vector, count.literal_value)(vector, count), generate


@intrinsic
def add_products(typing, rows, array, i, stride, vector):
    """Return ``rows[r] + array[i + r * stride] * vector`` for every r."""

    def generate(context, builder, signature, args):
        rows, array, i, stride, vector = args
        sums = []
        for r in range(signature.args[0].count):
            number = builder.load(pointer_to(context, builder, signature.args[1], array, i))
            factor = splat(builder, number, vector.type)
            row = builder.extract_value(rows, r)
            sums.append(call(builder, "fmuladd", factor, vector, row))
            i = builder.add(i, stride)
        return cgutils.pack_array(builder, sums)

    return rows(rows, array, types.intp, types.intp, vector), generate


@intrinsic
def add_products_of(typing, rows, array, places, k, vector):
    """Return ``rows[r] + array[places[r] + k] * vector`` for every r."""

    def generate(context, builder, signature, args):
        rows, array, places, k, vector = args
        sums = []
        for r in range(signature.args[0].count):
            place = builder.extract_value(places, r)
            start = pointer_to(context, builder, signature.args[1], array, place)
            number = builder.load(builder.gep(start, [k], inbounds=True))
            factor = splat(builder, number, vector.type)
            row = builder.extract_value(rows, r)
            sums.append(call(builder, "fmuladd", factor, vector, row))
        return cgutils.pack_array(builder, sums)

    return rows(rows, array, places, types.intp, vector), generate


@intrinsic
def sum_products(typing, total, array, i, rows):
    """Return ``total + Σ array[i + r] * rows[r]``, added one after the other."""
    if not isinstance(rows, types.UniTuple):
        return None

    def generate(context, builder, signature, args):
        total, array, i, rows = args
        for r in range(signature.args[3].count):
            number = builder.load(pointer_to(context, builder, signature.args[1], array, i))
            factor = splat(builder, number, total.type)
            total = call(builder, "fmuladd", factor, builder.extract_value(rows, r), total)
            i = builder.add(i, i.type(1))
        return total

    return total(total, array, types.intp, rows), generate
