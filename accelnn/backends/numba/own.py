"""Formulas that a user made of scalar functions, as code that the kernels call by its address.

An activation or a rule is compiled for vectors where its functions are made of arithmetic and of
those of `math` that are known for vectors, and for one number after another where they branch or
call others.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import types as python_types
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.core.errors import NumbaError
from numba.core.registry import CPUDispatcher

from accelnn.backends.numba._jit import OWN_CODE, Callback, inlined, uncached_loop
from accelnn.backends.numba.formulas import chosen, names_with, parts_of
from accelnn.backends.numba.kernels.activations import ACTIVATIONS
from accelnn.backends.numba.kernels.changes import COMMON, no_parts
from accelnn.backends.numba.kernels.losses import LOSSES
from accelnn.backends.numba.kernels.own import (
    CHANGE_OF_LOSS,
    CHANGE_OF_NUMBERS,
    CHANGE_OF_OWN_LOSS,
    CHANGE_OF_VECTORS,
    NUMBER,
    STRETCH_OF_NUMBERS,
    STRETCH_OF_VECTORS,
    UNITS_OF_NUMBERS,
    UNITS_OF_VECTORS,
    UPDATE_OF_NUMBERS,
    UPDATE_OF_VECTORS,
    each,
)
from accelnn.backends.numba.vectors import LANES
from accelnn.formulas import _table
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._own import Activation, Loss, Rule

__all__ = [
    "NoCodeError",
    "activation_change_code",
    "activation_code",
    "code_of",
    "loop_of",
    "loss_change_code",
    "loss_code",
    "parameter_of",
    "rule_code",
]

logger = logging.getLogger("accelnn")

# Numerical gradients are in float64.
DOUBLES: Any = types.CPointer(types.float64)  # type: ignore[no-untyped-call]
IN_DOUBLE = {"LANES": LANES[np.float64]}
DTYPES = {"float32": types.float32, "float64": types.float64}


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
    """

    plain: Callable[..., Any]
    function: CPUDispatcher
    key: bytes | None


def activation_code(formula: ActivationFormula, dtype: str) -> tuple[int, int]:
    """Return the number of an activation, and the address of its code if it is a user's.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if formula.name in ACTIVATIONS and _is_of_table(formula, _table.ACTIVATIONS):
        return ACTIVATIONS.index(formula.name), 0
    if not isinstance(formula, Activation):
        raise NoCodeError
    return OWN_CODE, _address_of_activation(formula, dtype)


def loss_code(loss: Any) -> tuple[int, int, int]:
    """Return the number of a loss, and the addresses of a user's value and slope.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if loss.name in LOSSES and _is_of_table(loss, _table.LOSSES):
        return LOSSES.index(loss.name), 0, 0
    # A subclass may compute something else.
    if type(loss) is not Loss:
        raise NoCodeError
    return OWN_CODE, *_addresses_of_loss(loss)


def activation_change_code(formula: ActivationFormula) -> tuple[int, int]:
    """Return the addresses of what numerical gradients need of an activation: units, and changes.

    They are 0 for the activations that the kernel itself has.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if isinstance(formula, Activation):
        return _addresses_of_own_change(formula)
    name = formula.name
    if name not in names_with("change", ACTIVATIONS) or not _is_of_table(
        formula, _table.ACTIVATIONS
    ):
        raise NoCodeError
    return (0, 0) if ACTIVATIONS.index(name) < COMMON else _addresses_of_change(name)


def loss_change_code(loss: Any) -> int:
    """Return the address of the code of a loss's change, or 0 if the kernel itself has it.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if type(loss) is Loss:
        return _address_of_own_loss_change(loss)
    if loss.name not in LOSSES or not _is_of_table(loss, _table.LOSSES):
        raise NoCodeError
    if loss.name in ("cross_entropy", "sum_squared_error"):
        return 0
    return _address_of_loss_change(loss.name)


def rule_code(rule: Rule, dtype: str) -> int:
    """Return the address of the code of a user's rule.

    Raises
    ------
    NoCodeError
        If it cannot be compiled.
    """
    found = _address_of_rule(rule.name, rule.function, len(rule.state), dtype)
    if found is None:
        raise NoCodeError
    return found


