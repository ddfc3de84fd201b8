"""Activations of vectors: which there are, and the choice between them at run time."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from accelnn.backends.numba import formulas
from accelnn.backends.numba._jit import inlined
from accelnn.formulas._table import ACTIVATIONS as ALL

__all__ = ["ACTIVATIONS", "activate"]

# Names of those that have a file; their positions are their numbers in kernels.
ACTIVATIONS = tuple(name for name in ALL if find_spec(f"{formulas.__name__}.{name}") is not None)


def _choice() -> Callable[..., Any]:
    """Return a function that asks for one number after another, which is what compiles well."""
    files = {name: import_module(f"{formulas.__name__}.{name}") for name in ACTIVATIONS}
    *others, last = ACTIVATIONS
    lines = ["def activate(kind, x):"]
    for number, name in enumerate(others):
        lines += [f"    if kind == {number}:", f"        return {name}(x)"]
    lines.append(f"    return {last}(x)")
    names = {name: file.activate for name, file in files.items()}
    exec("\n".join(lines), names)  # noqa: S102 - of the lines above
    function: Callable[..., Any] = names["activate"]
    function.__doc__ = "Return activation number `kind` and its derivative at a vector."
    return function


activate = inlined(_choice())
