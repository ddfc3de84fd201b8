"""What lies a stride apart in an array, as a tuple of vectors or of numbers."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    SQUARE,
    Vector,
    constant,
    is_single,
    llvm_type,
    load_vector,
    pointer_to,
    store_vector,
)

__all__ = [
    "load_numbers",
    "load_places",
    "load_rows",
    "side",
    "store_numbers",
    "store_rows",
    "transpose_square",
]


@intrinsic(prefer_literal=True)
def load_rows(typing, array, i, stride, like, count):
    """Return the vectors at ``array[i + r * stride]``, `count` of them, as wide as `like`."""

    def generate(context, builder, signature, args):
        array, i, stride, *_ = args
        rows, kind = [], llvm_type(like)
        for _ in range(count.literal_value):
            pointer = pointer_to(context, builder, signature.args[0], array, i)
            rows.append(load_vector(builder, pointer, kind))
            i = builder.add(i, stride)
        return cgutils.pack_array(builder, rows, kind)

    rows = types.UniTuple(like, count.literal_value)
    return rows(array, types.intp, types.intp, like, count), generate


@intrinsic
def store_rows(typing, array, i, stride, rows):
    """Write vector r of a tuple at ``array[i + r * stride]``, and zeros after half a vector."""
    if not isinstance(rows, types.BaseTuple):
        return None

    def generate(context, builder, signature, args):
        array, i, stride, rows = args
        for r, kind in enumerate(signature.args[3]):
            row = builder.extract_value(rows, r)
            if kind.half:
                lanes = list(range(2 * row.type.count))
                order = ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
                row = builder.shuffle_vector(row, constant(row.type, 0.0), order)
            pointer = pointer_to(context, builder, signature.args[0], array, i)
            store_vector(builder, row, pointer)
            i = builder.add(i, stride)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, rows), generate


@intrinsic(prefer_literal=True)
def load_places(typing, array, i, count):
    """Return `count` integers from ``array[i]`` on."""

    def generate(context, builder, signature, args):
        array, i, _ = args
        places = []
        for _ in range(count.literal_value):
            pointer = pointer_to(context, builder, signature.args[0], array, i)
            places.append(builder.load(pointer))
            i = builder.add(i, I64(1))
        return cgutils.pack_array(builder, places)

    places = types.UniTuple(types.intp, count.literal_value)
    return places(array, types.intp, count), generate


@intrinsic(prefer_literal=True)
def load_numbers(typing, array, i, stride, count):
    """Return ``array[i + r * stride]``, `count` of them, in float64."""

    def generate(context, builder, signature, args):
        array, i, stride, _ = args
        numbers = []
        for _ in range(count.literal_value):
            number = builder.load(pointer_to(context, builder, signature.args[0], array, i))
            kind = signature.args[0].dtype
            numbers.append(context.cast(builder, number, kind, types.float64))
            i = builder.add(i, stride)
        return cgutils.pack_array(builder, numbers)

    numbers = types.UniTuple(types.float64, count.literal_value)
    return numbers(array, types.intp, types.intp, count), generate


@intrinsic
def store_numbers(typing, array, i, stride, numbers):
    """Write number r of a tuple at ``array[i + r * stride]``."""
    if not isinstance(numbers, types.BaseTuple):
        return None

    def generate(context, builder, signature, args):
        array, i, stride, numbers = args
        kind = signature.args[0].dtype
        for r, given in enumerate(signature.args[3]):
            number = context.cast(builder, builder.extract_value(numbers, r), given, kind)
            builder.store(number, pointer_to(context, builder, signature.args[0], array, i))
            i = builder.add(i, stride)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, numbers), generate


@intrinsic
def side(typing, array):
    """Return the side of the blocks of `transpose_square` for the dtype of `array`, a constant."""

    def generate(context, builder, signature, args):
        return I64(
            SQUARE[
                np.float32 if is_single(llvm_type(Vector(signature.args[0].dtype))) else np.float64
            ]
        )

    return types.intp(array), generate


@intrinsic
def transpose_square(typing, source, i, source_row, target, j, target_row):
    """Write ``target[j + c * target_row + r] = source[i + r * source_row + c]`` for a block."""

    def generate(context, builder, signature, args):
        source, i, source_row, target, j, target_row = args
        element = llvm_type(Vector(signature.args[0].dtype)).element
        n = SQUARE[np.float32 if isinstance(element, ir.FloatType) else np.float64]
        kind, rows = ir.VectorType(element, n), []
        for _ in range(n):
            pointer = pointer_to(context, builder, signature.args[0], source, i)
            rows.append(load_vector(builder, pointer, kind))
            i = builder.add(i, source_row)
        # Blocks across the diagonal change places: first halves, then quarters, and so on.
        distance = n // 2
        while distance:
            lanes = range(n)
            upper = [lane - distance + n if lane & distance else lane for lane in lanes]
            lower = [lane + n if lane & distance else lane + distance for lane in lanes]
            for r in range(n):
                if not r & distance:
                    a, b = rows[r], rows[r + distance]
                    for place, order in ((r, upper), (r + distance, lower)):
                        mask = ir.Constant(ir.VectorType(I32, n), order)
                        rows[place] = builder.shuffle_vector(a, b, mask)
            distance //= 2
        for row in rows:
            store_vector(builder, row, pointer_to(context, builder, signature.args[3], target, j))
            j = builder.add(j, target_row)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate
