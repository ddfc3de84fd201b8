"""Formulas as CUDA source, one per file, named as in `accelnn.formulas`.

Each has a namespace of its name, with its parameters as constants, by default the table's. An
activation defines ``value(z)`` and either ``slope(z)`` of the pre-activation or, where that loses
no digits, ``slope_of_value(a)``, because kernels keep values anyway. It may define
``change(z, d)``, without cancellation. A loss that is a sum over outputs defines ``value(a, t)``
and ``slope(a, t)`` for one output, optionally ``change(a, t, d)``, and ``is_right(a, t)`` if each
output is a label. An update rule defines ``update(rule, step, p, g, ...)``, which changes a
parameter and its state, of `SLOTS` arrays at most, by at most `MOST_NUMBERS` hyperparameters, and
``decay(rule, p, g, factor)`` unless its weight decay is added to the gradient.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from functools import cache
from importlib.resources import files
from typing import Any

from accelnn.backends._engine import CLIP_EPS
from accelnn.formulas._activation import HUGE
from accelnn.formulas._dropout import MULTIPLIERS, ROUNDS, WEYL
from accelnn.formulas._table import ACTIVATIONS as ALL_ACTIVATIONS
from accelnn.formulas._table import LOSSES as ALL_LOSSES
from accelnn.formulas._table import RULES as ALL_RULES

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "MOST_NUMBERS",
    "RULES",
    "TOLD_BEFOREHAND",
    "constants",
    "dispatch",
    "has_change",
    "has_code_with_parameters",
    "keeps_pre_activation",
]

# A formula fixed at compile time replaces the run-time argument.
TOLD = """
#ifdef {name}
#define {name}_OF(told) {name}
#else
#define {name}_OF(told) (told)
#endif"""
PART = re.compile(r"^(?:__device__ inline \w+ |using \w+::)(\w+)[(;]", re.MULTILINE)
# The state of a rule.
SLOTS = ("first_slot", "second_slot")
# What may be told at compile time.
TOLD_BEFOREHAND = (
    "ACTIVATION",
    "LOSS",
    "DECAYS",
    "SCHEDULED",
    "WEIGHTED",
    "DROPS",
    "CLIPS",
    "OPTIMIZER",
)
# Hyperparameters of a rule, besides the learning rate and the decay.
MOST_NUMBERS = 3


