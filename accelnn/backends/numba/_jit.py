"""How every kernel is compiled: lazily, without the GIL, cached on disk where that is possible."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["loop"]


def loop(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays for each dtype that it is called with."""
    try:
        return numba.njit(function, nogil=True, error_model="numpy", cache=True)
    except RuntimeError:
        # No cache folder can be written, as in a read-only install without a home directory.
        return numba.njit(function, nogil=True, error_model="numpy")
