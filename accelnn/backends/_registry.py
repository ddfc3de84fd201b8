"""The registry of backends: built in, registered, or announced by entry points."""

import functools
import importlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from accelnn._forks import no_forks
from accelnn._shown import shown
from accelnn.backends._base import Backend
from accelnn.backends._entry_points import ambiguity_of, entry_points_of, package_of, warn_once
from accelnn.errors import BackendMismatchError, BackendUnavailableError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "BackendInfo",
    "backend_named",
    "found_again",
    "instance_of",
    "is_backend",
    "known_names",
    "list_backends",
    "owner_of",
    "reference",
    "register_backend",
]

ENTRY_POINT_GROUP = "accelnn.backends"
MODULES_GROUP = "accelnn.backend_modules"

_BUILT_IN = {
    "numpy": "accelnn.backends.numpy:NumpyBackend",
    "numba": "accelnn.backends.numba:NumbaBackend",
    "cupy": "accelnn.backends.cupy:CupyBackend",
}
_registered: dict[str, Backend | type[Backend]] = {}
_announced: dict[str, Backend] = {}
# By class and number; with None the class chooses its number.
_instances: dict[tuple[type[Backend], int | None], Backend] = {}

# The methods that are called on a class, before there is an instance, and their arguments.
_OF_THE_CLASS = {
    "owns": "x",
    "check_available": "",
    "device_count": "",
    "number_of": "x",
    "parse_number": "number, name",
}


class BackendInfo(NamedTuple):
    """One row of `list_backends`.

    Attributes
    ----------
    name : str
        The name that `get_backend` takes.
    available : bool
        Whether it is known to work on this machine.
    reason : str
        Why not, with the command that fixes it or the call that finds out; empty if available.
    device : str
        The device of its arrays; empty if not available.
    """

    name: str
    available: bool
    reason: str
    device: str


