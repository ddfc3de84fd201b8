"""Flush-to-zero mode of the CPU."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import I32, IS_X86

__all__ = ["flush_denormals", "restore"]

# The bits FTZ and DAZ of the x86 register MXCSR: denormal results and operands count as zero.
_FLUSH = 0x8040


@intrinsic
def flush_denormals(typing):
    """Flush denormal numbers to zero; return the previous mode, to `restore` afterwards.

    The slopes of saturated units are full of denormals, and on some x86 CPUs an operation on one
    takes a hundred times as long as on normal numbers. Elsewhere nothing is changed.
    """

    def generate(context, builder, signature, args):
        if not IS_X86:
            return I32(0)
        place = cgutils.alloca_once(builder, I32)
        _control_word(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, I32(_FLUSH)), place)
        _control_word(builder, "ldmxcsr", place)
        return before

    return types.int32(), generate


@intrinsic
def restore(typing, before):
    """Undo `flush_denormals`."""

    def generate(context, builder, signature, args):
        if IS_X86:
            place = cgutils.alloca_once_value(builder, args[0])
            _control_word(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), generate


def _control_word(builder: Any, instruction: str, place: Any) -> None:
    pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    name = f"llvm.x86.sse.{instruction}"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [pointer])
