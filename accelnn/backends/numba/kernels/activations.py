"""Activations of vectors, and their derivatives."""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    maximum,
    where_positive,
)

__all__ = ["ACTIVATIONS", "RELU", "SIGMOID", "TANH", "activate"]

# Names of the activations that have code here; their positions are their numbers in kernels.
ACTIVATIONS = ("sigmoid", "relu", "tanh")
SIGMOID, RELU, TANH = range(len(ACTIVATIONS))


@inlined
def activate(kind, x):
    """Return activation number `kind` and its derivative at a vector of pre-activations."""
    if kind == SIGMOID:
        e, _ = exp_and_expm1(-1.0 * absolute(x))
        s = 1.0 / (1.0 + e)
        return where_positive(x, s, e * s), e * s * s
    if kind == TANH:
        e, minus = exp_and_expm1(-2.0 * absolute(x))
        s = 1.0 / (1.0 + e)
        up = -1.0 * minus * s
        return where_positive(x, up, -1.0 * up), 4.0 * e * s * s
    zero = filled(x, 0.0)
    return maximum(x, zero), where_positive(x, filled(x, 1.0), zero)
