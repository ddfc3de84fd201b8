"""Nets as ONNX files, which other runtimes compute."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from accelnn._atomic import replacing
from accelnn._optional import import_optional
from accelnn._version import __version__
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._table import ACTIVATIONS

if TYPE_CHECKING:
    from accelnn.nets._net import Net

__all__ = ["ACTIVATION_NODES", "write_onnx"]

# Versions of the operators and of the format that all runtimes of the last years read.
OPSET, IR_VERSION = 13, 7
# A file is one message of protobuf, which may not be longer.
LARGEST = 2**31 - 2**20


class Value:
    """A result in a graph, of which Python's operators make others."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def node(self, kind: str, *others: Operand, **attributes: Any) -> Value:
        """Return the result of an ONNX operator with this as its first input."""
        return self.graph.node(kind, self, *others, **attributes)

    def __add__(self, other: Operand) -> Value:
        return self.node("Add", other)

    def __sub__(self, other: Operand) -> Value:
        return self.node("Sub", other)

    def __rsub__(self, other: float) -> Value:
        return self.graph.node("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.node("Mul", other)

    def __truediv__(self, other: Operand) -> Value:
        return self.node("Div", other)

    def __rtruediv__(self, other: float) -> Value:
        return self.graph.node("Div", other, self)

    def __neg__(self) -> Value:
        return self.node("Neg")

    def __gt__(self, other: Operand) -> Value:
        return self.node("Greater", other)

    # Sums and products of two numbers do not depend on their order.
    __radd__ = __add__
    __rmul__ = __mul__


Operand: TypeAlias = Value | float


class Graph:
    """The nodes of a graph and its constants, in the order in which they are computed."""

    def __init__(self, onnx: Any, dtype: str) -> None:
        self.onnx = onnx
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, *inputs: Operand, **attributes: Any) -> Value:
        """Return the result of a new node."""
        names = [one.name if isinstance(one, Value) else self.number(one) for one in inputs]
        name = f"{kind}_{len(self.nodes) + 1}"
        self.nodes.append(self.onnx.helper.make_node(kind, names, [name], name, **attributes))
        return Value(self, name)

    def number(self, value: float) -> str:
        """Return the name of a number."""
        return self.array(f"{value:.17g}", np.asarray(value, self.dtype))

    def array(self, name: str, array: np.ndarray) -> str:
        """Return the name of an array, unchanged."""
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name


class Operators:
    """What formulas compute with, as nodes: the functions of ``ops`` and of ``ops.xp``."""

    def __init__(self, graph: Graph) -> None:
        self.xp = self
        self._node = graph.node

    def __getattr__(self, name: str) -> Callable[..., Value]:
        kind = {"minimum": "Min", "maximum": "Max"}.get(name, name.capitalize())
        return lambda *inputs: self._node(kind, *inputs)

    @staticmethod
    def ones_like(_x: Value) -> float:
        """Return what is stretched to a shape."""
        return 1.0

    @staticmethod
    def zeros_like(_x: Value) -> float:
        """As `ones_like`."""
        return 0.0

    @staticmethod
    def expm1(x: Value) -> Value:
        """Return exp(x) - 1, to an ulp of 1."""
        return x.node("Exp") - 1.0

    @staticmethod
    def log1p(x: Value) -> Value:
        """Return log(1 + x), to an ulp of 1."""
        return (1.0 + x).node("Log")


# What computes each built-in activation, by its name.
ACTIVATION_NODES: dict[str, Callable[[Value, Any], Value]] = {
    "sigmoid": lambda x, _: x.node("Sigmoid"),
    "relu": lambda x, _: x.node("Relu"),
    "tanh": lambda x, _: x.node("Tanh"),
    "leaky_relu": lambda x, own: x.node("LeakyRelu", alpha=float(own.negative_slope)),
    "elu": lambda x, own: x.node("Elu", alpha=float(own.alpha)),
    "gelu": lambda x, _: 0.5 * x * (1.0 + (math.sqrt(0.5) * x).node("Erf")),
    "silu": lambda x, _: x * x.node("Sigmoid"),
    "softplus": lambda x, _: x.node("Softplus"),
    "identity": lambda x, _: x,
}
# Those whose formula is written out in double precision: parameters of nodes are single, and ONNX
# Runtime computes these nodes, or what it makes of them, in single precision only.
WRITTEN_OUT = ("leaky_relu", "elu", "gelu", "silu", "softplus")


def write_onnx(net: Net, path: str | os.PathLike[str]) -> None:
    """Write what `net.predict` computes; see `Net.to_onnx`."""
    onnx = import_optional("onnx", feature="net.to_onnx", extra="onnx")
    size = net.size * np.dtype(net.dtype).itemsize
    if size > LARGEST:
        msg = f"an ONNX file holds at most {LARGEST:,} bytes, and {net!r} has {size:,}"
        raise ValueError(msg)
    graph = Graph(onnx, net.dtype)
    to_numpy, last = net.backend.to_numpy, len(net.spec.sizes) - 2
    layers = iter(net.params.items())
    value = Value(graph, "x")
    for i in range(last + 1):
        parts = [next(layers) for _ in range(1 + net.spec.bias)]
        inputs = [Value(graph, graph.array(name, to_numpy(array))) for name, array in parts]
        value = value.node("Gemm" if net.spec.bias else "MatMul", *inputs)
        if i < last:
            value = _activated(value, net.spec.activations[i])
    _output(value, net._output)  # noqa: SLF001 - a part of the class
    graph.nodes[-1].output[0] = "y"
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(net.dtype))
    ends = [
        helper.make_tensor_value_info(name, kind, ["n", net.spec.sizes[end]])
        for name, end in (("x", 0), ("y", -1))
    ]
    content = helper.make_graph(
        graph.nodes, type(net).__name__, ends[:1], ends[1:], list(graph.constants.values())
    )
    model = helper.make_model(
        content,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="accelnn",
        producer_version=__version__,
    )
    with replacing(path) as file:
        file.write(model.SerializeToString())


def _activated(x: Value, own: ActivationFormula) -> Value:
    """Return an activation of a value."""
    if type(own) is not type(ACTIVATIONS.get(own.name)):
        msg = (
            f"{own!r} is not one of accelnn's own activations, {', '.join(ACTIVATIONS)}, and ONNX "
            f"has no node for it"
        )
        raise TypeError(msg)
    if x.graph.dtype == "float64" and own.name in WRITTEN_OUT:
        found: Value = own._value(Operators(x.graph), x)  # noqa: SLF001 - on nodes
        return found
    return ACTIVATION_NODES[own.name](x, own)


def _output(x: Value, name: str) -> Value:
    """Return the outputs, which the user's own loss may name."""
    if name == "softmax":
        return x.node("Softmax", axis=-1)
    if name not in ACTIVATIONS:
        msg = f"the loss of this net has the output {name!r}, and ONNX has no node for it"
        raise TypeError(msg)
    return _activated(x, ACTIVATIONS[name])
