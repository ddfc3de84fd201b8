"""Loads and stores of vectors, by flat index and without bounds checks."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    Vector,
    constant,
    is_single,
    lanes_before,
    llvm_type,
    load_vector,
    pointer_to,
    splat,
    store_vector,
)
from accelnn.backends.numba.vectors._view import View, make_view

__all__ = [
    "at",
    "filled",
    "load",
    "load_first",
    "load_like",
    "part_as",
    "per_line",
    "prefetch",
    "prefetch_near",
    "rows_at",
    "store",
    "store_first",
    "width",
    "zeros",
]

# Of a cache line, or half of one.
LINE_BITS = 512


@intrinsic
def rows_at(typing, arrays, i):
    """Return a named tuple with row `i` of each view of another one."""
    kinds = [View(array.dtype) for array in arrays]
    rows = types.NamedTuple(kinds, arrays.instance_class)

    def generate(context, builder, signature, args):
        found = []
        for number, kind in enumerate(kinds):
            whole = builder.extract_value(args[0], number)
            length = builder.extract_value(whole, (1, 1))
            start = builder.mul(args[1], length)
            place = pointer_to(context, builder, signature.args[0][number], whole, start)
            found.append(make_view(context, builder, kind, place, [length]))
        return context.make_tuple(builder, rows, found)

    return rows(arrays, types.intp), generate


@intrinsic
def part_as(typing, like, array, start, count):
    """Return the memory from ``array[start]`` on as `count` numbers of the dtype of `like`."""

    def generate(context, builder, signature, args):
        _, array, start, count = args
        kind = signature.return_type
        place = pointer_to(context, builder, signature.args[1], array, start)
        place = builder.bitcast(place, context.get_data_type(kind.dtype).as_pointer())
        return make_view(context, builder, kind, place, [count])

    return View(like.dtype)(like, array, types.intp, types.intp), generate


@intrinsic
def zeros(typing, array):
    """Return a vector of zeros of the dtype of `array`."""

    def generate(context, builder, signature, args):
        return constant(llvm_type(signature.return_type), 0.0)

    return Vector(array.dtype)(array), generate


@intrinsic
def width(typing, array):
    """Return the number of lanes for the dtype of `array`, a compile-time constant."""

    def generate(context, builder, signature, args):
        return I64(llvm_type(Vector(signature.args[0].dtype)).count)

    return types.intp(array), generate


@intrinsic
def filled(typing, like, number):
    """Return a vector of the dtype of an array or vector with `number` in every lane."""

    def generate(context, builder, signature, args):
        return splat(builder, args[1], llvm_type(signature.return_type))

    return Vector(like.dtype)(like, like.dtype), generate


@intrinsic
def load(typing, array, i):
    """Return the vector at ``array[i]``."""

    def generate(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args)
        return load_vector(builder, pointer, llvm_type(signature.return_type))

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def load_like(typing, vector, array, i):
    """Return what is at ``array[i]``, as many numbers as a vector has."""

    def generate(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[1], *args[1:])
        return load_vector(builder, pointer, args[0].type)

    return vector(vector, array, types.intp), generate


@intrinsic
def store(typing, array, i, vector):
    """Write a vector at ``array[i]``."""
    if not isinstance(vector, Vector):
        # A user's function that returns a scalar is not vectorised.
        return None

    def generate(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        store_vector(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def load_first(typing, array, i, count):
    """Return the first `count` lanes of the vector at ``array[i]``, and zeros in the rest."""

    def generate(context, builder, signature, args):
        array, i, count = args
        kind = llvm_type(signature.return_type)
        pointer, mask = masked(context, builder, signature.args[0], array, i, count, kind)
        name = f"llvm.masked.load.v{kind.count}f{32 if is_single(kind) else 64}.p0"
        function = ir.FunctionType(kind, [pointer.type, I32, mask.type, kind])
        function = cgutils.get_or_insert_function(builder.module, function, name)
        align = I32(4 if is_single(kind) else 8)
        return builder.call(function, [pointer, align, mask, constant(kind, 0.0)])

    return Vector(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def store_first(typing, array, i, vector, count):
    """Write the first `count` lanes of a vector at ``array[i]``."""

    def generate(context, builder, signature, args):
        array, i, vector, count = args
        kind = vector.type
        pointer, mask = masked(context, builder, signature.args[0], array, i, count, kind)
        name = f"llvm.masked.store.v{kind.count}f{32 if is_single(kind) else 64}.p0"
        function = ir.FunctionType(ir.VoidType(), [kind, pointer.type, I32, mask.type])
        function = cgutils.get_or_insert_function(builder.module, function, name)
        align = I32(4 if is_single(kind) else 8)
        builder.call(function, [vector, pointer, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), generate


def masked(context, builder, array_type, array, i, count, kind):
    """Return a pointer to a vector in an array, and the mask of its first lanes."""
    pointer = pointer_to(context, builder, array_type, array, i)
    return builder.bitcast(pointer, kind.as_pointer()), lanes_before(builder, count, kind.count)


@intrinsic
def at(typing, array, i):
    """Return ``array[i]``; integers become 64-bit indices."""

    def generate(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args)
        value = builder.load(pointer)
        if not isinstance(signature.args[0].dtype, types.Integer) or value.type == I64:
            return value
        return builder.zext(value, I64)

    result = types.intp if isinstance(array.dtype, types.Integer) else array.dtype
    return result(array, types.intp), generate


@intrinsic
def per_line(typing, array):
    """Return how many numbers of the dtype of `array` a cache line has, a constant."""

    def generate(context, builder, signature, args):
        return I64(LINE_BITS // signature.args[0].dtype.bitwidth)

    return types.intp(array), generate


@intrinsic
def prefetch(typing, array, i):
    """Prefetch the cache line of ``array[i]`` into L2 cache."""
    return types.void(array, types.intp), _prefetch_into(2)


@intrinsic
def prefetch_near(typing, array, i):
    """Prefetch the cache line of ``array[i]`` into L1 cache."""
    return types.void(array, types.intp), _prefetch_into(3)


def _prefetch_into(locality):
    def generate(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], *args)
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, data = I32(0), I32(1)
        builder.call(function, [pointer, read, I32(locality), data])
        return context.get_dummy_value()

    return generate
