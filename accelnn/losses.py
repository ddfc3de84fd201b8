"""The losses of nets, on the last layer's output, from which every engine derives.

`a` has shape (..., n, outputs) and `t` holds targets of shape (n, outputs), one-hot or soft; one
sample may drop the axis of samples. `n` is the number of samples. Every formula takes ``backend=``;
by default it is that of the arrays.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from accelnn._typing import Array
from accelnn.backends import BackendLike, Loss, resolve

__all__ = ["LOSSES", "CrossEntropy", "SumSquaredError", "get_loss"]

# Moves up to which a change is summed as a series, and the size of the terms left out.
SERIES_BELOW = 0.1
LAST_DIGIT = 1e-17
# log1p keeps all digits above this, and loses them where it comes close to -1.
SHRUNK = -0.5


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax followed by cross entropy.

    No eps enters, so that it differs from `accelnn.cross_entropy_error` of the probabilities by
    O(eps / p). Rows of `t` need not sum to one; T stands for their sum.

    Examples
    --------
    >>> import numpy as np
    >>> a, t = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> round(float(CrossEntropy().value(a, t)), 6)
    0.693147
    >>> CrossEntropy().grad(a, t)
    array([[-0.5,  0.5]])
    """

    name: ClassVar[str] = "cross_entropy"
    output: ClassVar[str] = "softmax"
    classifies: ClassVar[bool] = True

    def value(self, a: Array, t: Array, *, backend: BackendLike | None = None) -> Array:
        """Return Σ (T logsumexp(a) - Σ t a) / n, of shape ``a.shape[:-2]``."""
        backend = resolve(backend, a, t)
        xp = backend.xp
        return _mean(-xp.sum(t * backend.log_softmax(a), axis=-1), xp)

    def grad(self, a: Array, t: Array, *, backend: BackendLike | None = None) -> Array:
        """Return (T softmax(a) - t) / n, of the shape of `a`."""
        backend = resolve(backend, a, t)
        total = backend.xp.sum(t, axis=-1, keepdims=True)
        return (total * backend.softmax(a) - t) / _samples(a)

    def delta(self, a: Array, d: Array, t: Array, *, backend: BackendLike | None = None) -> Array:
        """Return Σ (T log1p(Σ p expm1(d)) - Σ t d) / n, of shape ``d.shape[:-2]``.

        That form keeps all digits unless expm1 is huge, where p may have underflowed, or log1p's
        argument comes close to -1. The growth is then of the size of d, and the plain difference
        of two logsumexp loses nothing.
        """
        backend = resolve(backend, a, d, t)
        xp = backend.xp
        large = 0.5 * math.log(float(xp.finfo(d.dtype).max))
        capped = xp.minimum(d, large * xp.ones_like(d))
        change = xp.sum(backend.softmax(a) * xp.expm1(capped), axis=-1)
        growth = xp.log1p(xp.maximum(change, SHRUNK * xp.ones_like(change)))
        outside = (xp.max(d, axis=-1) > large) | (change < SHRUNK)
        if bool(backend.to_numpy(xp.any(outside))):
            plain = backend.logsumexp(a + d) - backend.logsumexp(a)
            growth = xp.where(outside, plain, growth)
        return _mean(xp.sum(t, axis=-1) * growth - xp.sum(t * d, axis=-1), xp)

    def delta_along(
        self, a: Array, c: Array, w: Array, t: Array, *, backend: BackendLike | None = None
    ) -> Array:
        """Return ``delta(a, c w, t)`` for numbers `c` of shape (..., n) and one direction `w`.

        Where all |c w| are small, Σ p expm1(c w) is a series in c whose coefficients Σ p wᵏ / k!
        are the same for all c, so that the outputs need not be gone through for every c.
        """
        backend = resolve(backend, a, c, w, t)
        xp = backend.xp
        bound = float(backend.to_numpy(xp.max(xp.abs(c)) * xp.max(xp.abs(w))))
        if not bound <= SERIES_BELOW:
            return self.delta(a, c[..., None] * w, t, backend=backend)
        terms = _terms(bound)
        p, growth, logarithm = backend.softmax(a), 0.0 * c, 0.0 * c
        for k in range(terms, 0, -1):
            growth = (growth + xp.sum(p * w**k, axis=-1) / math.factorial(k)) * c
        for k in range(terms, 0, -1):
            logarithm = (logarithm - (-1.0) ** k / k) * growth
        return _mean(xp.sum(t, axis=-1) * logarithm - xp.sum(t * w, axis=-1) * c, xp)


@dataclass(frozen=True)
class SumSquaredError:
    """Half the sum of squared errors per sample, on the identity.

    Examples
    --------
    >>> import numpy as np
    >>> float(SumSquaredError().value(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]])))
    2.0
    """

    name: ClassVar[str] = "sum_squared_error"
    output: ClassVar[str] = "identity"
    classifies: ClassVar[bool] = False

    def value(self, a: Array, t: Array, *, backend: BackendLike | None = None) -> Array:
        """Return ½ Σ (a - t)² / n, of shape ``a.shape[:-2]``."""
        xp = resolve(backend, a, t).xp
        return _mean(0.5 * xp.sum((a - t) ** 2, axis=-1), xp)

    def grad(self, a: Array, t: Array, *, backend: BackendLike | None = None) -> Array:  # noqa: ARG002 - one signature for all losses
        """Return (a - t) / n, of the shape of `a`."""
        return (a - t) / _samples(a)

    def delta(self, a: Array, d: Array, t: Array, *, backend: BackendLike | None = None) -> Array:
        """Return Σ (d (a - t) + ½ d²) / n, of shape ``d.shape[:-2]``."""
        xp = resolve(backend, a, d, t).xp
        return _mean(xp.sum(d * ((a - t) + 0.5 * d), axis=-1), xp)

    def delta_along(
        self, a: Array, c: Array, w: Array, t: Array, *, backend: BackendLike | None = None
    ) -> Array:
        """Return ``delta(a, c w, t)`` for numbers `c` of shape (..., n) and one direction `w`."""
        xp = resolve(backend, a, c, w, t).xp
        slope = xp.sum(w * (a - t), axis=-1)
        return _mean(c * (slope + 0.5 * xp.sum(w * w) * c), xp)


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (CrossEntropy(), SumSquaredError())}

# What makes an object a loss.
PARTS = ("name", "output", "classifies", "value", "grad", "delta")


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss of that name, or a loss object itself.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor a loss object.
    """
    known = ", ".join(map(repr, LOSSES))
    if not isinstance(loss, str):
        if isinstance(loss, type) or not all(hasattr(loss, part) for part in PARTS):
            msg = f"a loss is {known} or an object with {', '.join(PARTS)}; got {loss!r}"
            raise TypeError(msg)
        return loss
    if loss not in LOSSES:
        msg = f"unknown loss {loss!r}; known losses are {known}"
        raise ValueError(msg)
    return LOSSES[loss]


def _terms(bound: float) -> int:
    """Return how many terms of a series of powers up to `bound` have digits to give."""
    # The series of log1p has a little more than `bound` to the k in term number k.
    return 2 + max(0, math.ceil(math.log(LAST_DIGIT) / math.log(1.1 * bound + LAST_DIGIT)) - 1)


def _samples(a: Array) -> int:
    return int(a.shape[-2]) if a.ndim > 1 else 1


def _mean(per_sample: Array, xp: object) -> Array:
    """Average over the last axis; one sample without that axis is its own mean."""
    if per_sample.ndim == 0:
        return per_sample
    return xp.sum(per_sample, axis=-1) / per_sample.shape[-1]  # type: ignore[attr-defined]
