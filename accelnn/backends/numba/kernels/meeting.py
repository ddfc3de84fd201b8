"""How the threads of a team divide work, and where they wait for each other.

Waiting costs about a tenth of a microsecond while every thread has a processor.
"""

import os
import platform

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.team import ABANDONED, ARRIVED, LINE, OPENED, OWN

__all__ = ["share", "wait"]

# Looks at the clock of the meeting before the processor is offered to others.
SPINS = 2_000


@inlined
def share(member, count, unit):
    """Return the part of ``range(count)`` that is this thread's, cut at multiples of `unit`."""
    units = (count + unit - 1) // unit
    first = unit * (units * member.number // member.size)
    last = unit * (units * (member.number + 1) // member.size)
    return min(first, count), min(last, count)


@inlined
def wait(member):
    """Return when every thread of the team has come here; what they wrote is then visible."""
    if member.size == 1:
        return
    own = OWN + LINE * member.number
    member.meeting[own] += 1
    round_ = member.meeting[own]
    if _add(member.meeting, ARRIVED) == member.size * round_:
        _write(member.meeting, OPENED, round_)
        return
    spins = 0
    while _read(member.meeting, OPENED) < round_ and _read(member.meeting, ABANDONED) == 0:
        spins += 1
        if spins < SPINS:
            _pause()
        else:
            _give_way()


def _place(context, builder, array_type, array, i):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [i])


@intrinsic
def _add(typing, array, i):
    """Add one atomically and return the sum."""

    def generate(context, builder, signature, args):
        one = ir.Constant(ir.IntType(64), 1)
        place = _place(context, builder, signature.args[0], *args)
        return builder.add(builder.atomic_rmw("add", place, one, "seq_cst"), one)

    return types.int64(array, types.intp), generate


@intrinsic
def _read(typing, array, i):
    def generate(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], *args)
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def _write(typing, array, i, value):
    def generate(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], *args[:2])
        builder.store_atomic(args[2], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def _pause(typing):
    """Tell the processor that this is a waiting loop, where it has a word for that."""

    def generate(context, builder, signature, args):
        if platform.machine().lower() in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _give_way(typing):
    """Offer the processor to other threads, where the system has a call for that."""

    def generate(context, builder, signature, args):
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate
