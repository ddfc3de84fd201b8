"""Formulas as compiled code, one a file, of the names that they have in `accelnn.formulas`.

An activation gives ``activate(x)``: its value and its slope at a vector of pre-activations. A loss
that is a sum over outputs gives ``loss(a, t)``, value and derivative of one output as numbers, and
``output(a)``, what a net makes of it. A formula with a parameter takes it as one more argument, so
that no other value of it waits for a compiler.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["choice", "names_with_code"]


def names_with_code(names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the names have a file here."""
    return tuple(name for name in names if find_spec(f"{__name__}.{name}") is not None)


def choice(names: Iterable[str], part: str, arguments: str, first: int = 0) -> Callable[..., Any]:
    """Return a function that calls a part of the file number `kind`, counted from `first`.

    Each part takes as many of the arguments as it has. Numbers are compared one after another,
    which is what compiles well.
    """
    names = tuple(names)
    parts = {name: getattr(import_module(f"{__name__}.{name}"), part) for name in names}
    calls = [f"{name}({_taken(parts[name], arguments)})" for name in names]
    lines = [f"def {part}(kind, {arguments}):"]
    for number, call in enumerate(calls[:-1], start=first):
        lines += [f"    if kind == {number}:", f"        return {call}"]
    lines.append(f"    return {calls[-1]}")
    exec("\n".join(lines), parts)  # noqa: S102 - of the lines above
    function: Callable[..., Any] = parts[part]
    return function


def _taken(part: Any, arguments: str) -> str:
    """Return those of the arguments that a part takes, the first ones."""
    count = getattr(part, "py_func", part).__code__.co_argcount
    return ", ".join(arguments.split(", ")[:count])