def names_with_code(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that have a file here."""
    return tuple(name for name in names if (files(__name__) / f"{name.lower()}.cuh").is_file())


# Kernels identify a formula by its index.
ACTIVATIONS, LOSSES = names_with_code(ALL_ACTIVATIONS), names_with_code(ALL_LOSSES)
RULES = names_with_code(ALL_RULES)


@cache
def _parts(name: str) -> frozenset[str]:
    """Return the names of the functions that a file defines."""
    text = (files(__name__) / f"{name.lower()}.cuh").read_text("utf-8")
    return frozenset(PART.findall(text))


def has_change(name: str) -> bool:
    """Return whether a formula defines `change`."""
    return "change" in _parts(name)


def keeps_pre_activation(name: str) -> bool:
    """Return whether the slope of an activation needs the pre-activation."""
    return "slope" in _parts(name)


def has_code_with_parameters(formula: Any) -> bool:
    """Return whether the code of a formula holds for its parameters.

    A value tells the slope only of a function that increases.
    """
    return keeps_pre_activation(formula.name) or all(number > 0.0 for number in astuple(formula))


def constants(*formulas: Any) -> tuple[str, ...]:
    """Return the compiler's options for parameters that are not those of the table."""
    table: dict[str, Any] = {**ALL_ACTIVATIONS, **ALL_LOSSES}
    return tuple(
        f"-D{_macro(formula, name)}={value!r}"
        for formula in formulas
        if formula != table[formula.name]
        for name, value in vars(formula).items()
    )


def dispatch() -> str:
    """Return the source of ``formulas.cuh``: enums, all formulas, and dispatch functions."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for kind, names in (("Activation", ACTIVATIONS), ("Loss", LOSSES), ("Optimizer", RULES)):
        yield f"enum {kind} {{ {', '.join(map(str.upper, names))} }};"
    for name in TOLD_BEFOREHAND:
        yield TOLD.format(name=name)
    yield f"constexpr REAL HUGE_NUMBER = REAL({HUGE!r});"
    yield f"constexpr double CLIP_EPS = {CLIP_EPS!r};"
    yield f"constexpr int PHILOX_ROUNDS = {ROUNDS};"
    for name, values in (("MULTIPLIER", MULTIPLIERS), ("WEYL", WEYL)):
        for prefix, value in zip(("", "OTHER_"), values, strict=True):
            yield f"constexpr unsigned int PHILOX_{prefix}{name} = {value}u;"
    for formula in (*ALL_ACTIVATIONS.values(), *ALL_LOSSES.values()):
        yield from _constants(formula)
    for name in (*ACTIVATIONS, *LOSSES, *RULES):
        yield f'#include "formulas/{name.lower()}.cuh"'
    kept = [name for name in ACTIVATIONS if keeps_pre_activation(name)]
    yield from _predicate("keeps_pre_activation", kept)
    yield from _choice("REAL activated", "REAL z", _calls(ACTIVATIONS, "value", "z"))
    slopes = _calls(kept, "slope", "z") | _calls(ACTIVATIONS, "slope_of_value", "a")
    yield from _choice("REAL slope", "REAL z, REAL a", slopes)
    changes = _calls(ACTIVATIONS, "change", "z, d")
    yield from _choice("REAL activation_change", "REAL z, REAL d", changes)
    sums = [name for name in LOSSES if "value" in _parts(name)]
    for part in ("value", "slope"):
        yield from _choice(f"REAL loss_{part}", "REAL a, REAL t", _calls(sums, part, "a, t"))
    changes = _calls(sums, "change", "a, t, d")
    yield from _choice("REAL loss_change", "REAL a, REAL t, REAL d", changes)
    labels = _calls(sums, "is_right", "a, t")
    yield from _predicate("counts_labels", labels)
    yield from _choice("bool is_right", "REAL a, REAL t", labels)
    decays = dict.fromkeys(RULES, "add_decay(rule, step, p, g, factor)")
    decays |= _calls(RULES, "decay", "rule, step, p, g, factor")
    arguments = "const Rule& rule, long long step, REAL& p, REAL& g, double factor"
    yield from _choice("void decay", arguments, decays)
    updates: dict[str, str] = {}
    for name in RULES:
        told = ("rule, step, p, g", *SLOTS[: ALL_RULES[name]().slots])
        updates |= _calls([name], "update", ", ".join(told))
    state = ", ".join(f"REAL& {slot}" for slot in SLOTS)
    arguments = f"const Rule& rule, long long step, REAL& p, REAL g, {state}"
    yield from _choice("void update", arguments, updates)


def _constants(formula: Any) -> Iterator[str]:
    """Yield a formula's parameters, which are numbers, as constants in its namespace."""
    for field in fields(formula):
        macro = _macro(formula, field.name)
        yield f"#ifndef {macro}"
        yield f"#define {macro} {getattr(formula, field.name)!r}"
        yield "#endif"
        yield f"namespace formulas::{formula.name} {{"
        yield f"constexpr REAL {field.name.upper()} = REAL({macro});"
        yield "}"


def _macro(formula: Any, parameter: str) -> str:
    return f"{formula.name}_{parameter}".upper()


def _calls(names: Iterable[str], part: str, arguments: str) -> dict[str, str]:
    """Return the call of a function for each formula that defines it."""
    return {
        name: f"formulas::{name.lower()}::{part}({arguments})"
        for name in names
        if part in _parts(name)
    }


def _choice(head: str, arguments: str, calls: dict[str, str]) -> Iterator[str]:
    """Yield a function that dispatches on a formula's number."""
    yield f"__device__ inline {head}(int kind, {arguments}) {{"
    yield "    switch (kind) {"
    *others, last = calls.items()
    for name, call in others:
        yield f"        case {name.upper()}: return {call};"
    yield f"        default: return {last[1]};"
    yield "    }"
    yield "}"


def _predicate(name: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a function that returns whether a formula's number is one of these."""
    found = " || ".join(f"kind == {name.upper()}" for name in names) or "false"
    yield f"__device__ inline bool {name}(int kind) {{ return {found}; }}"
