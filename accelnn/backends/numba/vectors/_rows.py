"""What lies a stride apart in an array, as a tuple of vectors or of numbers."""

from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    Vector,
    llvm_type,
    load_vector,
    pointer_to,
    store_vector,
)

__all__ = ["load_numbers", "load_rows", "store_numbers", "store_rows"]


@intrinsic(prefer_literal=True)
def load_rows(typing, array, i, stride, count):
    """Return the vectors at ``array[i + r * stride]``, `count` of them."""

    def generate(context, builder, signature, args):
        array, i, stride, _ = args
        rows, kind = [], llvm_type(signature.return_type.dtype)
        for _ in range(count.literal_value):
            pointer = pointer_to(context, builder, signature.args[0], array, i)
            rows.append(load_vector(builder, pointer, kind))
            i = builder.add(i, stride)
        return cgutils.pack_array(builder, rows, kind)

    rows = types.UniTuple(Vector(array.dtype), count.literal_value)
    return rows(array, types.intp, types.intp, count), generate


@intrinsic
def store_rows(typing, array, i, stride, rows):
    """Write vector r of a tuple at ``array[i + r * stride]``."""
    if not isinstance(rows, types.BaseTuple):
        return None

    def generate(context, builder, signature, args):
        array, i, stride, rows = args
        for r in range(len(signature.args[3])):
            pointer = pointer_to(context, builder, signature.args[0], array, i)
            store_vector(builder, builder.extract_value(rows, r), pointer)
            i = builder.add(i, stride)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, rows), generate


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
