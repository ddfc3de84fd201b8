"""A user's scalar functions as compiled code, and what tells them from others.

A function may look up names of its module and of its closure. In compiled code their values are
constants: `state_of` says what they are now, so that code is compiled anew once they are others.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import math
import types as python_types
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba.core.registry import CPUDispatcher

from accelnn.backends.numba._jit import uncached_loop

__all__ = ["Code", "NoCodeError", "State", "code_of", "digest", "state_of"]

State: TypeAlias = Hashable
# Instructions that look up a name of the module, and those of `raise`, `assert` and `except`:
# compiled code that is called by its address cannot hand an exception on.
LOOKS_UP = ("LOAD_GLOBAL", "LOAD_NAME")
EXCEPTIONS = ("RAISE_VARARGS", "PUSH_EXC_INFO")
# Those of containers, in which Numba does not align vectors.
CONTAINERS = ("BUILD_LIST", "LIST_APPEND", "LIST_EXTEND", "BUILD_SET", "BUILD_MAP", "MAP_ADD")


class NoCodeError(Exception):
    """A formula has no code here: it is computed by the portable engine."""


class Code(NamedTuple):
    """A user's function with the plain functions that it calls compiled, and itself.

    Attributes
    ----------
    plain : function
        Which is called from Python.
    function : CPUDispatcher
        Which compiled code calls.
    key : bytes or None
        What tells it, and all that its source looks up, from other code; None if nothing does.
    takes_vectors : bool
        Whether its numbers may be vectors, if Numba can compile it for them.
    """

    plain: Callable[..., Any]
    function: CPUDispatcher
    key: bytes | None
    takes_vectors: bool


class _Same:
    """An object, equal to itself alone, and kept alive."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def state_of(function: Any, callers: tuple[Any, ...] = ()) -> State:
    """Return what a function looks up, and the functions that it calls, as they are now."""
    plain = getattr(function, "py_func", function)
    if not isinstance(plain, python_types.FunctionType) or plain in callers:
        return _Same(function)
    names, cells = _looked_up(plain)
    found = [(name, _value_of(value, (*callers, plain))) for name, value in (*names, *cells)]
    return _Same(plain.__code__), repr(plain.__defaults__), tuple(found)


def _value_of(value: Any, callers: tuple[Any, ...]) -> Hashable:
    if isinstance(value, int | float | complex | str | bytes | type(None)):
        # As text, because 1, 1.0 and True are equal, and NaN is not.
        return type(value), repr(value)
    if isinstance(value, tuple):
        return tuple(_value_of(item, callers) for item in value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, list | dict):
        return repr(value)
    if isinstance(value, python_types.FunctionType | CPUDispatcher):
        return state_of(value, callers)
    return _Same(value)


def code_of(function: Callable[..., Any]) -> Code:
    """Return a plain function compiled, together with the plain functions that it calls.

    Raises
    ------
    NoCodeError
        If it is not made of plain functions.
    """
    return _code_at(function, state_of(function))


@functools.cache
def _code_at(function: Callable[..., Any], state: State) -> Code:  # noqa: ARG001 - tells calls apart
    return _code_of(function, ())


def _code_of(function: Any, callers: tuple[Any, ...]) -> Code:
    plain = getattr(function, "py_func", function)
    what = getattr(function, "__qualname__", repr(function))
    if not isinstance(plain, python_types.FunctionType):
        msg = f"{what} is not written in Python: write a def that calls it"
        raise NoCodeError(msg)
    if plain in callers:
        msg = f"{what} calls itself"
        raise NoCodeError(msg)
    instructions = {instruction.opname for instruction in _instructions(plain.__code__)}
    if not instructions.isdisjoint(EXCEPTIONS):
        msg = f"{what} raises or catches exceptions, which compiled code cannot"
        raise NoCodeError(msg)
    takes_vectors = instructions.isdisjoint(CONTAINERS)
    names, cells = map(dict, _looked_up(plain))
    parts: list[bytes | None] = [_code_bytes(plain.__code__)]
    parts += map(_key, plain.__defaults__ or ())
    for known in (names, cells):
        for name, found in known.items():
            key = _key(found)
            if isinstance(found, python_types.FunctionType | CPUDispatcher):
                code = _code_of(found, (*callers, plain))
                key, takes_vectors = code.key, takes_vectors and code.takes_vectors
                if isinstance(found, CPUDispatcher):
                    key = key and key + repr(sorted(found.targetoptions.items())).encode()
                else:
                    known[name] = code.function
            parts.append(None if key is None else name.encode() + key)
    if plain is function:
        closure = tuple(map(python_types.CellType, cells.values()))
        plain = python_types.FunctionType(
            plain.__code__,
            {**plain.__globals__, **names},
            plain.__name__,
            plain.__defaults__,
            closure or None,
        )
        compiled: Any = uncached_loop(plain)
    else:
        compiled = function
    return Code(plain, compiled, None if None in parts else digest(*parts), takes_vectors)


def _looked_up(
    function: python_types.FunctionType,
) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Return what a function finds in its module, and in its closure: names and values."""
    code, module = function.__code__, function.__globals__
    names = [(name, module[name]) for name in _global_names(code) if name in module]
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    return names, [(name, cell.cell_contents) for name, cell in cells]


@functools.cache
def _global_names(code: python_types.CodeType) -> tuple[str, ...]:
    """Return the names of the module that a function looks up, and the functions inside it."""
    looked_up = (i.argval for i in _instructions(code) if i.opname in LOOKS_UP)
    return tuple(sorted(set(looked_up)))


def _instructions(code: python_types.CodeType) -> Iterator[dis.Instruction]:
    """Yield the instructions of a function, and of the functions inside it."""
    yield from dis.get_instructions(code)
    for const in code.co_consts:
        if isinstance(const, python_types.CodeType):
            yield from _instructions(const)


def _code_bytes(code: python_types.CodeType) -> bytes:
    """Return the bytecode of a function, and of the functions inside it."""
    consts = [
        _code_bytes(const) if isinstance(const, python_types.CodeType) else repr(const)
        for const in code.co_consts
    ]
    return repr((code.co_code, consts, code.co_names, code.co_varnames)).encode()


def _key(found: Any) -> bytes | None:
    """Return what tells a value from another of its name; None if nothing does."""
    if isinstance(found, int | float | complex | str | bytes | type(None)):
        return repr(found).encode()
    # What another module's names mean may change with it.
    is_builtin = isinstance(found, python_types.BuiltinFunctionType | np.ufunc)
    if found is math or found is np or is_builtin:
        return str(found.__name__).encode()
    return None


def digest(*parts: bytes | None) -> bytes:
    """Return a digest of texts of any lengths."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part or b"").to_bytes(8, "little") + (part or b""))
    return found.digest()
