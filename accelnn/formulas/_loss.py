"""The base class of losses."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from accelnn._typing import Array
from accelnn._underflow import underflow_is_harmless
from accelnn.formulas._ops import floats, ops_of

__all__ = ["Labels", "LossFormula"]


class Labels(NamedTuple):
    """Class labels in the place of one-hot targets.

    Attributes
    ----------
    index : array of int, shape (n,)
        The output that is 1, within range.
    """

    index: Array


class LossFormula:
    """A per-sample loss: its value, its gradient and its exact change.

    `a` has shape (..., n, outputs), the last layer's output, and `t` holds targets of shape
    (n, outputs), one-hot or soft; one sample may drop the axis of samples. Nothing is divided by n,
    the number of samples: the caller takes the mean. Every method takes ``backend=``, by default
    that of the arrays. A subclass is a frozen dataclass whose fields are the parameters of the
    loss. It defines `_value`, `_grad` and `_delta` in terms of ``ops``, a backend with the
    array-API namespace ``ops.xp``.

    Attributes
    ----------
    name : str
        Its name in nets, files and errors.
    output : str
        The backend op that computes the outputs from `a`.
    classifies : bool
        Whether accuracy is defined for it: by default the fraction of samples whose largest output
        is that of the largest target. A loss with another accuracy defines
        ``hits(a, t, backend=)``, which is 1 for each correct output and 0 elsewhere.
    takes_bits : bool
        Whether targets of a single output may have shape (n,).
    target_range : tuple (low, high) of float
        The interval in which targets must lie.
    takes_labels : bool
        Whether `_value`, `_grad` and `_both` take `Labels` too.
    """

    name: str
    output: str = "identity"
    classifies: bool = False
    takes_bits: bool = False
    target_range: tuple[float, float] = (-math.inf, math.inf)
    takes_labels: bool = False

    @underflow_is_harmless
    def value(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return each sample's loss, of shape ``a.shape[:-1]``."""
        ops = ops_of(backend, a, t)
        return self._value(ops, *floats(ops, backend, a, t))

    @underflow_is_harmless
    def grad(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return the derivative of each sample's loss with respect to `a`, of the shape of `a`."""
        ops = ops_of(backend, a, t)
        return self._grad(ops, *floats(ops, backend, a, t))

    @underflow_is_harmless
    def delta(self, a: Array, d: Array, t: Array, *, backend: Any = None) -> Array:
        """Return ``value(a + d, t) - value(a, t)``, without cancellation where d is small."""
        ops = ops_of(backend, a, d, t)
        return self._delta(ops, *floats(ops, backend, a, d, t))

    @underflow_is_harmless
    def delta_along(self, a: Array, c: Array, w: Array, t: Array, *, backend: Any = None) -> Array:
        """Return ``delta(a, c w, t)`` for `c` of shape (..., n) and one direction `w`."""
        ops = ops_of(backend, a, c, w, t)
        return self._delta_along(ops, *floats(ops, backend, a, c, w, t))

    def even_target(self, outputs: int) -> float | None:
        """Return the targets of a sample that may be of any class, or None if there is no such.

        It is what label smoothing mixes with the targets.
        """
        return None

    def check_sizes(self, outputs: int) -> None:
        """Raise ValueError if the loss is not defined for that number of outputs."""

    def _value(self, ops: Any, a: Array, t: Array) -> Array:
        raise NotImplementedError

    def _grad(self, ops: Any, a: Array, t: Array) -> Array:
        raise NotImplementedError

    def _both(self, ops: Any, a: Array, t: Array) -> tuple[Array, Array]:
        """Return value and gradient; a loss that computes them together overrides it."""
        return self._value(ops, a, t), self._grad(ops, a, t)

    def _delta(self, ops: Any, a: Array, d: Array, t: Array) -> Array:
        # The default cancels: a subclass should override it.
        return self._value(ops, a + d, t) - self._value(ops, a, t)

    def _delta_along(self, ops: Any, a: Array, c: Array, w: Array, t: Array) -> Array:
        return self._delta(ops, a, c[..., None] * w, t)
