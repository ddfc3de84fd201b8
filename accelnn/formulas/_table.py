"""The lists of all formulas.

The public functions, engines, tests, the command line and the documentation use these lists. Type
checkers cannot derive the literal types from them, so the names are repeated here.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias, TypeVar

from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._own import described_own
from accelnn.formulas._rule import UpdateRule
from accelnn.formulas.adagrad import AdaGrad
from accelnn.formulas.adam import Adam
from accelnn.formulas.adamw import AdamW
from accelnn.formulas.binary_cross_entropy import BinaryCrossEntropy
from accelnn.formulas.cross_entropy import CrossEntropy
from accelnn.formulas.elu import ELU
from accelnn.formulas.gelu import GELU
from accelnn.formulas.huber import Huber
from accelnn.formulas.identity import Identity
from accelnn.formulas.leaky_relu import LeakyReLU
from accelnn.formulas.momentum import Momentum
from accelnn.formulas.nesterov import Nesterov
from accelnn.formulas.relu import ReLU
from accelnn.formulas.rmsprop import RMSprop
from accelnn.formulas.sgd import SGD
from accelnn.formulas.sigmoid import Sigmoid
from accelnn.formulas.silu import SiLU
from accelnn.formulas.softplus import Softplus
from accelnn.formulas.sum_squared_error import SumSquaredError
from accelnn.formulas.tanh import Tanh

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

# With their default parameters.
ACTIVATIONS: dict[str, ActivationFormula] = {
    formula.name: formula
    for formula in (
        Sigmoid(),
        ReLU(),
        Tanh(),
        LeakyReLU(),
        ELU(),
        GELU(),
        SiLU(),
        Softplus(),
        Identity(),
    )
}
LOSSES: dict[str, LossFormula] = {
    formula.name: formula
    for formula in (CrossEntropy(), SumSquaredError(), BinaryCrossEntropy(), Huber())
}
ActivationName: TypeAlias = Literal[
    "sigmoid",
    "relu",
    "tanh",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "identity",
]
LossName: TypeAlias = Literal["cross_entropy", "sum_squared_error", "binary_cross_entropy", "huber"]
RULES: dict[str, type[UpdateRule]] = {
    rule.__name__: rule for rule in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW)
}


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
