"""Activations of nets: `ACTIVATIONS` by name, and the classes of those with parameters.

`accelnn.MLP` takes a name, or an object such as ``LeakyReLU(0.2)``. `Activation` builds one from
two scalar functions.
"""

from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._own import Activation
from accelnn.formulas._table import ACTIVATIONS
from accelnn.formulas.elu import ELU
from accelnn.formulas.leaky_relu import LeakyReLU

__all__ = ["ACTIVATIONS", "ELU", "Activation", "ActivationFormula", "LeakyReLU"]
