"""The activations that kernels have, and dispatch between them at run time."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import choice, names_with_code
from accelnn.formulas._table import ACTIVATIONS as ALL

__all__ = ["ACTIVATIONS", "activate"]

# Kernels identify an activation by its index.
ACTIVATIONS = names_with_code(ALL)
# activate(kind, x, parameter): value and slope of activation number `kind` for a vector x.
activate = inlined(choice(ACTIVATIONS, "activate", "x, parameter"))
