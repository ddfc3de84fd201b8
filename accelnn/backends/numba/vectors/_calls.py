"""Calls of code at an address, which a kernel is told when it runs."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from accelnn.backends.numba.vectors._type import I64, pointer_to

__all__ = ["call_activation", "call_in_place", "call_loss", "call_update"]


@intrinsic
def call_activation(typing, address, z, i, slopes, j, count):
    """Let the code at an address put values in the place of ``z[i : i + count]``, and slopes."""

    def generate(context, builder, signature, args):
        address, z, i, slopes, j, count = args
        places = [
            pointer_to(context, builder, signature.args[1], z, i),
            pointer_to(context, builder, signature.args[3], slopes, j),
        ]
        kind = ir.FunctionType(ir.VoidType(), [place.type for place in places] + [I64])
        builder.call(builder.inttoptr(address, kind.as_pointer()), [*places, count])
        return context.get_dummy_value()

    return types.void(types.intp, z, types.intp, slopes, types.intp, types.intp), generate


@intrinsic
def call_in_place(typing, address, array, numbers):
    """Let the code at an address compute in the first numbers of an array, from a few others."""

    def generate(context, builder, signature, args):
        address, array, numbers = args
        start = context.get_constant(types.intp, 0)
        arguments = [pointer_to(context, builder, signature.args[1], array, start)]
        arguments += [builder.extract_value(numbers, i) for i in range(numbers.type.count)]
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.void(types.intp, array, types.UniTuple(types.float64, len(numbers))), generate


@intrinsic
def call_loss(typing, address, a, t):
    """Return what the code at an address makes of an output and its target."""

    def generate(context, builder, signature, args):
        double = ir.DoubleType()
        kind = ir.FunctionType(double, [double, double])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.float64(types.intp, types.float64, types.float64), generate


@intrinsic
def call_update(typing, address, params, i, gradient, j, slots, stride, count, rate, step, decay):
    """Let the code at an address move ``params[i : i + count]``, with its state in the same places.

    The gradient starts at `j`; arrays of the state are `stride` apart.
    """

    def generate(context, builder, signature, args):
        address, params, i, gradient, j, slots, *numbers = args
        places = [
            pointer_to(context, builder, signature.args[number], array, start)
            for number, array, start in ((1, params, i), (3, gradient, j), (5, slots, i))
        ]
        arguments = [*places, *numbers]
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
        return context.get_dummy_value()

    arrays = params, types.intp, gradient, types.intp, slots
    numbers = (types.intp, types.intp, types.float64, types.intp, types.float64)
    return types.void(types.intp, *arrays, *numbers), generate
