"""The backend that computes a formula; backends, which import this package, register a resolver."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "find_ops_with",
    "floats",
    "inner",
    "ops_of",
    "over",
    "plus",
    "rest_of_one",
    "root",
    "times",
]

# A backend, with array namespace `xp` and ops as methods.
Ops = Any

_find: Callable[..., Ops] | None = None


def find_ops_with(find: Callable[..., Ops]) -> None:
    """Register ``find(backend, *arrays)``, which returns the backend to compute with."""
    global _find  # noqa: PLW0603 - set once, when backends are imported
    _find = find


def ops_of(backend: Ops | None, *arrays: Any) -> Ops:
    """Return `backend`, or by default the backend of the arrays."""
    if backend is not None and not isinstance(backend, str | type):
        return backend
    if _find is None:
        msg = "no backend is loaded to compute with; import accelnn first"
        raise RuntimeError(msg)
    return _find(backend, *arrays)


def inner(formula: Any, base: type, name: str, ops: Ops) -> Callable[..., Any]:
    """Return ``formula.<name>`` bound to these ops, without argument conversion if possible.

    That is ``_<name>`` if the formula extends `base` and does not override ``<name>``, which `base`
    need not have.
    """
    if getattr(type(formula), name, None) is getattr(base, name, None):
        return functools.partial(getattr(formula, "_" + name), ops)
    return functools.partial(getattr(formula, name), backend=ops)


def floats(ops: Ops, backend: Ops | None, *numbers: Any) -> tuple[Any, ...]:
    """Convert arguments to floating arrays, unless the caller passed a backend.

    Engines pass one, with arrays that need no conversion.
    """
    if backend is not None:
        return numbers
    arrays = [number if ops.owns(number) else ops.asarray(number) for number in numbers]
    kinds = ("real floating", "complex floating")
    double = ops.dtype("float64")
    return tuple(a if ops.xp.isdtype(a.dtype, kinds) else ops.xp.astype(a, double) for a in arrays)


# Array-API functions do not take the memory of their result, but NumPy's do.


def times(x: Any, y: Any, memory: Any) -> Any:
    """Return x y, in `memory` if that is a NumPy array."""
    return np.multiply(x, y, out=memory) if type(memory) is np.ndarray else x * y


def over(x: Any, y: Any, memory: Any) -> Any:
    """Return x / y, in `memory` if that is a NumPy array."""
    return np.divide(x, y, out=memory) if type(memory) is np.ndarray else x / y


def plus(x: Any, y: Any, memory: Any) -> Any:
    """Return x + y, in `memory` if that is a NumPy array."""
    return np.add(x, y, out=memory) if type(memory) is np.ndarray else x + y


def rest_of_one(x: Any) -> Any:
    """Return 1 - x, in the memory of x if that is a NumPy array."""
    return np.subtract(1.0, x, out=x) if type(x) is np.ndarray else 1.0 - x


def root(xp: Any, x: Any, memory: Any) -> Any:
    """Return √x, in `memory` if that is a NumPy array."""
    return np.sqrt(x, out=memory) if type(memory) is np.ndarray else xp.sqrt(x)
