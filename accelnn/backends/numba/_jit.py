"""Compilation of kernels: lazy, without the GIL, and cached on disk where that is possible."""

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

# Or Numba imports it when it looks up the first type.
import numpy.ma
from numba.core.caching import NullCache
from numba.core.ccallback import CFunc
from numba.core.runtime.nrt import rtsys

from accelnn._compilation import compilation
from accelnn._forks import no_forks
from accelnn.backends.numba._parts import PartCompiler, VectorCompiler
from accelnn.backends.numba._trust import exposure

__all__ = [
    "INLINED",
    "OWN_CODE",
    "ZERO",
    "Callback",
    "called",
    "entry_of",
    "inlined",
    "is_compiled",
    "loop",
    "slow_loop",
    "uncached_loop",
    "vector_loop",
]

logger = logging.getLogger("accelnn")

# Numba's type stubs lack some options.
_njit: Any = numba.njit

# Fused multiply-add is allowed. No other fast-math flag is, so that NaN and infinity are respected.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# A zero that is not a literal, because Numba compiles a function again for literal arguments.
ZERO = np.int64(0)

# Stands for a formula's number where the formula is user-defined and called by address.
OWN_CODE = -1

# Functions that only kernels call need no wrappers for Python and C.
INTERNAL = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": PartCompiler,
}


INLINED = {"forceinline": True, **INTERNAL, **OPTIONS}


def loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel for each dtype that it is called with."""
    return _compiled(function, announced=False)


def slow_loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel as `loop` does, and say so, because it takes seconds."""
    return _compiled(function, announced=True)


def vector_loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel that consists of vectors as `slow_loop` does, but in less time."""
    return _compiled(function, announced=True, pipeline_class=VectorCompiler)


def uncached_loop(function: Callable[..., Any]) -> Any:
    """Compile a kernel as `loop` does, but do not cache it on disk, because it calls user code.

    Numba does not notice when that code changes: https://github.com/numba/numba/issues/1833.
    """
    return _timed(_njit(function, **OPTIONS))


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that is inlined into the kernels that call it.

    LLVM would not inline large ones, and would pass every array of every tuple as arguments.
    """
    return _njit(function, **INLINED)


