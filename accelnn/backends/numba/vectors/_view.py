"""Numba's type of the arrays that kernels compute in: where the numbers are, and the shape.

Numba's own has seven fields, and its references are counted wherever it is passed on, so that most
of the code of a function with many arrays would be about these. Whoever starts a kernel keeps its
arrays alive. Indices are not negative, and not checked.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import (
    lower_builtin,
    lower_getattr,
    models,
    register_model,
    type_callable,
)

__all__ = ["View", "make_view"]


class View(types.Type):
    """Numba's type of a C-contiguous array whose references are not counted."""

    def __init__(self, dtype: types.Type, ndim: int = 1) -> None:
        self.dtype = dtype
        self.ndim = ndim
        super().__init__(f"View({dtype}, {ndim})")


@register_model(View)
class _ViewModel(models.StructModel):
    def __init__(self, manager: Any, view: View) -> None:
        shape = types.UniTuple(types.intp, view.ndim)
        super().__init__(manager, view, [("data", types.CPointer(view.dtype)), ("shape", shape)])


def make_view(context: Any, builder: Any, view: View, data: Any, shape: Sequence[Any]) -> Any:
    made = ir.Constant(context.get_value_type(view), ir.Undefined)
    made = builder.insert_value(made, data, 0)
    for i, length in enumerate(shape):
        made = builder.insert_value(made, length, (1, i))
    return made


@infer_getattr
class _ViewAttributes(AttributeTemplate):
    key = View

    def resolve_shape(self, view: View) -> Any:
        return types.UniTuple(types.intp, view.ndim)

    def resolve_size(self, _view: View) -> Any:
        return types.intp

    def resolve_dtype(self, view: View) -> Any:
        return types.DType(view.dtype)


@lower_getattr(View, "shape")
def _shape(_context: Any, builder: Any, _view: View, value: Any) -> Any:
    return builder.extract_value(value, 1)


@lower_getattr(View, "size")
def _size(_context: Any, builder: Any, view: View, value: Any) -> Any:
    return reduce(builder.mul, (builder.extract_value(value, (1, i)) for i in range(view.ndim)))


@lower_getattr(View, "dtype")
def _dtype(context: Any, _builder: Any, _view: View, _value: Any) -> Any:
    return context.get_dummy_value()


def _indexes(view: Any, index: Any) -> bool:
    if not isinstance(view, View):
        return False
    numbers = index.types if isinstance(index, types.BaseTuple) else [index]
    return len(numbers) == view.ndim and all(isinstance(n, types.Integer) for n in numbers)


@type_callable(operator.getitem)
def _type_getitem(_context: Any) -> Any:
    def typer(view: Any, index: Any) -> Any:
        return view.dtype if _indexes(view, index) else None

    return typer


@type_callable(operator.setitem)
def _type_setitem(_context: Any) -> Any:
    def typer(view: Any, index: Any, number: Any) -> Any:
        return types.none if _indexes(view, index) and isinstance(number, types.Number) else None

    return typer


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return the pointer to one number."""
    (view, index), (kind, index_type) = args[:2], signature.args[:2]
    numbers, kinds = [index], [index_type]
    if isinstance(index_type, types.BaseTuple):
        kinds = list(index_type.types)
        numbers = [builder.extract_value(index, i) for i in range(kind.ndim)]
    numbers = [
        context.cast(builder, *pair, types.intp) for pair in zip(numbers, kinds, strict=True)
    ]
    place = numbers[0]
    for i in range(1, kind.ndim):
        row = builder.mul(place, builder.extract_value(view, (1, i)))
        place = builder.add(row, numbers[i])
    return builder.gep(builder.extract_value(view, 0), [place], inbounds=True)


@lower_builtin(operator.getitem, View, types.Integer)
@lower_builtin(operator.getitem, View, types.BaseTuple)
def _getitem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.load(_place(context, builder, signature, args))


@lower_builtin(operator.setitem, View, types.Integer, types.Number)
@lower_builtin(operator.setitem, View, types.BaseTuple, types.Number)
def _setitem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    number = context.cast(builder, args[2], signature.args[2], signature.args[0].dtype)
    builder.store(number, _place(context, builder, signature, args))
    return context.get_dummy_value()
