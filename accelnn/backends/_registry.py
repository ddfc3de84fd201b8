"""Which backends exist: ours, registered ones, and those that installed packages announce."""

import functools
import importlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from accelnn.backends._base import Backend
from accelnn.errors import BackendUnavailableError

if TYPE_CHECKING:
    # Finding installed packages takes milliseconds, which only an unknown name is worth.
    from importlib.metadata import EntryPoint

__all__ = [
    "BackendInfo",
    "backend_named",
    "instance_of",
    "is_backend",
    "known_names",
    "list_backends",
    "owner_of",
    "register_backend",
]

ENTRY_POINT_GROUP = "accelnn.backends"

_BUILT_IN = {
    "numpy": "accelnn.backends.numpy:NumpyBackend",
    "numba": "accelnn.backends.numba:NumbaBackend",
    "cupy": "accelnn.backends.cupy:CupyBackend",
}
_registered: dict[str, Backend | type[Backend]] = {}
_announced: dict[str, Backend] = {}
# By class, and number of the device; None is the device that a class chooses itself.
_instances: dict[tuple[type[Backend], int | None], Backend] = {}
# Reentrant, because a backend may be made of another one.
_making = threading.RLock()


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
    if not is_backend(backend):
        msg = f"expected a Backend or a subclass of Backend, got {backend!r}"
        raise TypeError(msg)
    _require_complete(backend if isinstance(backend, type) else type(backend))
    name = name or backend.name
    if name == "auto":
        msg = "the name 'auto' is reserved: it means the fastest backend that can be used here"
        raise ValueError(msg)
    if ":" in name:
        msg = f"the name {name!r} has a colon, after which a name says which of several devices"
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
    """Return the backend of that name, made on its first use; ``"cupy:1"`` is on device 1."""
    plain, colon, number = name.partition(":")
    found = _found(plain, name)
    if not colon:
        return instance_of(found)
    cls = found if isinstance(found, type) else type(found)
    return instance_of(cls, _device_number(cls, plain, number))


def instance_of(backend: Backend | type[Backend], number: int | None = None) -> Backend:
    """Return `backend` itself, or the one instance of a class, or of a class on a device."""
    if isinstance(backend, Backend):
        return backend
    with _making:
        if (backend, number) not in _instances:
            _require_complete(backend)
            # Only a class with several devices takes a number.
            made = backend() if number is None else backend(number)  # type: ignore[call-arg]
            # The device that a class chooses itself has a number too.
            _instances[backend, number] = _instances.setdefault((backend, made.number), made)
        return _instances[backend, number]


def _found(name: str, asked: str) -> Backend | type[Backend]:
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        return _load(_BUILT_IN[name])
    if name not in _announced:
        _announced[name] = _from_entry_point(name, asked)
    return _announced[name]


def _device_number(cls: type[Backend], name: str, number: str) -> int:
    count = cls.device_count()
    if number.isdecimal() and int(number) < count:
        return int(number)
    known = ", ".join(repr(f"{name}:{i}") for i in range(count))
    msg = f"unknown device {number!r} of the backend {name!r}; "
    msg += f"known devices are {known}" if known else f"it has no numbered devices: use {name!r}"
    raise ValueError(msg)


def _require_complete(cls: type[Backend]) -> None:
    """Refuse a class that would fail later, in calls that have nothing to do with it."""
    name = getattr(cls, "name", None)
    lacking = [] if isinstance(name, str) and name else ["a class attribute `name`"]
    if cls.owns.__func__ is Backend.owns.__func__:  # type: ignore[attr-defined]
        lacking.append("a class method `owns`")
    if lacking:
        msg = f"{cls.__qualname__} is no complete backend: it needs {' and '.join(lacking)}"
        raise TypeError(msg)


def is_backend(value: object) -> TypeGuard[Backend | type[Backend]]:
    """Return whether `value` is a backend or a class of backends."""
    return isinstance(value, Backend) or (isinstance(value, type) and issubclass(value, Backend))


def owner_of(x: object) -> Backend | None:
    """Return the backend that an array's type selects; entry points are not loaded for this."""
    # Copied at once, because another thread may add to them.
    known: Any
    for known in ("numpy", "cupy", *_registered, *_instances):
        if isinstance(known, str):
            candidate = _registered.get(known) or _load(_BUILT_IN[known])
        else:
            candidate, _ = known
        if candidate.inferred and candidate.owns(x):
            return instance_of(candidate, candidate.number_of(x))
    return None


@functools.cache
def _load(path: str) -> type[Backend]:
    module, _, attribute = path.partition(":")
    cls: type[Backend] = getattr(importlib.import_module(module), attribute)
    return cls


def _from_entry_point(name: str, asked: str) -> Backend:
    point = _entry_points().get(name)
    if point is None:
        known = ", ".join(repr(known) for known in known_names())
        msg = f"unknown backend {asked!r}; known backends are {known}, and 'auto'"
        raise ValueError(msg)
    try:
        loaded = point.load()
        if not is_backend(loaded):
            msg = f"{point.value} is not a Backend or a subclass of Backend"
            raise TypeError(msg)  # noqa: TRY301 - reported like every other defect of the package
        return instance_of(loaded)
    except BackendUnavailableError:
        raise
    except Exception as error:
        package = point.dist.name if point.dist else point.module
        msg = (
            f"the package {package}, which announces the backend {name!r}, failed to load it: "
            f"{type(error).__name__}: {error}. Reinstall it with:\n\n"
            f"    pip install --force-reinstall {package}\n"
        )
        raise BackendUnavailableError(msg, reason="import failed") from error


def _entry_points() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _describe(name: str) -> BackendInfo:
    try:
        device = str(backend_named(name).device)
    except ImportError as error:
        return BackendInfo(name, available=False, reason=str(error).strip(), device="")
    except Exception as error:  # noqa: BLE001 - a broken backend must not hide the others
        reason = f"making it failed with {type(error).__name__}: {error}"
        return BackendInfo(name, available=False, reason=reason, device="")
    return BackendInfo(name, available=True, reason="", device=device)
