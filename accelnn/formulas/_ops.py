"""Whose ops compute a formula: a backend's, which is above this package and says how to find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["find_ops_with", "ops_of"]

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
