"""Activations of vectors: which there are, and the choice between them at run time."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import choice, names_with_code
from accelnn.formulas._table import ACTIVATIONS as ALL

__all__ = ["ACTIVATIONS", "activate"]

# Their positions are their numbers in kernels.
ACTIVATIONS = names_with_code(ALL)
# Value and derivative of activation number `kind`, with its parameter if it has one, at a vector.
activate = inlined(choice(ACTIVATIONS, "activate", "x, parameter"))
