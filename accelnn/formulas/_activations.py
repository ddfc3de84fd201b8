"""The built-in activations: the only list of them, which `accelnn.activations` re-exports."""

from typing import Literal, TypeAlias

from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas.elu import ELU
from accelnn.formulas.gelu import GELU
from accelnn.formulas.identity import Identity
from accelnn.formulas.leaky_relu import LeakyReLU
from accelnn.formulas.relu import ReLU
from accelnn.formulas.sigmoid import Sigmoid
from accelnn.formulas.silu import SiLU
from accelnn.formulas.softplus import Softplus
from accelnn.formulas.tanh import Tanh

# The table, and the classes of those with parameters.
__all__ = ["ACTIVATIONS", "ELU", "LeakyReLU"]

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
# The names again: type checkers cannot derive them.
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
