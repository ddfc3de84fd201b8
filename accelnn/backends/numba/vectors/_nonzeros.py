"""The non-zeros of vectors: which lanes they are in, and those lanes moved together."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import (
    I32,
    I64,
    MASKS_SELECT,
    constant,
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

    The first lane is that of `column`. A whole vector is written to both. Only if `HAS_COMPRESS`.
    """

    def generate(context, builder, signature, args):
        values, columns, i, x, column = args
        # Those of one register.
        lanes = x.type.count // 2
        integers = ir.VectorType(ir.IntType(signature.args[1].dtype.bitwidth), lanes)
        for start in range(0, x.type.count, lanes):
            order = ir.Constant(ir.VectorType(I32, lanes), list(range(start, start + lanes)))
            part = builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), order)
            mask = _is_nonzero(builder, part)
            if MASKS_SELECT:
                moved, numbers = _moved_by_mask(builder, part, mask, integers)
            else:
                moved, numbers = _moved_by_table(builder, part, mask, integers)
            first = builder.trunc(builder.add(column, I64(start)), integers.element)
            numbers = builder.add(numbers, splat(builder, first, integers))
            for vector, argument, array in ((moved, 0, values), (numbers, 1, columns)):
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


def _moved_by_mask(builder: Any, x: Any, mask: Any, integers: ir.VectorType) -> tuple[Any, Any]:
    """Return the lanes of a register that a mask selects, moved together, and their numbers.

    The instruction that stores no other lanes takes a hundred cycles on some processors.
    """
    lanes = mask.type.count
    # As wide as the register, because not every processor moves shorter ones.
    wide = ir.VectorType(ir.IntType(512 // lanes), lanes)
    moved = []
    for vector, letter in ((x, "f"), (ir.Constant(wide, list(range(lanes))), "i")):
        kind = ir.FunctionType(vector.type, [vector.type, vector.type, mask.type])
        name = f"llvm.x86.avx512.mask.compress.v{lanes}{letter}{512 // lanes}"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        moved.append(builder.call(function, [vector, ir.Constant(vector.type, None), mask]))
    if wide != integers:
        moved[1] = builder.trunc(moved[1], integers)
    return moved[0], moved[1]


def _moved_by_table(builder: Any, x: Any, mask: Any, integers: ir.VectorType) -> tuple[Any, Any]:
    """Do the same with AVX2, which has no such instruction: the order of lanes is looked up."""
    lanes, eight = mask.type.count, 8
    row = builder.zext(_bits_of(builder, mask), I64)
    numbers = _row_of_table(builder, row, lanes, 1)
    # Halves of a double are moved like two floats.
    order = numbers if lanes == eight else _row_of_table(builder, row, lanes, 2)
    floats, places = ir.VectorType(ir.FloatType(), eight), ir.VectorType(I32, eight)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(floats, [floats, places]), "llvm.x86.avx2.permps"
    )
    given = [builder.bitcast(x, floats), builder.zext(order, places)]
    return builder.bitcast(builder.call(function, given), x.type), builder.zext(numbers, integers)


def _row_of_table(builder: Any, row: Any, lanes: int, parts: int) -> Any:
    """Return, for a mask of so many lanes, the numbers of the parts of those that it selects."""
    name = f"accelnn.lanes.{lanes}.{parts}"
    kind = ir.VectorType(ir.IntType(8), lanes * parts)
    table = builder.module.globals.get(name)
    if table is None:
        rows = []
        for mask in range(2**lanes):
            chosen = [lane for lane in range(lanes) if mask >> lane & 1]
            numbers = [lane * parts + part for lane in chosen for part in range(parts)]
            rows.append(ir.Constant(kind, numbers + [0] * (kind.count - len(numbers))))
        whole = ir.ArrayType(kind, len(rows))
        table = ir.GlobalVariable(builder.module, whole, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(whole, rows)
    place = builder.gep(table, [I64(0), row], inbounds=True)
    return builder.load(place, align=kind.count)
