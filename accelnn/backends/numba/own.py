"""Code of formulas that the kernels call by its address, above all user-defined ones.

A user's activation or rule is compiled for vectors if its functions consist of arithmetic and of
the functions of `math` that have a vector form, and else number by number.
"""

from __future__ import annotations

import functools
import logging
import types as python_types
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
from numba.core import types
from numba.core.registry import CPUDispatcher

from accelnn.backends.numba._jit import OWN_CODE, Callback, inlined, uncached_loop
from accelnn.backends.numba.formulas import Bend, chosen, module_of, names_with, parts_of
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
from accelnn.backends.numba.user_functions import (
    Code,
    NoCodeError,
    State,
    code_of,
    digest,
    state_of,
)
from accelnn.backends.numba.vectors import LANES
from accelnn.formulas import _table
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._own import Activation, Loss, Rule

__all__ = [
    "activation_change_code",
    "activation_code",
    "bend_of_activation",
    "bend_of_loss",
    "loop_of",
    "loss_change_code",
    "loss_code",
    "parameter_of",
    "rule_code",
]

logger = logging.getLogger("accelnn")

# The inverse of a circle in which no function is known to be analytic.
ROUGH = 1e300
# Numerical gradients are in float64.
DOUBLES: Any = types.CPointer(types.float64)  # type: ignore[no-untyped-call]
IN_DOUBLE = {"LANES": LANES[np.float64]}
DTYPES = {"float32": types.float32, "float64": types.float64}


def activation_code(formula: ActivationFormula, dtype: str) -> tuple[int, int]:
    """Return the number of an activation, and the address of its code if it is a user's.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if formula.name in ACTIVATIONS and _is_of_table(formula, _table.ACTIVATIONS):
        return ACTIVATIONS.index(formula.name), 0
    # A subclass may compute something else.
    if type(formula) is not Activation:
        raise NoCodeError
    return OWN_CODE, _address_of_activation(formula, _states(formula), dtype)


def loss_code(loss: Any) -> tuple[int, int, int]:
    """Return the number of a loss, and the addresses of a user's value and slope.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if loss.name in LOSSES and _is_of_table(loss, _table.LOSSES):
        return LOSSES.index(loss.name), 0, 0
    if type(loss) is not Loss:
        raise NoCodeError
    return OWN_CODE, *_addresses_of_loss(loss, _states(loss))


def activation_change_code(formula: ActivationFormula) -> tuple[int, int]:
    """Return the addresses of what numerical gradients need of an activation: units, and changes.

    They are 0 for the activations that the kernel itself has.

    Raises
    ------
    NoCodeError
        If there is none.
    """
    if type(formula) is Activation:
        return _addresses_of_own_change(formula, _states(formula))
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
        return _address_of_own_loss_change(loss, _states(loss))
    if loss.name not in LOSSES or not _is_of_table(loss, _table.LOSSES):
        raise NoCodeError
    if loss.name in ("cross_entropy", "sum_squared_error"):
        return 0
    return _address_of_loss_change(loss.name)


def bend_of_activation(formula: ActivationFormula) -> tuple[float, ...]:
    """Return the numbers of an activation's `Bend`; nothing is known of a user's own."""
    if type(formula) is Activation:
        return Bend(ROUGH, ROUGH).numbers
    bend: Bend = parts_of([formula.name], "bend")[formula.name](parameter_of(formula))
    return bend.numbers


def bend_of_loss(loss: Any) -> float:
    """Return the inverse of how far a loss is analytic in moves of the scores."""
    if type(loss) is Loss:
        return ROUGH
    if loss.name == "cross_entropy":
        # Σ p |expm1(d)| <= exp(½) - 1, and log1p has its pole at -1.
        return 2.0
    return float(getattr(module_of(loss.name), "BEND", ROUGH))


def rule_code(rule: Rule, dtype: str) -> int:
    """Return the address of the code of a user's rule.

    Raises
    ------
    NoCodeError
        If it cannot be compiled.
    """
    state = state_of(rule.function)
    found = _address_of_rule(rule.name, rule.function, state, len(rule.state), dtype)
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


