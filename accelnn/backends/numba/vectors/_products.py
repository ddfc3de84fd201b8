"""Building blocks of matrix products."""

from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    Vector,
    call,
    constant,
    llvm_type,
    pointer_to,
    splat,
)

__all__ = ["add_products", "multiply_add", "rows_of_zeros"]


@intrinsic
def multiply_add(typing, array, i, vector, total):
    """Return ``array[i] * vector + total``."""

    def generate(context, builder, signature, args):
        number = builder.load(pointer_to(context, builder, signature.args[0], args[0], args[1]))
        factor = splat(builder, number, args[2].type)
        return call(builder, "fmuladd", factor, args[2], args[3])

    return total(array, types.intp, vector, total), generate


@intrinsic(prefer_literal=True)
def rows_of_zeros(typing, array, count):
    """Return a tuple of `count` vectors of zeros of the dtype of `array`."""

    def generate(context, builder, signature, args):
        vector = signature.return_type.dtype
        return cgutils.pack_array(builder, [constant(llvm_type(vector), 0.0)] * count.literal_value)

    return types.UniTuple(Vector(array.dtype), count.literal_value)(array, count), generate


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
