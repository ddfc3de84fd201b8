"""The user's functions: found by name, called, and their exceptions shown with file and line."""

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from accelnn._cached import cached_property

__all__ = ["Source", "UsersFunction", "importable", "raised_by_user"]

# The attribute of an exception that says where it was raised, also from another process.
MARK = "_accelnn_raised_by_user"


class _NotThereError(ValueError):
    """There is no object of a name."""


class Source:
    """A module with functions, given by its name or its file.

    Parameters
    ----------
    where : str
        The name of a module, or the path of a file that ends in ``.py``.
    folder : str or None
        The folder that the path is relative to, by default the current one.
    """

    def __init__(self, where: str, folder: str | None = None) -> None:
        self.where, self.here = where, folder or str(Path.cwd())
        self.is_file = where.endswith(".py")
        path = Path(self.here, where)
        if not self.is_file and (os.sep in where or "/" in where):
            msg = f"{where!r} is neither a module nor a file that ends in .py"
            raise ValueError(msg)
        if self.is_file and not path.is_file():
            msg = f"there is no file {where!r}"
            raise ValueError(msg)
        self.path = str(path) if self.is_file else where
        self.folder = str(path.parent) if self.is_file else self.here
        # Methods of a class, such as forward and backward, are called on the same instance.
        self._instances: dict[type, Any] = {}

    @cached_property
    def module(self) -> ModuleType:
        """The module, imported on first access."""
        if not self.is_file:
            module: ModuleType = self._imported(lambda: importlib.import_module(self.where))
            return module
        name = Path(self.path).stem
        if name in sys.modules:
            name = f"{name} of {self.folder}"
        spec = importlib.util.spec_from_file_location(name, self.path)
        if spec is None or spec.loader is None:
            msg = f"{self.where!r} cannot be imported"
            raise ValueError(msg)
        module = importlib.util.module_from_spec(spec)
        load = functools.partial(spec.loader.exec_module, module)
        # Dataclasses, among others, look their module up there.
        sys.modules[name] = module
        try:
            self._imported(load)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def _imported(self, load: Callable[[], Any]) -> Any:
        try:
            with _marked(f"importing {self.where}"):
                return load()
        except ModuleNotFoundError as error:
            # An error of the command, unless an existing module fails to import another one.
            if not self.is_file and f"{self.where}.".startswith(f"{error.name}."):
                raise ModuleNotFoundError(str(error)) from None
            raise

    def find(self, name: str) -> Any:
        """Return the object of a name such as ``f``, ``Class.method`` or ``Outer.Inner.f``.

        A plain method is bound to an instance made without arguments.
        """
        found: Any = self.module
        passed = ""
        for part in name.split("."):
            if inspect.isclass(found) and _needs_instance(found, part):
                found = self._instance(found)
            try:
                with _marked(f"{self.where}:{name}"):
                    found = getattr(found, part)
            except AttributeError:
                kind = f"module {self.where!r}" if found is self.module else repr(passed)
                msg = f"{kind} has no {part!r}"
                raise _NotThereError(msg) from None
            passed = f"{passed}.{part}" if passed else part
        return found

    def has(self, name: str) -> bool:
        """Return whether there is an object of a name."""
        try:
            self.find(name)
        except _NotThereError:
            return False
        return True

    def _instance(self, kind: type) -> Any:
        if kind not in self._instances:
            with suppress(ValueError):
                # Builtins may have no signature.
                signature = inspect.signature(kind)
                try:
                    signature.bind()
                except TypeError as error:
                    name = kind.__qualname__
                    msg = (
                        f"{name} is instantiated without arguments to call its method, but takes "
                        f"{signature}: {error}. Check a function that makes one, or a static method"
                    )
                    raise TypeError(msg) from None
            with _marked(f"{self.where}:{kind.__qualname__}()"):
                self._instances[kind] = kind()
        return self._instances[kind]


def _needs_instance(kind: type, name: str) -> bool:
    """Return whether an attribute is a plain method or a property, or is set by ``__init__``."""
    try:
        found = inspect.getattr_static(kind, name)
    except AttributeError:
        return True
    is_free = isinstance(found, staticmethod | classmethod)
    return not is_free and hasattr(type(found), "__get__")


