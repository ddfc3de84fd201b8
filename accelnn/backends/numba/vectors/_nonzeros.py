"""The non-zeros of vectors: which lanes they are in, and copies of a few neighbours."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    QUAD,
    Vector,
    constant,
    is_single,
    llvm_type,
    load_vector,
    pointer_to,
    splat,
    store_vector,
)

__all__ = ["copy_quad", "count_of", "decode_quad", "first_of", "lanes_of_nonzeros", "quads_of"]

# The most lanes that a vector has.
LANES_OF_BITS = 32


@intrinsic
def lanes_of_nonzeros(typing, x):
    """Return an integer with a bit for each lane, which is set where x is not zero, also for NaN.

    There are 32 lanes at most.
    """

    def generate(context, builder, signature, args):
        (x,) = args
        is_nonzero = builder.fcmp_unordered("!=", x, constant(x.type, 0.0))
        return builder.zext(builder.bitcast(is_nonzero, ir.IntType(x.type.count)), I64)

    return types.intp(x), generate


@intrinsic
def quads_of(typing, bits):
    """Return an integer with a bit for each `QUAD` lanes, which is set where any of theirs is."""

    def generate(context, builder, signature, args):
        (bits,) = args
        found, apart, run = bits, QUAD, 1
        for lane in range(1, QUAD):
            found = builder.or_(found, builder.lshr(bits, I64(lane)))
        found = builder.and_(found, _runs(apart, run))
        # Neighbouring runs of bits are moved together, until there is one.
        while apart < LANES_OF_BITS:
            found = builder.or_(found, builder.lshr(found, I64(apart - run)))
            apart, run = 2 * apart, 2 * run
            found = builder.and_(found, _runs(apart, run))
        return found

    return types.intp(types.intp), generate


def _runs(apart: int, run: int) -> ir.Constant:
    """Return runs of so many set bits, so far apart."""
    return I64(sum((1 << run) - 1 << start for start in range(0, LANES_OF_BITS, apart)))


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
def copy_quad(typing, source, i, target, j):
    """Copy `QUAD` numbers from ``source[i]`` on to ``target[j]`` and after."""

    def generate(context, builder, signature, args):
        source, i, target, j = args
        kind = ir.VectorType(llvm_type(Vector(signature.args[0].dtype)).element, QUAD)
        pointer = pointer_to(context, builder, signature.args[0], source, i)
        numbers = load_vector(builder, pointer, kind)
        store_vector(builder, numbers, pointer_to(context, builder, signature.args[2], target, j))
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), generate


@intrinsic
def decode_quad(typing, codes, i, divisor, single, target, j):
    """Write the `QUAD` bytes of ``codes[i]``, divided by a number, to ``target[j]`` and after.

    With `single`, quotients are rounded to single precision.
    """

    def generate(context, builder, signature, args):
        codes, i, divisor, single, target, j = args
        numbers = ir.VectorType(llvm_type(Vector(signature.args[4].dtype)).element, QUAD)
        code = builder.load(pointer_to(context, builder, signature.args[0], codes, i))
        code_bytes = builder.bitcast(code, ir.VectorType(ir.IntType(8), QUAD))
        dividend = builder.uitofp(builder.zext(code_bytes, ir.VectorType(I32, QUAD)), numbers)
        quotient = builder.fdiv(dividend, splat(builder, divisor, numbers))
        if not is_single(numbers):
            narrow = builder.fptrunc(quotient, ir.VectorType(ir.FloatType(), QUAD))
            quotient = builder.select(single, builder.fpext(narrow, numbers), quotient)
        store_vector(builder, quotient, pointer_to(context, builder, signature.args[4], target, j))
        return context.get_dummy_value()

    shape = types.void(codes, types.intp, target.dtype, types.boolean, target, types.intp)
    return shape, generate
