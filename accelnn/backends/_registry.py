"""Which backends exist: ours, registered ones, and those that installed packages announce."""

import importlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from accelnn.backends._base import Backend
from accelnn.errors import BackendUnavailableError

__all__ = ["BackendInfo", "backend_named", "instance_of", "list_backends", "register_backend"]

ENTRY_POINT_GROUP = "accelnn.backends"

_BUILT_IN = {
    "numpy": "accelnn.backends.numpy:NumpyBackend",
    "numba": "accelnn.backends.numba:NumbaBackend",
    "cupy": "accelnn.backends.cupy:CupyBackend",
}
_registered: dict[str, Backend | type[Backend]] = {}
_instances: dict[type[Backend], Backend] = {}


class BackendInfo(NamedTuple):
    """One row of `list_backends`.

    Attributes
    ----------
    name : str
        What `get_backend` takes.
    available : bool
        Whether it can compute here and now.
    reason : str
        Why not, with the command that mends it; empty if it can.
    device : str
        Where its arrays live; empty if it is not available.
    """

    name: str
    available: bool
    reason: str
    device: str


def register_backend(
    backend: Backend | type[Backend], *, name: str | None = None, replace: bool = False
) -> Backend | type[Backend]:
    """Make a backend known by name, in this process.

    A package announces its backend to every process with an entry point in the group
    ``accelnn.backends`` instead: ``name = "package.module:BackendClass"``.

    Parameters
    ----------
    backend : Backend or subclass of Backend
        A class is instantiated when it is first asked for.
    name : str, optional
        The name to register; by default the backend's own.
    replace : bool, default False
        Whether a backend of that name may be replaced.

    Returns
    -------
    Backend or subclass of Backend
        `backend`, so that this works as a class decorator.

    Raises
    ------
    TypeError
        If `backend` is not a backend.
    ValueError
        If the name is taken and `replace` is False, or reserved.

    Examples
    --------
    >>> import accelnn
    >>> from accelnn.backends.numpy import NumpyBackend
    >>> @accelnn.register_backend
    ... class Mine(NumpyBackend):
    ...     name = "mine"
    ...     inferred = False
    >>> accelnn.get_backend("mine")
    <accelnn backend 'mine' on cpu>
    """
    is_class = isinstance(backend, type) and issubclass(backend, Backend)
    if not (is_class or isinstance(backend, Backend)):
        msg = f"expected a Backend or a subclass of Backend, got {backend!r}"
        raise TypeError(msg)
    name = name or backend.name
    if name == "auto":
        msg = "the name 'auto' is reserved: it means the fastest backend that can be used here"
        raise ValueError(msg)
    if not replace and (name in _BUILT_IN or name in _registered):
        msg = f"a backend named {name!r} is already registered; pass replace=True to replace it"
        raise ValueError(msg)
    _registered[name] = backend
    return backend


def list_backends() -> list[BackendInfo]:
    """Return every known backend, whether it can be used here, and why not.

    Returns
    -------
    list of BackendInfo
        In the order built-in, registered, announced by installed packages.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.list_backends()[0]
    BackendInfo(name='numpy', available=True, reason='', device='cpu')
    """
    return [_describe(name) for name in known_names()]


def known_names() -> list[str]:
    """Return the names of all backends, installed or not."""
    return list(dict.fromkeys([*_BUILT_IN, *_registered, *_entry_points()]))


def backend_named(name: str) -> Backend:
    """Return the backend of that name, made on its first use."""
    if name in _registered:
        return instance_of(_registered[name])
    if name in _BUILT_IN:
        return instance_of(_load(_BUILT_IN[name]))
    load = _entry_points().get(name)
    if load is None:
        known = ", ".join(repr(known) for known in known_names())
        msg = f"unknown backend {name!r}; known backends are {known}, and 'auto'"
        raise ValueError(msg)
    try:
        loaded = load()
    except Exception as error:
        msg = (
            f"the package that announces the backend {name!r} failed to load it: "
            f"{type(error).__name__}: {error}"
        )
        raise BackendUnavailableError(msg, reason="import failed") from error
    return instance_of(loaded)


def instance_of(backend: Backend | type[Backend]) -> Backend:
    """Return `backend` itself, or the one instance of a class."""
    if isinstance(backend, Backend):
        return backend
    if backend not in _instances:
        _instances[backend] = backend()
    return _instances[backend]


def inferable_classes() -> Iterator[type[Backend]]:
    """Yield the classes whose arrays select them; entry points are not loaded for this."""
    for name in ("numpy", "cupy"):
        yield _load(_BUILT_IN[name])
    for backend in _registered.values():
        cls = backend if isinstance(backend, type) else type(backend)
        if cls.inferred:
            yield cls
    yield from (cls for cls in _instances if cls.inferred)


def _load(path: str) -> type[Backend]:
    module, _, attribute = path.partition(":")
    cls: type[Backend] = getattr(importlib.import_module(module), attribute)
    return cls


def _entry_points() -> dict[str, Callable[[], type[Backend]]]:
    from importlib.metadata import entry_points

    return {point.name: point.load for point in entry_points(group=ENTRY_POINT_GROUP)}


def _describe(name: str) -> BackendInfo:
    try:
        backend = backend_named(name)
    except ImportError as error:
        return BackendInfo(name, available=False, reason=str(error).strip(), device="")
    return BackendInfo(name, available=True, reason="", device=str(backend.device))