def parameter_of(formula: Any) -> float:
    """Return what a formula of the table takes besides vectors, or 0 if it takes nothing.

    Raises
    ------
    NoCodeError
        If it is more than a number.
    """
    is_own = isinstance(formula, Activation | Loss)
    parameters = () if is_own else astuple(formula)
    if len(parameters) > 1:
        raise NoCodeError
    return float(*parameters)


def _is_of_table(formula: Any, table: Mapping[str, Any]) -> bool:
    """Return whether code was written for a formula: a subclass may compute something else."""
    return type(formula) is type(table[formula.name])


# Compiled once a process, in which code stays where it is.
@functools.cache
def _address_of_activation(formula: Activation, dtype: str) -> int:
    value, slope = map(code_of, formula.functions)
    pointer: Any = types.CPointer(DTYPES[dtype])  # type: ignore[no-untyped-call]
    lanes = LANES[np.dtype(dtype).type]
    known = {"value": value.function, "slope": slope.function, "LANES": lanes}
    signature = types.void(pointer, pointer, types.intp)
    templates = (STRETCH_OF_VECTORS, STRETCH_OF_NUMBERS)
    return _compiled(formula, templates, signature, known, value.key, slope.key)


@functools.cache
def _addresses_of_loss(loss: Loss) -> tuple[int, int]:
    signature = types.float64(types.float64, types.float64)
    value, slope = (
        _compiled(loss, (NUMBER,), signature, {"function": code.function}, code.key)
        for code in map(code_of, loss.functions)
    )
    return value, slope


@functools.cache
def _addresses_of_change(name: str) -> tuple[int, int]:
    functions = {
        "activate": (parts_of([name], "activate"), "x, parameter"),
        "parts": (parts_of([name], "parts", no_parts), "x"),
        "change": (parts_of([name], "change"), "d, x, parameter, s, rest"),
    }
    known = {part: inlined(chosen(*of)) for part, of in functions.items()} | IN_DOUBLE
    key, numbers = name.encode(), [types.float64] * 4
    return (
        _compiled(name, (UNITS_OF_VECTORS,), types.void(DOUBLES, numbers[0]), known, key),
        _compiled(name, (CHANGE_OF_VECTORS,), types.void(DOUBLES, *numbers), known, key),
    )


@functools.cache
def _addresses_of_own_change(formula: Activation) -> tuple[int, int]:
    value = code_of(formula.functions[0])
    f = value.function
    known = {
        "value": f,
        "activate": inlined(lambda _kind, x, _parameter: (f(x), x)),
        "parts": inlined(lambda _kind, x: (f(x), x)),
        "change": inlined(lambda _kind, d, x, _parameter, s, _rest: f(d + x) - s),
    } | IN_DOUBLE
    units, changes = (UNITS_OF_VECTORS, UNITS_OF_NUMBERS), (CHANGE_OF_VECTORS, CHANGE_OF_NUMBERS)
    numbers = [types.float64] * 4
    return (
        _compiled(formula, units, types.void(DOUBLES, numbers[0]), known, value.key),
        _compiled(formula, changes, types.void(DOUBLES, *numbers), known, value.key),
    )


@functools.cache
def _address_of_loss_change(name: str) -> int:
    change = inlined(chosen(parts_of([name], "change"), "d, a, t, parameter"))
    signature = types.void(DOUBLES, *[types.float64] * 3)
    known = {"change": change} | IN_DOUBLE
    return _compiled(name, (CHANGE_OF_LOSS,), signature, known, name.encode())


@functools.cache
def _address_of_own_loss_change(loss: Loss) -> int:
    value = code_of(loss.functions[0])
    signature = types.void(DOUBLES, *[types.float64] * 3)
    known = {"function": value.function} | IN_DOUBLE
    return _compiled(loss, (CHANGE_OF_OWN_LOSS,), signature, known, value.key)


# For any learning rate and decay; what cannot be compiled is not tried again.
@functools.cache
def _address_of_rule(
    name: str, function: Callable[..., Any], states: int, dtype: str
) -> int | None:
    pointer: Any = types.CPointer(DTYPES[dtype])  # type: ignore[no-untyped-call]
    whole, real = types.intp, types.float64
    signature = types.void(*[pointer] * 3, whole, whole, real, whole, real)
    try:
        code = code_of(function)
        update = code.function if states else _with_a_state(code.function)
        known = {"update": update, "STATES": max(1, states), "LANES": LANES[np.dtype(dtype).type]}
        templates = (UPDATE_OF_VECTORS, UPDATE_OF_NUMBERS)
        key = None if code.key is None else code.key + f"{states}".encode()
        return _compiled(f"accelnn.Rule({name!r}, ...)", templates, signature, known, key)
    except NoCodeError:
        return None


