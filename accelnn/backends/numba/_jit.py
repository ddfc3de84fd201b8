"""How every kernel is compiled: lazily, without the GIL, cached on disk where that is possible."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["elementwise", "loop"]


def loop(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays on its first call."""
    return _cached(
        lambda **options: numba.njit(nogil=True, error_model="numpy", **options), function
    )


def elementwise(function: Callable[..., Any]) -> Any:
    """Compile a function of scalars into a NumPy ufunc on its first call."""
    return _cached(numba.vectorize, function)


def _cached(decorator: Callable[..., Any], function: Callable[..., Any]) -> Any:
    try:
        return decorator(cache=True)(function)
    except RuntimeError:
        # No cache folder can be written, as in a read-only install without a home directory.
        return decorator()(function)
