"""Whose ops compute a formula: a backend's, which is above this package and says how to find it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["find_ops_with", "floats", "inner", "ops_of"]

# A backend: its array namespace is `xp`, and its ops are methods.
Ops = Any

_find: Callable[..., Ops] | None = None


def find_ops_with(find: Callable[..., Ops]) -> None:
    """Let ``find(backend, *arrays)`` say which backend's ops compute where none is given."""
    global _find  # noqa: PLW0603 - set once, when backends are imported
    _find = find


def ops_of(backend: Ops | None, *arrays: Any) -> Ops:
    """Return the ops: those of `backend`, or else of the backend to which the arrays belong."""
    if backend is not None and not isinstance(backend, str | type):
        return backend
    if _find is None:
        msg = "no backend is loaded to compute with; import accelnn first"
        raise RuntimeError(msg)
    return _find(backend, *arrays)


def inner(formula: Any, base: type, name: str, ops: Ops) -> Callable[..., Any]:
    """Return a function of arrays: ``formula.<name>`` with these ops, its arguments not checked.

    That is ``_<name>``, if the formula extends `base` and has no ``<name>`` of its own.
    """
    if getattr(type(formula), name, None) is getattr(base, name):
        return functools.partial(getattr(formula, "_" + name), ops)
    return functools.partial(getattr(formula, name), backend=ops)


def floats(ops: Ops, backend: Ops | None, *numbers: Any) -> tuple[Any, ...]:
    """Return what a caller without a backend passed, as floating arrays; else what was passed.

    Engines pass arrays, and are not kept waiting.
    """
    if backend is not None:
        return numbers
    arrays = [number if ops.owns(number) else ops.asarray(number) for number in numbers]
    kinds = ("real floating", "complex floating")
    double = ops.dtype("float64")
    return tuple(a if ops.xp.isdtype(a.dtype, kinds) else ops.xp.astype(a, double) for a in arrays)
