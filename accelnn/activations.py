"""The activations of nets that have parameters, and those that a user makes; see `accelnn.MLP`."""

from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._own import Activation
from accelnn.formulas._table import ACTIVATIONS
from accelnn.formulas.elu import ELU
from accelnn.formulas.gelu import GELU
from accelnn.formulas.identity import Identity
from accelnn.formulas.leaky_relu import LeakyReLU
from accelnn.formulas.relu import ReLU
from accelnn.formulas.sigmoid import Sigmoid
from accelnn.formulas.silu import SiLU
from accelnn.formulas.softplus import Softplus
from accelnn.formulas.tanh import Tanh

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "Activation",
    "ActivationFormula",
    "Identity",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]
