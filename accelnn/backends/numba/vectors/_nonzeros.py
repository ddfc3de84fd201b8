"""The non-zeros of vectors: which lanes they are in, and those lanes moved together."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    constant,
    is_single,
    pointer_to,
    splat,
)

__all__ = ["count_of", "first_of", "lanes_of_nonzeros", "store_together"]


@intrinsic
def lanes_of_nonzeros(typing, x):
    """Return an integer with a bit for each lane, which is set where x is not zero, also for NaN.

    There are 32 lanes at most.
    """

    def generate(context, builder, signature, args):
        (x,) = args
        return builder.zext(_bits_of(builder, _is_nonzero(builder, x)), I64)

    return types.intp(x), generate


@intrinsic
def count_of(typing, bits):
    """Return how many bits are set."""

    def generate(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.intp(types.intp), generate


@intrinsic
def first_of(typing, bits):
    """Return the number of the lowest bit that is set, if there is one."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.intp), generate


@intrinsic
def store_together(typing, values, columns, i, x, column):
    """Write the non-zeros of a vector at ``values[i]``, their columns in `columns`; return the end.

    The first lane is that of `column`. A whole vector is written to both. For AVX-512 only, where
    lanes are moved in a register: the instruction that stores no others takes a hundred cycles on
    some processors.
    """

    def generate(context, builder, signature, args):
        values, columns, i, x, column = args
        # Lanes of one register, and integers as wide as they are.
        lanes = 16 if is_single(x.type) else 8
        integer = I32 if is_single(x.type) else I64
        integers = ir.VectorType(integer, lanes)
        kept = ir.VectorType(ir.IntType(signature.args[1].dtype.bitwidth), lanes)
        first = builder.trunc(column, I32) if is_single(x.type) else column
        for start in range(0, x.type.count, lanes):
            numbers = list(range(start, start + lanes))
            order = ir.Constant(ir.VectorType(I32, lanes), numbers)
            part = builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), order)
            mask = _is_nonzero(builder, part)
            places = builder.add(splat(builder, first, integers), ir.Constant(integers, numbers))
            places = _moved_together(builder, places, mask)
            if kept != integers:
                places = builder.trunc(places, kept)
            moved = ((_moved_together(builder, part, mask), 0, values), (places, 1, columns))
            for vector, argument, array in moved:
                array_type = signature.args[argument]
                pointer = pointer_to(context, builder, array_type, array, i)
                pointer = builder.bitcast(pointer, vector.type.as_pointer())
                builder.store(vector, pointer, align=array_type.dtype.bitwidth // 8)
            count = builder.ctpop(_bits_of(builder, mask))
            i = builder.add(i, builder.zext(count, I64))
        return i

    return types.intp(values, columns, types.intp, x, types.intp), generate


def _is_nonzero(builder: Any, x: Any) -> Any:
    return builder.fcmp_unordered("!=", x, constant(x.type, 0.0))


def _bits_of(builder: Any, mask: Any) -> Any:
    return builder.bitcast(mask, ir.IntType(mask.type.count))


def _moved_together(builder: Any, x: Any, mask: Any) -> Any:
    """Return the lanes of a register that a mask selects, one after the other, and then zeros."""
    letter = "i" if isinstance(x.type.element, ir.IntType) else "f"
    name = f"llvm.x86.avx512.mask.compress.v{x.type.count}{letter}{512 // x.type.count}"
    kind = ir.FunctionType(x.type, [x.type, x.type, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [x, ir.Constant(x.type, None), mask])
