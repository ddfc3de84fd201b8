"""How the threads of a team divide work, and where they wait for each other.

A meeting of two costs about two tenths of a microsecond while every thread has a processor. Where
other programs want the processors too, a thread may be put aside for milliseconds, and all wait for
it: a long call then goes on in one thread, see `is_held_up`.
"""

import os
import time

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.team import ABANDONED, ALONE, ARRIVED, LINE, OPENED, OWN, WAITED
from accelnn.backends.numba.vectors._type import I32, I64, IS_X86

__all__ = ["clock", "go_alone", "goes_alone", "is_abandoned", "is_held_up", "share", "wait"]

# Looks at the meeting, some microseconds, before the processor is offered to others.
SPINS = 300
# Nanoseconds before waiting is judged, and the part of them that is too much. A division of work
# in which one thread has twice as much to do as another makes a half.
PATIENCE = 20_000_000
TOO_MUCH = 0.75
# The number of the clock that is never set back.
MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 0)


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
    if _add(member.meeting, ARRIVED, 1) == member.size * round_:
        _write(member.meeting, OPENED, round_)
        return
    spins, since = 0, 0
    while _read(member.meeting, OPENED) < round_ and _read(member.meeting, ABANDONED) == 0:
        spins += 1
        if spins < SPINS:
            _pause()
        else:
            since = since or clock()
            _give_way()
    if since:
        _add(member.meeting, WAITED, clock() - since)


@inlined
def is_abandoned(member):
    """Return, after a meeting, whether a thread has failed, so that the others work for nothing."""
    return _read(member.meeting, ABANDONED) != 0


@inlined
def is_held_up(member, since):
    """Return whether the team has mostly waited since that time on the clock."""
    elapsed = clock() - since
    if member.size == 1 or elapsed < PATIENCE:
        return False
    return _read(member.meeting, WAITED) > TOO_MUCH * elapsed * (member.size - 1)


@inlined
def go_alone(member):
    """Ask the team, before a meeting, to leave the rest of the work to one thread."""
    _write(member.meeting, ALONE, 1)


@inlined
def goes_alone(member):
    """Return, after that meeting, whether it was asked."""
    return member.size > 1 and _read(member.meeting, ALONE) == 1


def _place(context, builder, array_type, array, i):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [i])


@intrinsic
def _add(typing, array, i, number):
    """Add atomically and return the sum."""

    def generate(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], *args[:2])
        return builder.add(builder.atomic_rmw("add", place, args[2], "seq_cst"), args[2])

    return types.int64(array, types.intp, types.int64), generate


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
        if IS_X86:
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


@intrinsic
def clock(typing):
    """Return nanoseconds since some time in the past; zero where the system has no such call."""

    def generate(context, builder, signature, args):
        if os.name != "posix":
            return I64(0)
        answer = cgutils.alloca_once(builder, ir.ArrayType(I64, 2))
        place = builder.bitcast(answer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(I32, [I32, place.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [I32(MONOTONIC), place])
        seconds, nanoseconds = (builder.extract_value(builder.load(answer), k) for k in range(2))
        return builder.add(builder.mul(seconds, I64(1_000_000_000)), nanoseconds)

    return types.int64(), generate