def _states(formula: Activation | Loss) -> tuple[State, ...]:
    return tuple(map(state_of, formula.functions))


def _possible(templates: tuple[Any, Any], *codes: Code) -> tuple[Any, ...]:
    """Return the templates for vectors and for numbers, or only the latter."""
    return templates if all(code.takes_vectors for code in codes) else templates[1:]


def _is_of_table(formula: Any, table: Mapping[str, Any]) -> bool:
    """Return whether code was written for a formula: a subclass may compute something else."""
    return type(formula) is type(table[formula.name])


# Compiled once a process, in which code stays where it is.
@functools.cache
def _address_of_activation(formula: Activation, states: tuple[State, ...], dtype: str) -> int:  # noqa: ARG001 - tells what functions look up
    value, slope = map(code_of, formula.functions)
    pointer: Any = types.CPointer(DTYPES[dtype])  # type: ignore[no-untyped-call]
    lanes = LANES[np.dtype(dtype).type]
    known = {"value": value.function, "slope": slope.function, "LANES": lanes}
    signature = types.void(pointer, pointer, types.intp)
    templates = _possible((STRETCH_OF_VECTORS, STRETCH_OF_NUMBERS), value, slope)
    return _compiled(formula, templates, signature, known, value.key, slope.key)


@functools.cache
def _addresses_of_loss(loss: Loss, states: tuple[State, ...]) -> tuple[int, int]:  # noqa: ARG001
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
def _addresses_of_own_change(
    formula: Activation,
    states: tuple[State, ...],  # noqa: ARG001
) -> tuple[int, int]:
    value = code_of(formula.functions[0])
    f = value.function
    known = {
        "value": f,
        "activate": inlined(lambda _kind, x, _parameter: (f(x), x)),
        "parts": inlined(lambda _kind, x: (f(x), x)),
        "change": inlined(lambda _kind, d, x, _parameter, s, _rest: f(d + x) - s),
    } | IN_DOUBLE
    units = _possible((UNITS_OF_VECTORS, UNITS_OF_NUMBERS), value)
    changes = _possible((CHANGE_OF_VECTORS, CHANGE_OF_NUMBERS), value)
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
def _address_of_own_loss_change(loss: Loss, states: tuple[State, ...]) -> int:  # noqa: ARG001
    value = code_of(loss.functions[0])
    signature = types.void(DOUBLES, *[types.float64] * 3)
    known = {"function": value.function} | IN_DOUBLE
    return _compiled(loss, (CHANGE_OF_OWN_LOSS,), signature, known, value.key)


# For any learning rate and decay; what cannot be compiled is not tried again.
@functools.cache
def _address_of_rule(
    name: str,
    function: Callable[..., Any],
    state: State,  # noqa: ARG001
    states: int,
    dtype: str,
) -> int | None:
    pointer: Any = types.CPointer(DTYPES[dtype])  # type: ignore[no-untyped-call]
    whole, real = types.intp, types.float64
    signature = types.void(*[pointer] * 3, whole, whole, real, whole, real)
    try:
        code = code_of(function)
        update = code.function if states else _with_a_state(code.function)
        known = {"update": update, "STATES": max(1, states), "LANES": LANES[np.dtype(dtype).type]}
        templates = _possible((UPDATE_OF_VECTORS, UPDATE_OF_NUMBERS), code)
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
        except Exception as error:  # noqa: BLE001 - Numba fails in its own ways, too
            reason = str(error).strip().rpartition("\n")[2] or type(error).__name__
    logger.warning("Numba cannot compile %s, which is computed by itself: %s", formula, reason)
    raise NoCodeError


@functools.cache
def _say_once(message: str, *details: object) -> None:
    logger.warning(message, *details)


def _callback(
    template: Callable[..., Any], signature: Any, known: dict[str, Any], *keys: bytes | None
) -> Callback:
    """Return a template for these functions."""
    key = 0 if None in keys else int.from_bytes(digest(*keys)[:7], "little")
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