def register_backend(
    backend: Backend | type[Backend], *, name: str | None = None, replace: bool = False
) -> Backend | type[Backend]:
    """Register a backend by name, in this process.

    A package instead announces its backend to every process by an entry point in the group
    ``accelnn.backends``: ``name = "package.module:BackendClass"``. It is imported when the name is
    first used. An entry point in the group ``accelnn.backend_modules``, ``name = "module"``,
    declares that array types defined in that module or its submodules belong to the backend: the
    first such array selects the backend, and imports no other. Further modules have entries
    ``"name:2" = "other_module"`` and so on.

    Parameters
    ----------
    backend : Backend or subclass of Backend
        A class is instantiated on first use.
    name : str, optional
        The name to register; by default the `name` of the backend.
    replace : bool, default False
        Replace a backend of that name.

    Returns
    -------
    Backend or subclass of Backend
        `backend`, so that this works as a class decorator.

    Raises
    ------
    TypeError
        If `backend` is not a backend, or lacks one of the class attribute `name`, the class method
        `owns`, and the attribute `xp`.
    ValueError
        If the name is reserved, or is taken and `replace` is False.

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
        msg = f"expected a Backend or a subclass of Backend, got {shown(backend)}"
        raise TypeError(msg)
    _require_complete(backend)
    name = name or backend.name
    if reserved := _reserved(name):
        raise ValueError(reserved)
    if not replace and (name in _BUILT_IN or name in _registered):
        msg = f"a backend named {name!r} is already registered; pass replace=True to replace it"
        raise ValueError(msg)
    _registered[name] = backend
    return backend


def list_backends(*, load: bool = False) -> list[BackendInfo]:
    """Return every known backend, whether it can be used here, and why not.

    Parameters
    ----------
    load : bool, default False
        Import the backends that installed packages announce and that have not been used so far,
        which may take seconds each. Otherwise these are listed as not available, and `reason` says
        that they are not loaded.

    Returns
    -------
    list of BackendInfo
        Built-in ones first, then registered ones, then those of installed packages.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.list_backends()[0]
    BackendInfo(name='numpy', available=True, reason='', device='cpu')
    """
    announced = _announced_backends()
    return [
        _describe(name)
        if load or name in _BUILT_IN or name in _registered or name in _announced
        else _describe_unloaded(name, announced[name])
        for name in known_names()
    ]


def known_names() -> list[str]:
    """Return the names of all backends, installed or not."""
    return list(dict.fromkeys([*_BUILT_IN, *_registered, *_announced_backends()]))


def _reserved(name: str) -> str:
    """Return why no backend may have a name; empty if it may."""
    if name == "auto":
        return "the name 'auto' is reserved: it means the fastest backend that can be used here"
    if ":" in name:
        return f"the name {name!r} has a colon, which separates a name from the number of a device"
    return ""


def backend_named(name: str) -> Backend:
    """Return a backend by name, made on first use; ``"cupy:1"`` is on device 1."""
    plain, colon, number = name.partition(":")
    found = _found(plain, name)
    if not colon:
        return instance_of(found)
    cls = found if isinstance(found, type) else type(found)
    return instance_of(cls, cls.parse_number(number, plain))


def instance_of(backend: Backend | type[Backend], number: int | None = None) -> Backend:
    """Return an instance unchanged, or the only instance of a class and number."""
    if isinstance(backend, Backend):
        return backend
    made = _instances.get((backend, number))
    return _make(backend, number) if made is None else made


def _make(cls: type[Backend], number: int | None) -> Backend:
    """Make the instance of a class and number.

    No lock is held: this may take seconds, other threads need other backends meanwhile, and a
    forked child would deadlock. If several threads make one, all get the one stored first.
    """
    _require_complete(cls)
    cls.check_available()
    # A class whose `parse_number` returns one takes it in its constructor.
    made = cls() if number is None else cls(number)  # type: ignore[call-arg]
    _require_complete(made)
    # A class that chose for itself has a number too.
    made = _instances.setdefault((cls, made.number), made)
    return _instances.setdefault((cls, number), made)


def _found(name: str, asked: str) -> Backend | type[Backend]:
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        return _load(_BUILT_IN[name])
    if name not in _announced:
        _announced[name] = _from_entry_point(name, asked)
    return _announced[name]


def _require_complete(backend: Backend | type[Backend]) -> None:
    """Raise TypeError for defects that would otherwise show up later in unrelated calls."""
    cls = backend if isinstance(backend, type) else type(backend)
    name = getattr(cls, "name", None)
    lacking = {}
    if not (isinstance(name, str) and name):
        lacking["a class attribute `name`"] = 'name = "mine"'
    if inspect.getattr_static(cls, "owns") is vars(Backend)["owns"]:
        own = "@classmethod\n    def owns(cls, x):\n        return isinstance(x, ArrayType)"
        lacking["a class method `owns`"] = own
    if _lacks_namespace(backend):
        lacking["an attribute `xp`"] = "xp = array_namespace  # such as numpy"
    if lacking:
        msg = (
            f"{cls.__qualname__} is no complete backend: it needs {' and '.join(lacking)}. "
            f"Write in the class:\n\n    " + "\n\n    ".join(lacking.values()) + "\n"
        )
        raise TypeError(msg)
    for method, arguments in _OF_THE_CLASS.items():
        if inspect.isfunction(inspect.getattr_static(cls, method)):
            taken = f"cls, {arguments}".removesuffix(", ")
            msg = (
                f"{cls.__qualname__}.{method} is called on the class, but is defined as an "
                f"instance method. Write:\n\n    @classmethod\n    def {method}({taken}):\n"
            )
            raise TypeError(msg)


def _lacks_namespace(backend: Backend | type[Backend]) -> bool:
    if not isinstance(backend, type):
        return getattr(backend, "xp", None) is None
    # The constructor may set it.
    constructs = backend.__init__ is not object.__init__ or backend.__new__ is not object.__new__
    return not constructs and inspect.getattr_static(backend, "xp", None) is None


def is_backend(value: object) -> TypeGuard[Backend | type[Backend]]:
    """Return whether `value` is a backend or a subclass of `Backend`."""
    return isinstance(value, Backend) or (isinstance(value, type) and issubclass(value, Backend))


def owner_of(x: object) -> Backend | None:
    """Return the backend that an array's type selects.

    Of announced backends, only one that declares the type's module is imported for this.
    """
    # A copy, because another thread may add to them.
    known: Any
    for known in ("numpy", "cupy", *_registered, *_instances):
        if isinstance(known, str):
            candidate = _registered[known] if known in _registered else _load(_BUILT_IN[known])
        else:
            candidate, _ = known
        if candidate.inferred and candidate.owns(x):
            return instance_of(candidate, candidate.number_of(x))
    return _declared_owner(x)


def reference(backend: Backend) -> tuple[str | type[Backend], int | None]:
    """Return the arguments with which `found_again` finds a backend, also in another process."""
    try:
        is_known = type(backend_named(backend.address)) is type(backend)
    except (ValueError, ImportError):
        is_known = False
    return (backend.address, None) if is_known else (type(backend), backend.number)


def found_again(name: str | type[Backend], number: int | None) -> Backend:
    """Return the backend that `reference` described."""
    return backend_named(name) if isinstance(name, str) else instance_of(name, number)


@functools.cache
def _load(path: str) -> type[Backend]:
    module, _, attribute = path.partition(":")
    with no_forks():
        cls: type[Backend] = getattr(importlib.import_module(module), attribute)
    return cls


# Backends that installed packages announce ------------------------------------------------------


def _from_entry_point(name: str, asked: str) -> Backend:
    points = _announced_backends().get(name)
    if points is None:
        known = ", ".join(repr(known) for known in known_names())
        msg = f"unknown backend {shown(asked)}; known backends are {known}, and 'auto'"
        raise ValueError(msg)
    if len(points) > 1:
        raise BackendUnavailableError(ambiguity_of(name, points), reason="import failed")
    (point,) = points
    try:
        loaded = point.load()
        if not is_backend(loaded):
            msg = f"{point.value} is not a Backend or a subclass of Backend"
            raise TypeError(msg)  # noqa: TRY301 - reported like every other defect of the package
        return instance_of(loaded)
    except BackendUnavailableError:
        raise
    except (Exception, SystemExit) as error:
        package = package_of(point)
        msg = (
            f"the package {package}, which announces the backend {name!r}, failed to load it: "
            f"{type(error).__name__}: {error}. Reinstall it with:\n\n"
            f"    pip install --force-reinstall {package}\n"
        )
        raise BackendUnavailableError(msg, reason="import failed") from error


def _declared_owner(x: object) -> Backend | None:
    """Return the announced backend that declares the module of an array's type, if any."""
    for cls in type(x).__mro__:
        if cls.__module__ in ("builtins", "numpy"):
            continue
        # The module, then its parent packages.
        module = cls.__module__
        while module:
            if points := _declared_modules().get(module):
                return _backend_declaring(module, points, x)
            module = module.rpartition(".")[0]
    return None