class UsersFunction:
    """A function of the user, whose exceptions are marked as the user's.

    It is pickled by name, so that lambdas and methods can be sent to other processes too.

    Parameters
    ----------
    source : Source
        Its module.
    name : str
        Its name in the module.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name, self.is_far = source, name, False
        self.function = source.find(name)
        if not callable(self.function):
            msg = f"{source.where}:{name} is not a function, but {self.function!r:.60}"
            raise TypeError(msg)

    def __call__(self, x: Any) -> Any:
        try:
            with _marked(f"{self.source.where}:{self.name}", self.function):
                return self.function(x)
        except (Exception, SystemExit) as error:
            if not self.is_far:
                raise
            # Exceptions with constructors of their own may not survive pickling.
            message = raised_by_user(error)
            sent = RuntimeError(message)
            setattr(sent, MARK, message)
            raise sent from None

    @property
    def nopython_signatures(self) -> Any:
        """The signatures for which Numba has compiled the function, if it has."""
        return self.function.nopython_signatures

    def __reduce__(self) -> tuple[Any, ...]:
        # With the folder, because the current one of a worker may differ.
        return _find_again, (self.source.where, self.source.here, self.name)


@functools.cache
def _find_again(where: str, here: str, name: str) -> UsersFunction:
    """Return a function in a worker process, which does nothing else."""
    sys.dont_write_bytecode = True
    function = UsersFunction(_source_again(where, here), name)
    function.is_far = True
    return function


@functools.cache
def _source_again(where: str, here: str) -> Source:
    return Source(where, here)


@contextmanager
def importable(folder: str) -> Iterator[None]:
    """Let modules of a folder be imported, without leaving compiled files there."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, folder)
    # Otherwise files that are newer than the process may not be seen.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        with suppress(ValueError):
            sys.path.remove(folder)


@contextmanager
def _marked(what: str, function: Any = None) -> Iterator[None]:
    """Mark exceptions as the user's, with the place where they were raised."""
    try:
        yield
    except BaseException as error:
        if not hasattr(error, MARK):
            setattr(error, MARK, _message(what, error, function))
        raise


def raised_by_user(error: BaseException | None) -> str | None:
    """Return what the user's code raised and where; None for other exceptions."""
    while error is not None:
        message: str | None = getattr(error, MARK, None)
        if message is not None:
            return message
        error = error.__cause__
    return None


def _message(what: str, error: BaseException, function: Any) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a __str__ may raise anything
        text = "(its message cannot be shown)"
    text = f"{type(error).__name__}{': ' if text else ''}{text}"
    ended = isinstance(error, SystemExit)
    lines = [f"{what} ended the program ({text})" if ended else f"{what} raised {text}"]
    place = _place(error) or _definition(function)
    if place is not None:
        lines.append(f"  {_shown(place.filename)}, line {place.lineno}, in {place.name}")
        if place.line:
            lines.append(f"    {place.line}")
    return "\n".join(lines)


def _place(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost line outside of libraries, or any if there is none."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return traceback.FrameSummary(error.filename, error.lineno, "the file")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    frames = [f for f in frames if not f.filename.startswith("<frozen")]
    own = [f for f in frames if not _is_library(f.filename)]
    shown = own or frames
    return shown[-1] if shown else None


def _definition(function: Any) -> traceback.FrameSummary | None:
    """Return the first line of a compiled function, whose exceptions have no traceback."""
    code = getattr(getattr(function, "py_func", None), "__code__", None)
    if code is None:
        return None
    return traceback.FrameSummary(code.co_filename, code.co_firstlineno, code.co_name)


def _is_library(filename: str) -> bool:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders.append(str(Path(__file__).parents[1]))
    # Code from strings, as in <string> or <__array_function__ internals>, has no lines to show.
    return filename.startswith("<") or any(filename.startswith(f + os.sep) for f in folders)


def _shown(filename: str) -> str:
    """Return a path relative to the current folder, if it is inside."""
    path, here = Path(filename), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else filename