def _with_a_state(function: Any) -> CPUDispatcher:
    """Return a rule without state as one with an array that stays as it is."""
    compiled: CPUDispatcher = uncached_loop(lambda p, g, rate, k, s: (function(p, g, rate, k), s))
    return compiled


def _compiled(
    formula: object,
    templates: tuple[Callable[..., Any], ...],
    signature: Any,
    known: dict[str, Any],
    *keys: bytes | None,
) -> int:
    """Return the address of the first template that can be compiled with these functions."""
    callbacks = [_callback(template, signature, known, *keys) for template in templates]
    for callback in callbacks:
        if callback.is_on_disk():
            return callback.compile()
    how_often = "once" if callbacks[0].is_kept else "in every process"
    _say_once("accelnn compiles %s for its Numba kernels, %s", formula, how_often)
    for callback in callbacks:
        try:
            return callback.compile()
        except NumbaError as error:
            reason = str(error).partition("\n")[0]
    logger.warning("Numba cannot compile %s, which is computed by itself: %s", formula, reason)
    raise NoCodeError


@functools.cache
def _say_once(message: str, *details: object) -> None:
    logger.warning(message, *details)


def _callback(
    template: Callable[..., Any], signature: Any, known: dict[str, Any], *keys: bytes | None
) -> Callback:
    """Return a template for these functions."""
    key = 0 if None in keys else int.from_bytes(_digest(*keys)[:7], "little")
    function = python_types.FunctionType(
        template.__code__,
        {**template.__globals__, **known},
        template.__name__,
        closure=(python_types.CellType(key),),
    )
    # By its name the files of its code are called, which processes may write at the same time.
    function.__module__, function.__qualname__ = template.__module__, f"own_{key:x}"
    return Callback(function, signature, keep=None not in keys)


def loop_of(function: Callable[..., Any], arguments: int, results: int) -> Callable[..., Any]:
    """Return a function of several results as a compiled one of arrays.

    Raises
    ------
    NoCodeError, numba.NumbaError
        If it cannot be compiled.
    """
    loop = uncached_loop(each(code_of(function).function, arguments))
    loop.compile((types.float64[:, ::1], types.float64[:, ::1]))

    def called(*arrays: np.ndarray) -> np.ndarray:
        broadcast = np.broadcast_arrays(*arrays)
        found = np.empty((results, *broadcast[0].shape))
        loop(np.stack([array.ravel() for array in broadcast]), found.reshape(results, -1))
        return found

    return called


@functools.cache
def code_of(function: Callable[..., Any]) -> Code:
    """Return a plain function compiled, together with the plain functions that it calls.

    Raises
    ------
    NoCodeError
        If it is not made of plain functions.
    """
    return _code_of(function, ())


def _code_of(function: Any, callers: tuple[Any, ...]) -> Code:
    plain = getattr(function, "py_func", function)
    if not isinstance(plain, python_types.FunctionType) or plain in callers:
        what = getattr(function, "__qualname__", repr(function))
        msg = f"{what} is no function of Python's, or calls itself"
        raise NoCodeError(msg)
    names = {
        name: plain.__globals__[name]
        for name in sorted(_names(plain.__code__))
        if name in plain.__globals__
    }
    cells = {
        name: cell.cell_contents
        for name, cell in zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
    }
    parts: list[bytes | None] = [_code_bytes(plain.__code__)]
    parts += map(_key, plain.__defaults__ or ())
    for known in (names, cells):
        for name, found in known.items():
            key = _key(found)
            if isinstance(found, python_types.FunctionType):
                _, known[name], key = _code_of(found, (*callers, plain))
            elif isinstance(found, CPUDispatcher):
                key = _code_of(found, (*callers, plain)).key
                key = key and key + repr(sorted(found.targetoptions.items())).encode()
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
    return Code(plain, compiled, None if None in parts else _digest(*parts))


def _names(code: python_types.CodeType) -> set[str]:
    """Return the names that a function looks up, and the functions inside it."""
    inner = (const for const in code.co_consts if isinstance(const, python_types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


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


def _digest(*parts: bytes | None) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part or b"").to_bytes(8, "little") + (part or b""))
    return digest.digest()
