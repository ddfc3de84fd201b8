"""The choice of a backend.

Order: the ``backend=`` argument, `use_backend`, `set_backend` or the environment variable
``ACCELNN_BACKEND``, the type of the arrays, else NumPy. Nets and engines capture their backend at
construction, so nothing needs to be notified when the default changes.
"""

import functools
import logging
import os
from typing import TypeAlias

from accelnn._shown import shown
from accelnn.backends._base import Backend
from accelnn.backends._context import Choice, chosen
from accelnn.backends._registry import backend_named, instance_of, is_backend, owner_of
from accelnn.errors import BackendMismatchError, BackendUnavailableError
from accelnn.formulas._ops import find_ops_with

__all__ = [
    "BackendLike",
    "get_backend",
    "resolve",
    "set_backend",
    "use_backend",
]

BackendLike: TypeAlias = str | Backend | type[Backend]

ENVIRONMENT_VARIABLE = "ACCELNN_BACKEND"
FASTEST_FIRST = ("cupy", "numba", "numpy")
# Why a backend cannot be used that somebody has installed to use it.
BROKEN = ("import failed", "no compiler")

logger = logging.getLogger("accelnn")

_process_default: Backend | None = None


def get_backend(name: BackendLike | None = None) -> Backend:
    """Return a backend.

    Parameters
    ----------
    name : str, Backend or subclass of Backend, optional
        ``"auto"`` is CuPy on a usable CUDA device, else Numba, else NumPy. ``"cupy:1"`` is CuPy on
        the second device, ``"cupy"`` on the one that was current on first use. ``"numba:1"`` is
        Numba on one thread. By default the active backend: that of `use_backend`, else of
        `set_backend` or the environment variable ``ACCELNN_BACKEND``, else NumPy.

    Raises
    ------
    ValueError
        If the name or the device is unknown; the message lists the known ones.
    accelnn.errors.BackendUnavailableError
        If it cannot be used here; the message says why and what to do.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.get_backend("numpy")
    <accelnn backend 'numpy' on cpu>
    """
    if name is None:
        return resolve(None)
    if isinstance(name, str):
        return _fastest() if name == "auto" else backend_named(name)
    if is_backend(name):
        return instance_of(name)
    msg = f"a backend is a name, a Backend or a subclass of Backend; got {shown(name)}"
    raise TypeError(msg)


def set_backend(name: BackendLike | None) -> None:
    """Set the default backend of this process; None restores that of the environment variable.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.set_backend("numpy")
    >>> accelnn.get_backend().name
    'numpy'
    >>> accelnn.set_backend(None)
    """
    global _process_default  # noqa: PLW0603 - a process default is one variable, and it is here
    _process_default = None if name is None else get_backend(name)


def use_backend(name: BackendLike) -> Choice:
    """Choose the backend inside a ``with`` block, in this thread or asyncio task only.

    A generator shares the context of its caller, so a block that contains a ``yield`` also chooses
    for the caller until the block is left. As a decorator, ``@use_backend(name)`` chooses for the
    body of a function, coroutine function or generator function, and not while it is suspended.

    Parameters
    ----------
    name : str, Backend or subclass of Backend
        See `get_backend`. Looked up whenever a block is entered or a decorated function called.

    Returns
    -------
    context manager and decorator
        ``with ... as`` binds the backend. Reusable, also nested and in several threads.

    Raises
    ------
    RuntimeError
        If a block is left in a thread or task other than the one that entered it.

    Examples
    --------
    >>> import accelnn
    >>> with accelnn.use_backend("numpy") as backend:
    ...     accelnn.get_backend() is backend
    True
    >>> @accelnn.use_backend("numpy")
    ... def batches():
    ...     yield accelnn.get_backend().name
    >>> list(batches())
    ['numpy']
    """
    return Choice(functools.partial(get_backend, name))


def resolve(backend: BackendLike | None, *arrays: object) -> Backend:
    """Return the backend that is to compute on `arrays`."""
    if backend is not None:
        return get_backend(backend)
    found = _selected()
    if found is None:
        found = _infer(arrays)
    return backend_named("numpy") if found is None else found


find_ops_with(resolve)


def _selected() -> Backend | None:
    found = chosen()
    if found is None:
        found = _process_default
    if found is None and (name := os.environ.get(ENVIRONMENT_VARIABLE)):
        found = _from_environment(name)
    return found


def _from_environment(name: str) -> Backend:
    if name == "auto":
        return _fastest_of_all()
    try:
        return get_backend(name)
    except ValueError as error:
        msg = f"the environment variable {ENVIRONMENT_VARIABLE} names an {error}"
        raise ValueError(msg) from error


@functools.cache
def _fastest_of_all() -> Backend:
    """Look for devices once, because this takes a millisecond and runs on every call."""
    return _fastest()


def _fastest() -> Backend:
    for name in FASTEST_FIRST:
        try:
            return backend_named(name)
        except BackendUnavailableError as error:
            if error.reason in BROKEN:
                _pass_over(name, str(error).strip())
    raise AssertionError  # NumPy is always there


@functools.cache
def _pass_over(name: str, why: str) -> None:
    """Say once that a backend is not taken though what it needs is here."""
    logger.warning("'auto' passes over the backend %r: %s", name, why)


def _infer(arrays: tuple[object, ...]) -> Backend | None:
    found: Backend | None = None
    for x in arrays:
        owner = owner_of(x)
        if owner is None:
            continue
        if found is None:
            found = owner
        if owner.address == found.address:
            continue
        names = f"{found.address!r} and {owner.address!r}"
        msg = (
            f"the arrays belong to different backends ({names}) and nothing is converted "
            f"implicitly. Move them to one of them with accelnn.get_backend(name).asarray(...) "
            f"or .to_numpy(...)."
        )
        raise BackendMismatchError(msg)
    return found
