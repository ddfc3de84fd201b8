"""Binary cross entropy of sigmoid outputs: two classes, or several labels per sample."""

from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._ops import ops_of
from accelnn.formulas.softplus import softplus, softplus_change

__all__ = ["BinaryCrossEntropy"]

# Of a label: the threshold, and the probability if nothing is known of it.
EVEN = 0.5


@dataclass(frozen=True)
class BinaryCrossEntropy(LossFormula):
    """Σ (log(1 + exp(a)) - t a) over the outputs of each sample; t is in [0, 1].

    Accuracy counts single labels: a sample with three of four labels right counts three quarters.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> accelnn.losses.BinaryCrossEntropy().value(np.array([[0.0]]), np.array([[1.0]]))
    array([0.69314718])
    """

    name = "binary_cross_entropy"
    output = "sigmoid"
    classifies = True
    takes_bits = True
    target_range = (0.0, 1.0)

    def _value(self, ops: Any, a: Array, t: Array) -> Array:
        # log(1 + exp(a)) - a = log(1 + exp(-a)), where the left side cancels for large a.
        xp = ops.xp
        return xp.sum((1.0 - t) * softplus(xp, a) + t * softplus(xp, -a), axis=-1)

    def _grad(self, ops: Any, a: Array, t: Array) -> Array:
        return ops.sigmoid(a) - t

    def _delta(self, ops: Any, a: Array, d: Array, t: Array) -> Array:
        xp = ops.xp
        rising, falling = softplus_change(ops, a, d), softplus_change(ops, -a, -d)
        return xp.sum((1.0 - t) * rising + t * falling, axis=-1)

    def even_target(self, outputs: int) -> float:
        """Return the probability of a label that may as well be absent."""
        return EVEN

    def hits(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return 1 for each correct label, else 0, of the shape of `a`."""
        xp = ops_of(backend, a, t).xp
        # The maximum of scores with a NaN is NaN, and then no label of the sample is correct.
        is_hit = ((a > 0) == (t > EVEN)) & ~xp.isnan(xp.max(a, axis=-1, keepdims=True))
        return xp.astype(is_hit, a.dtype)
