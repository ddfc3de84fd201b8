"""``+ - * /`` of two vectors, or of a vector and a scalar."""

import operator
from typing import Any

from numba.core import types
from numba.extending import lower_builtin, type_callable

from accelnn.backends.numba.vectors._type import Vector, llvm_type, splat


def _define_operator(op: Any, instruction: str) -> None:
    @type_callable(op)
    def _type(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            vectors = [x for x in (a, b) if isinstance(x, Vector)]
            others = [x for x in (a, b) if not isinstance(x, Vector)]
            if not vectors or not all(isinstance(x, types.Number) for x in others):
                return None
            return vectors[0] if len(set(vectors)) == 1 else None

        return typer

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = signature.return_type
        kind = llvm_type(vector)
        operands = []
        for arg, type_ in zip(args, signature.args, strict=True):
            if isinstance(type_, Vector):
                operands.append(arg)
            else:
                number = context.cast(builder, arg, type_, vector.dtype)
                operands.append(splat(builder, number, kind))
        return getattr(builder, instruction)(*operands)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *pair)(generate)


for _op, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_op, _instruction)