def called(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call from several places without inlining it.

    What an inlined function calls would otherwise be inlined as well.
    """
    return _njit(function, forceinline=False, **INTERNAL, **OPTIONS)


class Callback:
    """A compiled function that is called by its address.

    Parameters
    ----------
    function : callable
        Its closure is part of the cache key and holds whatever else the code depends on.
    signature : numba.core.typing.Signature
        Takes pointers and numbers.
    keep : bool
        Whether the code may be cached on disk.
    """

    def __init__(self, function: Callable[..., Any], signature: Any, *, keep: bool) -> None:
        given = signature.args, signature.return_type
        compiled: Any = CFunc(function, given, locals={}, options=dict(OPTIONS))
        if keep:
            # Without a writable cache directory it is compiled in every process.
            with contextlib.suppress(RuntimeError):
                compiled.enable_caching()
        self.is_kept = keep and not _risk(compiled) and _stamp(compiled)
        # Numba has no public API for it.
        cache: Any = compiled._cache if self.is_kept else NullCache()  # noqa: SLF001
        load = _loading(cache) if self.is_kept else cache.load_overload
        cache.load_overload = _or_nothing(cache, _checked(load))
        cache.save_overload = _or_nothing(cache, cache.save_overload)
        compiled._cache = cache  # noqa: SLF001
        self._compiled = compiled

    def is_on_disk(self) -> bool:
        """Return whether the compiled code is in the cache."""
        compiled = self._compiled
        context = compiled._targetdescr.target_context  # noqa: SLF001
        return compiled._cache.load_overload(compiled._sig, context) is not None  # noqa: SLF001

    def compile(self) -> int:
        """Return the address of the code, which is compiled or loaded from the cache."""
        with compilation():
            self._compiled.compile()
        return int(self._compiled.address)


def entry_of(kernel: Any, arguments: tuple[object, ...]) -> Callable[..., Any]:
    """Return the compiled code of a kernel for arguments of these types.

    Called directly, it does not look up its types again, which for tuples of arrays takes longer
    than a small call. What it is called with must have the same types.
    """
    # Looking up types imports modules.
    with no_forks():
        entry: Callable[..., Any] = kernel.compile(tuple(map(numba.typeof, arguments)))
    return entry


def is_compiled(function: Any) -> bool:
    """Return whether a kernel is compiled, and not a Python function under NUMBA_DISABLE_JIT."""
    return hasattr(function, "py_func")


def _compiled(function: Callable[..., Any], *, announced: bool, **options: Any) -> Any:
    options = {"no_cfunc_wrapper": True} | OPTIONS | options
    # Why the code cannot be kept.
    reason = "no cache folder can be written"
    try:
        compiled = _njit(function, cache=True, **options)
        reason = _risk(compiled) or reason
        kept = not _risk(compiled) and _stamp(compiled)
    except (RuntimeError, ValueError):
        # No cache directory is writable, as in a read-only install without a home directory, or the
        # package is in an archive that Numba does not recognise as a zip file.
        kept = False
    if not kept:
        compiled = _njit(function, **options)
    cache = getattr(compiled, "_cache", None)  # Numba has no public API for it
    if cache is None:
        # Under NUMBA_DISABLE_JIT this is the function itself.
        return compiled
    if kept:
        cache.save_overload = _or_nothing(cache, cache.save_overload)
    load = _or_nothing(cache, _checked(_loading(cache) if kept else cache.load_overload))
    lasts = "" if kept else reason
    cache.load_overload = _announcing(load, function, reason=lasts) if announced else load
    return _timed(compiled)


def _timed(compiled: Any) -> Any:
    """Count the time in which a function is compiled or loaded."""
    if is_compiled(compiled):
        compiled.compile = compilation()(compiled.compile)
    return compiled


def _risk(compiled: Any) -> str:
    """Return why the files in a function's cache folder might be somebody else's, or nothing."""
    folder = getattr(getattr(compiled, "_cache", None), "_cache_path", None)
    found = exposure(folder) if isinstance(folder, str) else ""
    return f"the cache folder is not private: {found}" if found else ""


def _loading(cache: Any) -> Callable[..., Any]:
    """Return what loads code with all that code needs to run.

    `Cache.load_overload` also imports what compilers need, which takes ten times as long.
    """

    def load(signature: Any, context: Any) -> Any:
        rtsys.initialize(context)
        with cache._guard_against_spurious_io_errors():  # noqa: SLF001
            return cache._load_overload(signature, context)  # noqa: SLF001

    return load


def _checked(load: Callable[..., Any]) -> Callable[..., Any]:
    """Reject code for other arguments: concurrent processes may save under the same file name."""

    def loaded(signature: Any, context: Any) -> Any:
        found = load(signature, context)
        # Callbacks are looked up by signature, kernels by argument types.
        args = tuple(getattr(signature, "args", signature))
        if found is not None and found.signature.args != args:
            msg = f"the cache holds {found.signature} in place of {signature}"
            raise ValueError(msg)
        return found

    return loaded


def _stamp(compiled: Any) -> bool:
    """Make a change of any kernel's source invalidate a cache; return whether that is possible.

    Numba checks the function's own file only: https://github.com/numba/numba/issues/1833.
    """
    file: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if not hasattr(file, "_source_stamp"):
        # NUMBA_DISABLE_JIT, or a version of Numba that implements it differently.
        return False
    stamp = _stamp_of_all_kernels()
    file._source_stamp = stamp  # noqa: SLF001 - Numba has no public API for it
    return stamp is not None


def _announcing(
    load: Callable[..., Any], function: Callable[..., Any], *, reason: str
) -> Callable[..., Any]:
    """Log what is about to be compiled, and why it is not kept, when it is not in the cache."""

    def loaded(signature: Any, context: Any) -> Any:
        found = load(signature, context)
        if found is None:
            dtype = "float32" if "float32" in str(signature) else "float64"
            logger.warning(
                "accelnn compiles its kernel %r for %s, which takes some seconds %s",
                function.__name__,
                dtype,
                f"in every process, because {reason}: set NUMBA_CACHE_DIR to a folder of your own "
                f"that nobody else can write to"
                if reason
                else "once (accelnn.warmup(backend='numba') does it ahead)",
            )
        return found

    return loaded


@functools.cache
def _stamp_of_all_kernels() -> str | None:
    """Return a digest of the sources of all kernels, or None if they are not available."""
    # Kernels number formulas by their position in the table, and share constants with them.
    packages = ("accelnn.backends.numba", "accelnn.formulas")
    sources = {name: source for package in packages for name, source in _sources(package)}
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    return digest.hexdigest() if sources else None


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the modules of a package, which may be in a zip file."""
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
    """Return None if the cache fails, so that the function is compiled again."""

    def tried(*args: Any) -> Any:
        try:
            return method(*args)
        except OSError as error:
            # The disk is full, or the directory was removed or is not writable.
            logger.debug("no cache of compiled kernels: %s", error)
            return None
        except Exception as error:  # noqa: BLE001 - unpickling may raise anything
            # The index is corrupt, or names classes that this version of accelnn does not have.
            logger.warning(
                "a cache of compiled kernels could not be read (%s: %s); it is cleared, and "
                "kernels are compiled again",
                type(error).__name__,
                error,
            )
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    return tried
