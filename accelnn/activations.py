"""Activations of nets: `ACTIVATIONS` by name, and the classes of those with parameters.

`accelnn.MLP` takes a name, or an object such as ``LeakyReLU(0.2)``. `Activation` builds one from
two scalar functions.
"""

from accelnn.formulas import _activations
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._activations import *  # noqa: F403 - whatever is listed there
from accelnn.formulas._own import Activation

__all__ = ["Activation", "ActivationFormula"]
__all__ += _activations.__all__
