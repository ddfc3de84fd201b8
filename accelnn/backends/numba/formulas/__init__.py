"""Compiled formulas, one per file, named as in `accelnn.formulas`.

An activation defines ``activate(x)``, which returns value and slope for a vector of
pre-activations. A loss that is a sum over outputs defines ``loss(a, t)``, which returns value and
derivative for one output, and ``output(a)``, its output function; both take scalars.
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

    It is a chain of comparisons, which compiles well.
    """
    *others, last = names
    lines = [f"def {part}(kind, {arguments}):"]
    for number, name in enumerate(others, start=first):
        lines += [f"    if kind == {number}:", f"        return {name}({arguments})"]
    lines.append(f"    return {last}({arguments})")
    parts = {name: getattr(import_module(f"{__name__}.{name}"), part) for name in (*others, last)}
    exec("\n".join(lines), parts)  # noqa: S102 - only the lines above
    function: Callable[..., Any] = parts[part]
    return function
