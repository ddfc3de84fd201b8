"""Work division and barriers for the threads of a team.

A barrier of two threads takes about 0.2 µs while every thread has a CPU. If other programs compete
for the CPUs, a thread may be descheduled for milliseconds while all others wait for it: a long call
then continues on one thread, see `watch`.
"""

import os
import time

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelnn.backends.numba._jit import ZERO, inlined
from accelnn.backends.numba.team import (
    ABANDONED,
    ALONE,
    ARRIVED,
    OPENED,
    PERIOD,
    TOO_MUCH,
    WAITED,
    own_of,
)
from accelnn.backends.numba.vectors._type import I32, I64, IS_X86, pointer_to

__all__ = [
    "add",
    "clock",
    "exchange",
    "give_way",
    "go_alone",
    "goes_alone",
    "is_abandoned",
    "pause",
    "read",
    "share",
    "wait",
    "watch",
    "write",
]

# Spins at a barrier, some microseconds, before a thread yields its CPU.
SPINS = 300
own_place = inlined(own_of)
# The id of the monotonic clock.
MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 0)


@inlined
def share(member, count, unit):
    """Return this thread's part of ``range(count)``, split at multiples of `unit`."""
    units = (count + unit - 1) // unit
    first = unit * (units * member.number // member.size)
    last = unit * (units * (member.number + 1) // member.size)
    return min(first, count), min(last, count)


@inlined
def wait(member):
    """Wait at a barrier for all threads of the team; their writes are visible afterwards."""
    if member.size == 1:
        return
    own = own_place(member.number)
    member.meeting[own] += 1
    round_ = member.meeting[own]
    if add(member.meeting, ARRIVED, 1) == member.size * round_:
        write(member.meeting, OPENED, round_)
        return
    spins, since = 0, 0
    while read(member.meeting, OPENED) < round_ and read(member.meeting, ABANDONED) == 0:
        spins += 1
        if spins < SPINS:
            pause()
        else:
            since = since or clock()
            give_way()
    if since:
        add(member.meeting, WAITED, clock() - since)


@inlined
def is_abandoned(member):
    """Return whether a thread has failed, or the call was interrupted, so that all may stop."""
    return read(member.meeting, ABANDONED) != 0


@inlined
def watch(member, since, waited, periods):
    """Look after `since`, when the threads had waited so long, whether they are held up.

    Returns the new `since` and `waited`, and in how many periods in a row they mostly waited.
    """
    now = clock()
    if member.size == 1 or now - since < PERIOD:
        return since, waited, periods
    total = read(member.meeting, WAITED)
    mostly = total - waited > TOO_MUCH * (now - since) * (member.size - 1)
    return now, total, periods + 1 if mostly else ZERO


@inlined
def go_alone(member, reason):
    """Request, before a barrier, that one thread do the rest of the work."""
    write(member.meeting, ALONE, reason)


@inlined
def goes_alone(member):
    """Return, after that barrier, whether `go_alone` was called."""
    return member.size > 1 and read(member.meeting, ALONE) != 0


@intrinsic
def add(typing, array, i, number):
    """Add atomically and return the sum."""

    def generate(context, builder, signature, args):
        place = pointer_to(context, builder, signature.args[0], *args[:2])
        return builder.add(builder.atomic_rmw("add", place, args[2], "seq_cst"), args[2])

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def read(typing, array, i):
    """Read atomically."""

    def generate(context, builder, signature, args):
        place = pointer_to(context, builder, signature.args[0], *args)
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def write(typing, array, i, value):
    """Write atomically."""

    def generate(context, builder, signature, args):
        place = pointer_to(context, builder, signature.args[0], *args[:2])
        builder.store_atomic(args[2], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def exchange(typing, array, i, old, new):
    """Replace one value by another atomically; return whether the first was there."""

    def generate(context, builder, signature, args):
        place = pointer_to(context, builder, signature.args[0], *args[:2])
        found = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(array, types.intp, types.int64, types.int64), generate


@intrinsic
def pause(typing):
    """Emit the spin-wait hint of the CPU, if it has one."""

    def generate(context, builder, signature, args):
        if IS_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(typing):
    """Yield the CPU to other threads, where the system has a call for that."""

    def generate(context, builder, signature, args):
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def clock(typing):
    """Return the monotonic clock in nanoseconds, or 0 where the system has none."""

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
