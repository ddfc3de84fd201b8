"""Compiled formulas, one per file, named as in `accelnn.formulas`.

An activation defines ``activate(x)``, which returns value and slope for a vector of
pre-activations. A loss that is a sum over outputs defines ``loss(a, t)``, which returns value and
derivative for one output, and ``output(a)``, its output function; both take scalars. A formula with
a parameter takes it as one more argument, so that another value needs no compilation.

For numerical gradients, in float64, an activation defines ``change(d, x, parameter, s, rest)``,
f(x + d) - f(x) without cancellation for a vector of moves of one pre-activation, or as many of
these arguments as it needs. If it needs the last two, ``parts(x)`` returns them for a vector of
pre-activations. A loss defines ``change(d, a, t, parameter)`` for moves of one output.

Where changes are analytic in the move, a few of them are interpolated. An activation says where by
``bend(parameter)``, a plain function that returns a `Bend`, and a loss by a number `BEND`, the
inverse of how far all outputs may move.

An update rule defines ``update(p, g, rate, scale, numbers, *state)`` for vectors of parameters and
gradients, which returns a tuple of the parameters and the state. Rate and scale are the rule's
`coefficients`, and `numbers` its hyperparameters in the order of its fields. It defines
``decay(p, g, rate, factor)`` unless its weight decay is added to the gradient.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

__all__ = ["Bend", "choice", "chosen", "module_of", "names_with", "names_with_code", "parts_of"]


class Bend(NamedTuple):
    """Where the change of an activation is analytic in the move.

    Real moves of x by less than the distance from a kink are those of a function that is analytic
    in the circle of radius 1 / (curvature + growth |x|) around x.

    Attributes
    ----------
    curvature : float
    gain : float
        The largest absolute value of the slope in the circle, for x > 0 or for any x.
    gain_below : float, optional
        The same for x <= 0.
    growth : float
    kinks : float
        1 if there is a kink at 0.
    """

    curvature: float
    gain: float
    gain_below: float | None = None
    growth: float = 0.0
    kinks: float = 0.0

    @property
    def numbers(self) -> tuple[float, ...]:
        """All of them, in order."""
        below = self.gain if self.gain_below is None else self.gain_below
        return self.curvature, self.gain, below, self.growth, self.kinks


def names_with_code(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that have a file here."""
    return tuple(name for name in names if find_spec(_module(name)) is not None)


def choice(names: Iterable[str], part: str, arguments: str, first: int = 0) -> Callable[..., Any]:
    """Return a function that calls `part` of formula number `kind`, counted from `first`."""
    return chosen(parts_of(names, part), arguments, first)


def parts_of(names: Iterable[str], part: str, default: Any = None) -> dict[str, Any]:
    """Return a function of each formula's file, or the default where a file does not define it."""
    modules = {name: module_of(name) for name in names}
    if default is None:
        return {name: getattr(module, part) for name, module in modules.items()}
    return {name: getattr(module, part, default) for name, module in modules.items()}


def names_with(part: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names whose file defines a function."""
    return tuple(name for name in names if hasattr(module_of(name), part))


def chosen(parts: Mapping[str, Any], arguments: str, first: int = 0) -> Callable[..., Any]:
    """Return a function that calls part number `kind`, counted from `first`.

    Each part receives as many of the arguments as it takes. It is a chain of comparisons, which
    compiles well.
    """
    calls = [f"{name}({_taken(part, arguments)})" for name, part in parts.items()]
    lines = [f"def choose(kind, {arguments}):"]
    for number, call in enumerate(calls[:-1], start=first):
        lines += [f"    if kind == {number}:", f"        return {call}"]
    lines.append(f"    return {calls[-1]}")
    names = dict(parts)
    exec("\n".join(lines), names)  # noqa: S102 - only the lines above
    function: Callable[..., Any] = names["choose"]
    return function


def module_of(name: str) -> Any:
    """Return a formula's file as a module."""
    return import_module(_module(name))


def _module(name: str) -> str:
    return f"{__name__}.{name.lower()}"


def _taken(part: Any, arguments: str) -> str:
    """Return those of the arguments that a part takes, the first ones."""
    count = getattr(part, "py_func", part).__code__.co_argcount
    return ", ".join(arguments.split(", ")[:count])
