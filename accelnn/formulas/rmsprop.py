"""RMSprop: gradients scaled by a moving average of their squares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array, Schedule
from accelnn.formulas._checks import check_parameters, fraction, learning_rate, positive
from accelnn.formulas._ops import over, plus, root, times
from accelnn.formulas._rule import UpdateRule

__all__ = ["RMSprop"]


@dataclass(frozen=True, repr=False)
class RMSprop(UpdateRule):
    """RMSprop: s ← α s + (1 - α) g²; θ ← θ - η g / (√s + eps).

    Parameters
    ----------
    lr : float or schedule, default 0.01
        Learning rate; see `accelnn.schedules`.
    alpha : float, default 0.99
        α, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator; positive, because a gradient that was always zero divides by it.
    weight_decay, decay_biases
        See `UpdateRule`.

    References
    ----------
    Tieleman and Hinton, "Neural Networks for Machine Learning", lecture 6.5 (2012).
    """

    lr: float | Schedule = 0.01
    alpha: float = 0.99
    eps: float = 1e-8

    state_names = ("average",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, lr=learning_rate, alpha=fraction, eps=positive)

    def _apply(
        self,
        params: Array,
        grads: Array,
        slots: Sequence[Array],
        rate: float,
        k: int,
        xp: Any,
        scratch: Array | None = None,
    ) -> None:
        (average,) = slots
        average *= self.alpha
        average += times(times(grads, 1.0 - self.alpha, scratch), grads, scratch)
        size = plus(root(xp, average, scratch), self.eps, scratch)
        params -= times(over(grads, size, scratch), rate, scratch)
