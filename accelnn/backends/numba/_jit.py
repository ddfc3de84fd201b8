"""How every kernel is compiled: lazily, without the GIL, cached on disk where that is possible."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

__all__ = ["ZERO", "called", "inlined", "is_compiled", "loop"]

# Numba's own types leave out some options.
_njit: Any = numba.njit

# Products and sums may be fused. Nothing else is assumed: NaN and infinity keep their meaning.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


# A zero that is not a literal: Numba compiles a function once more for each literal argument.
ZERO = np.int64(0)

# What only kernels call needs no way in from Python.
INTERNAL = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def loop(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays for each dtype that it is called with."""
    try:
        compiled: Any = _njit(function, cache=True, **OPTIONS)
    except RuntimeError:
        # No cache folder can be written, as in a read-only install without a home directory.
        return _njit(function, **OPTIONS)
    # That was asked just now; when the function is compiled the disk may be full, the folder gone.
    cache = getattr(compiled, "_cache", None)  # Numba has no public handle of it
    if cache is None:
        # Under NUMBA_DISABLE_JIT this is the function itself.
        return compiled
    cache.load_overload = _or_nothing(cache, cache.load_overload)
    cache.save_overload = _or_nothing(cache, cache.save_overload)
    # Numba looks at the function's own file, but its code holds that of the files it calls.
    cache._cache_file._source_stamp = _stamp_of_all_kernels()  # noqa: SLF001 - as above
    return compiled


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call, as a part of each of them.

    LLVM would call large ones, with every array of every tuple among the arguments.
    """
    return _njit(function, forceinline=True, **INTERNAL, **OPTIONS)


def called(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call, from several places, once for all of them."""
    return _njit(function, **INTERNAL, **OPTIONS)


@functools.cache
def _stamp_of_all_kernels() -> str:
    folder = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_compiled(function: Any) -> bool:
    """Return whether a kernel is one, and not the plain function that NUMBA_DISABLE_JIT leaves."""
    return hasattr(function, "py_func")


def _or_nothing(cache: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """Answer a failure of the cache with None, which costs a compilation, not the call."""

    def tried(*args: Any) -> Any:
        try:
            return method(*args)
        except OSError:
            # The disk is full, the folder gone or not ours.
            return None
        except Exception:  # noqa: BLE001 - what unpickling raises, which may be anything
            # The index is damaged, or names classes that this version of accelnn does not have.
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    return tried
