"""The tables of all formulas, and their descriptions in files.

The public functions, engines, tests, the command line and the documentation use these tables.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from accelnn.formulas import _rules
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._activations import ACTIVATIONS, ActivationName
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._losses import LOSSES, LossName
from accelnn.formulas._own import described_own
from accelnn.formulas._rule import UpdateRule

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "RULES",
    "ActivationName",
    "LossName",
    "describe",
    "described",
]

Formula = TypeVar("Formula", ActivationFormula, LossFormula)

RULES: dict[str, type[UpdateRule]] = {name: getattr(_rules, name) for name in _rules.__all__}


def describe(formula: Any, table: Mapping[str, Any]) -> str | dict[str, Any]:
    """Return a JSON-serialisable description: the name, and any non-default parameters.

    Raises
    ------
    TypeError
        If it is not of a class in the table.
    """
    if hasattr(formula, "described"):
        return dict(formula.described())
    usual: Any = table.get(formula.name)
    if type(usual) is not type(formula):
        kinds = ", ".join(table)
        msg = f"{formula!r} cannot be saved: only {kinds} can, with any parameters"
        raise TypeError(msg)
    return str(formula.name) if usual == formula else {"name": formula.name, **asdict(formula)}


def described(description: Any, table: Mapping[str, Formula]) -> Any:
    """Return the formula that `describe` described; a name is returned unchanged.

    Raises
    ------
    ValueError, TypeError
        If the name is unknown, or the parameters are invalid.
    """
    if not isinstance(description, dict):
        return description
    if "kind" in description:
        return described_own(description)
    parameters = dict(description)
    name = parameters.pop("name")
    if name not in table:
        msg = f"unknown formula {name!r}; known ones are {', '.join(table)}"
        raise ValueError(msg)
    return type(table[name])(**parameters)
