"""Compiled formulas, one per file, named as in `accelnn.formulas`.

An activation defines ``activate(x)``, which returns value and slope for a vector of
pre-activations. A loss that is a sum over outputs defines ``loss(a, t)``, which returns value and
derivative for one output, and ``output(a)``, its output function; both take scalars. A formula with
a parameter takes it as one more argument, so that another value needs no compilation.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["choice", "names_with_code"]


def names_with_code(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that have a file here."""
    return tuple(name for name in names if find_spec(f"{__name__}.{name}") is not None)


def choice(names: Iterable[str], part: str, arguments: str, first: int = 0) -> Callable[..., Any]:
    """Return a function that calls `part` of formula number `kind`, counted from `first`.

    Each part receives as many of the arguments as it takes. It is a chain of comparisons, which
    compiles well.
    """
    names = tuple(names)
    parts = {name: getattr(import_module(f"{__name__}.{name}"), part) for name in names}
    calls = [f"{name}({_taken(parts[name], arguments)})" for name in names]
    lines = [f"def {part}(kind, {arguments}):"]
    for number, call in enumerate(calls[:-1], start=first):
        lines += [f"    if kind == {number}:", f"        return {call}"]
    lines.append(f"    return {calls[-1]}")
    exec("\n".join(lines), parts)  # noqa: S102 - only the lines above
    function: Callable[..., Any] = parts[part]
    return function


def _taken(part: Any, arguments: str) -> str:
    """Return those of the arguments that a part takes, the first ones."""
    count = getattr(part, "py_func", part).__code__.co_argcount
    return ", ".join(arguments.split(", ")[:count])
