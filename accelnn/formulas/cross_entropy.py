"""Softmax followed by cross entropy."""

import math
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._loss import Labels, LossFormula

__all__ = ["CrossEntropy"]

# The largest change of a score for which a power series is used, and where it is truncated.
SERIES_BELOW = 0.1
LAST_DIGIT = 1e-17
# log1p is accurate for arguments above this, and loses digits close to -1.
SHRUNK = -0.5


@dataclass(frozen=True)
class CrossEntropy(LossFormula):
    """T logsumexp(a) - Σ t a of each sample, with T the sum of its targets.

    There is no eps, so it differs from `accelnn.cross_entropy_error` of the probabilities by
    O(eps / p). Rows of `t` need not sum to one.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> a, t = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> accelnn.losses.CrossEntropy().value(a, t)
    array([0.69314718])
    >>> accelnn.losses.CrossEntropy().grad(a, t)
    array([[-0.5,  0.5]])
    """

    name = "cross_entropy"
    output = "softmax"
    classifies = True
    target_range = (0.0, math.inf)
    takes_labels = True

    def _value(self, ops: Any, a: Array, t: Array | Labels) -> Array:
        _, total, top = ops.exponentials(a)
        return _value_of(ops, a, t, total, top)

    def _grad(self, ops: Any, a: Array, t: Array | Labels) -> Array:
        e, total, _ = ops.exponentials(a)
        return _grad_of(ops, e, total, t)

    def _both(self, ops: Any, a: Array, t: Array | Labels) -> tuple[Array, Array]:
        e, total, top = ops.exponentials(a)
        return _value_of(ops, a, t, total, top), _grad_of(ops, e, total, t)

    def _delta(self, ops: Any, a: Array, d: Array, t: Array) -> Array:
        # T log1p(Σ p expm1(d)) - Σ t d is accurate unless expm1 is huge, where p may have
        # underflowed, or the argument of log1p is close to -1. The change is then of the order of
        # d, and the plain difference of two logsumexp is accurate.
        xp = ops.xp
        large = 0.5 * math.log(float(xp.finfo(d.dtype).max))
        capped = xp.minimum(d, large * xp.ones_like(d))
        change = xp.sum(ops.softmax(a) * xp.expm1(capped), axis=-1)
        growth = xp.log1p(xp.maximum(change, SHRUNK * xp.ones_like(change)))
        outside = (xp.max(d, axis=-1) > large) | (change < SHRUNK)
        if bool(ops.to_numpy(xp.any(outside))):
            plain = ops.logsumexp(a + d) - ops.logsumexp(a)
            growth = xp.where(outside, plain, growth)
        return xp.sum(t, axis=-1) * growth - xp.sum(t * d, axis=-1)

    def _delta_along(self, ops: Any, a: Array, c: Array, w: Array, t: Array) -> Array:
        # For small |c w|, Σ p expm1(c w) is a power series in c with the coefficients Σ p wᵏ / k!,
        # which do not depend on c: this saves the sum over the outputs for every c.
        xp = ops.xp
        bound = float(ops.to_numpy(xp.max(xp.abs(c)) * xp.max(xp.abs(w))))
        if not bound <= SERIES_BELOW:
            return self._delta(ops, a, c[..., None] * w, t)
        terms = _terms(bound)
        p, growth, logarithm = ops.softmax(a), 0.0 * c, 0.0 * c
        for k in range(terms, 0, -1):
            growth = (growth + xp.sum(p * w**k, axis=-1) / math.factorial(k)) * c
        for k in range(terms, 0, -1):
            logarithm = (logarithm - (-1.0) ** k / k) * growth
        return xp.sum(t, axis=-1) * logarithm - xp.sum(t * w, axis=-1) * c

    def even_target(self, outputs: int) -> float:
        """Return the probability of each class if all are equally likely."""
        return 1.0 / outputs

    def check_sizes(self, outputs: int) -> None:
        """Raise ValueError for a single output, whose probability would always be 1."""
        if outputs == 1:
            msg = (
                "a softmax over one output is always 1; take two outputs, or an MLP with "
                "loss='binary_cross_entropy'"
            )
            raise ValueError(msg)


def _value_of(ops: Any, a: Array, t: Array | Labels, total: Array, top: Array) -> Array:
    """Return T (log(total) + top) - Σ t a, summed so that large scores cancel first."""
    logarithm = ops.xp.log(total)
    if isinstance(t, Labels):
        return logarithm - (ops.pick(a, t.index) - top)
    return -ops.sum(t * (a - top[..., None] - logarithm[..., None]), -1)


def _grad_of(ops: Any, e: Array, total: Array, t: Array | Labels) -> Array:
    """Return T e / total - t, in the memory of `e` if it has that shape and dtype."""
    e /= total[..., None]
    if isinstance(t, Labels):
        return ops.less_one_hot(e, t.index)
    sums = ops.sum(t, -1, keepdims=True)
    if t.shape != e.shape or t.dtype != e.dtype:
        return sums * e - t
    e *= sums
    e -= t
    return e


def _terms(bound: float) -> int:
    """Return how many terms of a power series with arguments up to `bound` are significant."""
    # Term k of the series of log1p is a little larger than bound**k.
    return 2 + max(0, math.ceil(math.log(LAST_DIGIT) / math.log(1.1 * bound + LAST_DIGIT)) - 1)
