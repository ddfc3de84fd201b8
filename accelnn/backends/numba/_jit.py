"""How kernels are compiled: lazily, without the GIL, cached on disk where that is possible."""

import contextlib
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.ccallback import CFunc

__all__ = [
    "OWN_CODE",
    "ZERO",
    "Callback",
    "called",
    "inlined",
    "is_compiled",
    "loop",
    "slow_loop",
    "uncached_loop",
]

logger = logging.getLogger("accelnn")

# Numba's own types leave out some options.
_njit: Any = numba.njit

# Products and sums may be fused. Nothing else is assumed: NaN and infinity keep their meaning.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# A zero that is not a literal: Numba compiles a function once more for each literal argument.
ZERO = np.int64(0)

# In the place of a formula's number: its code is a user's, and called by its address.
OWN_CODE = -1

# What only kernels call needs no way in from Python.
INTERNAL = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel for each dtype that it is called with."""
    return _compiled(function, announced=False)


def slow_loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel as `loop` does, and say so, because it takes seconds."""
    return _compiled(function, announced=True)


def uncached_loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel as `loop` does, but keep it in memory only, as one that calls others' code.

    Numba cannot tell whether that code is still what it was.
    """
    return _njit(function, **OPTIONS)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call, as a part of each of them.

    LLVM would call large ones, with every array of every tuple among the arguments.
    """
    return _njit(function, forceinline=True, **INTERNAL, **OPTIONS)


def called(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call, from several places, once for all of them."""
    return _njit(function, **INTERNAL, **OPTIONS)


class Callback:
    """A function for callers that know its address alone.

    Parameters
    ----------
    function : callable
        What is compiled. Its closure, which holds what else its code depends on, tells it from
        others of the same source.
    signature : numba.core.typing.Signature
        Of pointers and numbers.
    keep : bool
        Whether its code may be kept on disk.
    """

    def __init__(self, function: Callable[..., Any], signature: Any, *, keep: bool) -> None:
        given = signature.args, signature.return_type
        compiled: Any = CFunc(function, given, locals={}, options=dict(OPTIONS))
        if keep:
            # Without a folder that can be written, it is compiled in every process.
            with contextlib.suppress(RuntimeError):
                compiled.enable_caching()
        self.is_kept = keep and _stamp(compiled)
        # Numba has no public handle of it.
        cache: Any = compiled._cache if self.is_kept else NullCache()  # noqa: SLF001
        cache.load_overload = _or_nothing(cache, _checked(cache.load_overload))
        cache.save_overload = _or_nothing(cache, cache.save_overload)
        compiled._cache = cache  # noqa: SLF001
        self._compiled = compiled

    def is_on_disk(self) -> bool:
        """Return whether there is nothing to compile."""
        compiled = self._compiled
        context = compiled._targetdescr.target_context  # noqa: SLF001
        return compiled._cache.load_overload(compiled._sig, context) is not None  # noqa: SLF001

    def compile(self) -> int:
        """Return the address of the code, compiled or from disk."""
        self._compiled.compile()
        return int(self._compiled.address)


def is_compiled(function: Any) -> bool:
    """Return whether a kernel is one, and not the plain function that NUMBA_DISABLE_JIT leaves."""
    return hasattr(function, "py_func")


def _compiled(function: Callable[..., Any], *, announced: bool) -> Any:
    try:
        compiled = _njit(function, cache=True, **OPTIONS)
        kept = _stamp(compiled)
    except (RuntimeError, ValueError):
        # No cache folder can be written, as in a read-only install without a home directory, or
        # the package is in an archive that Numba does not take for a zip.
        kept = False
    if not kept:
        compiled = _njit(function, **OPTIONS)
    cache = getattr(compiled, "_cache", None)  # Numba has no public handle of it
    if cache is None:
        # Under NUMBA_DISABLE_JIT this is the function itself.
        return compiled
    if kept:
        cache.save_overload = _or_nothing(cache, cache.save_overload)
    load = _or_nothing(cache, _checked(cache.load_overload))
    cache.load_overload = _announcing(load, function, kept=kept) if announced else load
    return compiled


def _checked(load: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse code for other arguments: processes that save at once may give files one name."""

    def loaded(signature: Any, context: Any) -> Any:
        found = load(signature, context)
        # Callbacks are looked up by whole signatures.
        args = tuple(getattr(signature, "args", signature))
        if found is not None and found.signature.args != args:
            msg = f"the cache has {found.signature} in the place of {signature}"
            raise ValueError(msg)
        return found

    return loaded


def _stamp(compiled: Any) -> bool:
    """Make a cache forget its code when any kernel's source changes; return whether that is done.

    Numba looks at the function's own file, but its code holds that of the files it calls.
    """
    file: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if not hasattr(file, "_source_stamp"):
        # NUMBA_DISABLE_JIT, or a Numba that does it otherwise.
        return False
    stamp = _stamp_of_all_kernels()
    file._source_stamp = stamp  # noqa: SLF001 - Numba has no public handle
    return stamp is not None


def _announcing(
    load: Callable[..., Any], function: Callable[..., Any], *, kept: bool
) -> Callable[..., Any]:
    """Say what is about to be compiled when the cache does not have it."""

    def loaded(signature: Any, context: Any) -> Any:
        found = load(signature, context)
        if found is None:
            dtype = "float32" if "float32" in str(signature) else "float64"
            logger.warning(
                "accelnn compiles its kernel %r for %s, which takes some seconds %s",
                function.__name__,
                dtype,
                "once (accelnn.warmup() does it ahead)"
                if kept
                else "in every process, because no cache folder can be written: set "
                "NUMBA_CACHE_DIR to one that can",
            )
        return found

    return loaded


@functools.cache
def _stamp_of_all_kernels() -> str | None:
    """Return a digest of what machine code is made of; None where that comes without its source."""
    # The table of formulas gives those of kernels their numbers, and formulas share constants.
    packages = ("accelnn.backends.numba", "accelnn.formulas")
    sources = {name: source for package in packages for name, source in _sources(package)}
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    return digest.hexdigest() if sources else None


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a package, which may be in a zip, by name."""
    folders: list[tuple[str, Traversable]] = [(package, files(package))]
    while folders:
        name, folder = folders.pop()
        for entry in folder.iterdir():
            path = f"{name}/{entry.name}"
            if entry.is_dir():
                folders.append((path, entry))
            elif entry.name.endswith(".py"):
                yield path, entry.read_bytes()


def _or_nothing(cache: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """Answer a failure of the cache with None, which costs a compilation, not the call."""

    def tried(*args: Any) -> Any:
        try:
            return method(*args)
        except OSError as error:
            # The disk is full, the folder gone or not ours.
            logger.debug("no cache of compiled kernels: %s", error)
            return None
        except Exception as error:  # noqa: BLE001 - what unpickling raises, which may be anything
            # The index is damaged, or names classes that this version of accelnn does not have.
            logger.warning(
                "a cache of compiled kernels could not be read (%s: %s); it is emptied, and what "
                "is needed is compiled anew",
                type(error).__name__,
                error,
            )
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    return tried
