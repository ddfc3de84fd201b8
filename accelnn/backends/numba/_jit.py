"""How every kernel is compiled: lazily, without the GIL, cached on disk where that is possible."""

import contextlib
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["loop"]


def loop(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays for each dtype that it is called with."""
    try:
        compiled: Any = numba.njit(function, nogil=True, error_model="numpy", cache=True)
    except RuntimeError:
        # No cache folder can be written, as in a read-only install without a home directory.
        return numba.njit(function, nogil=True, error_model="numpy")
    # That was asked just now; when the function is compiled the disk may be full, the folder gone.
    cache = getattr(compiled, "_cache", None)  # Numba has no public handle of it
    if cache is None:
        # Under NUMBA_DISABLE_JIT this is the function itself.
        return compiled
    cache.load_overload = _unless_the_disk_fails(cache.load_overload)
    cache.save_overload = _unless_the_disk_fails(cache.save_overload)
    return compiled


def _unless_the_disk_fails(method: Callable[..., Any]) -> Callable[..., Any]:
    """Answer a failure of the cache with None, which costs a compilation, not the call."""

    def tried(*args: Any) -> Any:
        with contextlib.suppress(OSError):
            return method(*args)
        return None

    return tried
