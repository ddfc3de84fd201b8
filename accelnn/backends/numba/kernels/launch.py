"""The start of a kernel on all threads of a team, from compiled code.

Starting another thread's share from Python takes as long as many a kernel: that thread waits for
the interpreter, and then converts the arguments once more. Here the first thread tells the others
where its converted arguments are, and they begin within a microsecond, if they are awake.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from accelnn.backends.numba._jit import ZERO, inlined, loop
from accelnn.backends.numba.kernels.meeting import (
    add,
    clock,
    exchange,
    give_way,
    pause,
    read,
    write,
)
from accelnn.backends.numba.team import (
    ABANDONED,
    ALONE,
    ARRIVED,
    ASLEEP,
    CALLED,
    CODE,
    ENGAGED,
    FINISHED,
    OPENED,
    READY,
    WAITED,
    Member,
    own_of,
    state_of,
)
from accelnn.backends.numba.vectors._type import I32, I64
from accelnn.backends.numba.vectors._view import View, make_view

__all__ = ["launch", "serve"]

# Looks at a counter, some microseconds, before a thread that waits for others gives way to other
# programs; and one that waits for the next call, which ends after so many, where there is no clock.
LOOKS, EAGER_LOOKS, MOST_LOOKS = 300, 1_000, 100_000

own_place, state_place = inlined(own_of), inlined(state_of)


@inlined
def launch(kernel, meeting, size, arguments):
    """Call ``kernel(member, *arguments)`` on `size` threads, or as many of them as are awake.

    The caller has the team for itself, if there is more than one thread.
    """
    code, place = hand_out(kernel, meeting, arguments)
    engaged = ZERO + 1
    if size > 1:
        for counter in (ARRIVED, OPENED, ABANDONED, WAITED, ALONE, FINISHED):
            write(meeting, counter, ZERO)
        write(meeting, own_place(ZERO), ZERO)
        for thread in range(1, size):
            if exchange(meeting, state_place(thread), READY, ENGAGED):
                write(meeting, state_place(thread) + 1, engaged)
                write(meeting, own_place(engaged), ZERO)
                engaged += 1
        write(meeting, CODE, code)
        write(meeting, CODE + 1, place)
        write(meeting, CODE + 2, engaged)
        for thread in range(1, size):
            if read(meeting, state_place(thread)) == ENGAGED:
                write(meeting, state_place(thread), CALLED)
    failed = perform(code, place, ZERO, engaged) != 0
    if engaged > 1:
        if failed:
            write(meeting, ABANDONED, ZERO + 1)
        # The arguments are on this thread's stack.
        looks = 0
        while read(meeting, FINISHED) < engaged - 1:
            looks = look_again(looks, LOOKS)
        failed = failed or read(meeting, ABANDONED) != 0
    if failed:
        raise RuntimeError("a kernel failed")  # noqa: EM101, TRY003 - compiled code


@loop
def serve(meeting, thread, patience):
    """Do this thread's share of calls, until there is none for so many nanoseconds."""
    state, since, looks = state_place(thread), clock(), 0
    while True:
        found = read(meeting, state)
        if found == CALLED:
            code, place = read(meeting, CODE), read(meeting, CODE + 1)
            size, number = read(meeting, CODE + 2), read(meeting, state + 1)
            if perform(code, place, number, size) != 0:
                write(meeting, ABANDONED, ZERO + 1)
            write(meeting, state, READY)
            # Last, because the caller waits for nothing else.
            add(meeting, FINISHED, 1)
            since, looks = clock(), 0
            continue
        too_long = clock() - since > patience or looks > MOST_LOOKS
        if found == ASLEEP or (too_long and exchange(meeting, state, READY, ASLEEP)):
            return
        looks = look_again(looks, EAGER_LOOKS)


@inlined
def look_again(looks, eager):
    """Wait a moment, after so many times, without giving way the first times; count it."""
    if looks < eager:
        pause()
    else:
        give_way()
    return looks + 1


@intrinsic
def hand_out(typing, kernel, meeting, arguments):
    """Return the address of code that does a member's share, and that of what it needs for it.

    The arguments are stored on the stack of the function that calls this, arrays as views.
    """
    given = types.Tuple([meeting, *map(types.unliteral, arguments)])
    seen = types.Tuple([*map(_seen, given)])
    member = types.NamedTuple([types.intp, types.intp, seen[0]], Member)
    shape = kernel.get_call_type(typing, (member, *seen.types[1:]), {})

    def generate(context, builder, signature, args):
        arguments = [builder.extract_value(args[2], i) for i in range(len(given) - 1)]
        stored = cgutils.alloca_once(builder, context.get_value_type(seen))
        for i, argument in enumerate([args[1], *arguments]):
            view = _view(context, builder, given[i], argument)
            builder.store(view, cgutils.gep_inbounds(builder, stored, 0, i))
        code = _code_of_share(context, builder, kernel, shape, member, stored.type)
        addresses = [builder.ptrtoint(pointer, I64) for pointer in (code, stored)]
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.int64, 2)(kernel, meeting, arguments), generate


def _code_of_share(
    context: Any, builder: Any, kernel: Any, shape: Any, member: Any, place_type: Any
) -> ir.Function:
    """Write a function that loads the arguments of a kernel and calls it."""
    compiled = kernel.dispatcher.get_compile_result(shape)
    context.active_code_library.add_linking_library(compiled.library)
    kind = ir.FunctionType(I32, [place_type, I64, I64])
    name = f"share.{compiled.fndesc.mangled_name}"
    function = ir.Function(builder.module, kind, builder.module.get_unique_name(name))
    function.linkage = "internal"
    inside = ir.IRBuilder(function.append_basic_block())
    place, number, size = function.args
    meeting, *arguments = (
        inside.load(cgutils.gep_inbounds(inside, place, 0, i)) for i in range(len(shape.args))
    )
    myself = context.make_tuple(inside, member, [number, size, meeting])
    callee = context.declare_function(builder.module, compiled.fndesc)
    status, _ = context.call_conv.call_function(
        inside, callee, shape.return_type, shape.args, [myself, *arguments]
    )
    inside.ret(inside.zext(status.is_error, I32))
    return function


def _seen(kind: Any) -> Any:
    """Return the type of an argument, an array or a tuple of arrays, as a kernel's share has it."""
    if isinstance(kind, types.Array):
        if kind.layout != "C":
            msg = f"a kernel takes C-contiguous arrays, not {kind}"
            raise TypingError(msg)
        return View(kind.dtype, kind.ndim)
    if isinstance(kind, types.BaseNamedTuple):
        return types.NamedTuple([*map(_seen, kind)], kind.instance_class)
    return kind


def _view(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return the argument itself as that."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        shape = cgutils.unpack_tuple(builder, array.shape)
        return make_view(context, builder, _seen(kind), array.data, shape)
    if isinstance(kind, types.BaseNamedTuple):
        items = [
            _view(context, builder, item_kind, builder.extract_value(value, i))
            for i, item_kind in enumerate(kind)
        ]
        return context.make_tuple(builder, _seen(kind), items)
    return value


@intrinsic
def perform(typing, code, place, number, size):
    """Do a member's share; return 0, or another number if that failed."""

    def generate(context, builder, signature, args):
        code, place, number, size = args
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(I32, [pointer, I64, I64])
        function = builder.inttoptr(code, kind.as_pointer())
        return builder.call(function, [builder.inttoptr(place, pointer), number, size])

    return types.int32(types.int64, types.int64, types.int64, types.int64), generate