def _backend_declaring(module: str, points: "list[EntryPoint]", x: object) -> Backend | None:
    names = list(dict.fromkeys(_backend_of(point) for point in points))
    if len(names) > 1:
        claims = " and ".join(f"{_backend_of(point)!r} of {package_of(point)}" for point in points)
        msg = (
            f"arrays of {module} belong to several backends: {claims}. Choose one: pass "
            f"backend={names[0]!r}, for example, or uninstall a package"
        )
        raise BackendMismatchError(msg)
    try:
        backend = backend_named(names[0])
    except ValueError as error:
        msg = (
            f"the package {package_of(points[0])} declares that arrays of {module} are those of an "
            f"{error}"
        )
        raise BackendUnavailableError(msg, reason="import failed") from error
    if not (backend.inferred and backend.owns(x)):
        return None
    number = type(backend).number_of(x)
    return backend if number in (None, backend.number) else instance_of(type(backend), number)


@functools.cache
def _declared_modules() -> "dict[str, list[EntryPoint]]":
    """Return the modules that announced backends declare, with their entry points; cached."""
    modules: dict[str, list[EntryPoint]] = {}
    for points in entry_points_of(MODULES_GROUP).values():
        for point in points:
            modules.setdefault(point.value, []).append(point)
    return modules


def _backend_of(point: "EntryPoint") -> str:
    # Names are unique within a group: further modules have "mine:2" and so on.
    return point.name.partition(":")[0]


def _announced_backends() -> "dict[str, list[EntryPoint]]":
    """Return the entry points of backends by name, without those that their names cannot choose."""
    announced = entry_points_of(ENTRY_POINT_GROUP)
    for name in list(announced):
        why = f"accelnn has one of that name, {name!r}" if name in _BUILT_IN else _reserved(name)
        if why:
            for point in announced.pop(name):
                warn_once(
                    f"the backend {point.value!r} of the package {package_of(point)} is ignored: "
                    f"{why}. The package must announce it by another name"
                )
    return announced


def _describe(name: str) -> BackendInfo:
    try:
        device = str(backend_named(name).device)
    except ImportError as error:
        return BackendInfo(name, available=False, reason=str(error).strip(), device="")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it must not hide the others
        reason = f"making it failed with {type(error).__name__}: {error}"
        return BackendInfo(name, available=False, reason=reason, device="")
    return BackendInfo(name, available=True, reason="", device=device)


def _describe_unloaded(name: str, points: "list[EntryPoint]") -> BackendInfo:
    if len(points) > 1:
        reason = ambiguity_of(name, points).strip()
    else:
        reason = (
            f"not loaded: {points[0].value} of the package {package_of(points[0])} is imported by "
            f"accelnn.get_backend({name!r}), or accelnn.list_backends(load=True)"
        )
    return BackendInfo(name, available=False, reason=reason, device="")
