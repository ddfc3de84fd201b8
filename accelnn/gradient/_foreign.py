"""Arrays of libraries that are no backends, handed over through DLPack."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn.backends import Backend, BackendLike, get_backend, resolve

__all__ = ["adopt", "at_home"]


def adopt(backend: Backend, value: Any) -> Any:
    """Return what a function gave as an array of `backend`, if it is one of another library.

    Numbers, and what the backend owns, stay what they are; so does what cannot be handed over, for
    which the usual checks have words.
    """
    if backend.owns(value) or isinstance(value, np.generic) or not _speaks_dlpack(value):
        return value
    try:
        return backend.xp.from_dlpack(_detached(value))
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        return value


def at_home(
    backend: BackendLike | None, f: Callable[[Any], Any], grad: Any, x: Any
) -> tuple[Backend, Callable[[Any], Any], Any, Any]:
    """Return the backend, and f, grad and x for it.

    An array of a library that is no backend becomes one of NumPy; f and grad go on being called
    with arrays of that library.
    """
    home = resolve(backend, x)
    if home.owns(x) or isinstance(x, np.ndarray | np.generic) or not _speaks_dlpack(x):
        return home, f, grad, x
    if backend is not None:
        home.check_owned(x)
    try:
        host = np.array(np.from_dlpack(_detached(x)))
    except (BufferError, RuntimeError) as error:
        msg = f"x, of dtype {getattr(x, 'dtype', '?')}, cannot be handed over to NumPy: {error}"
        raise TypeError(msg) from error
    # Moves of it are seen by nobody else.
    host.flags.writeable = False
    library = _library(x)

    def abroad(function: Any) -> Any:
        if not callable(function):
            return function
        return lambda point: function(library.from_dlpack(np.array(point)))

    return get_backend("numpy"), abroad(f), abroad(grad), host


def _speaks_dlpack(value: Any) -> bool:
    return hasattr(type(value), "__dlpack__")


def _detached(value: Any) -> Any:
    """Return a torch tensor without its history, which it does not hand over."""
    return value.detach() if hasattr(value, "detach") else value


def _library(x: Any) -> Any:
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    return sys.modules[type(x).__module__.partition(".")[0]]
