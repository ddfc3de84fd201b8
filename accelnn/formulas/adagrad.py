"""AdaGrad: learning rates that decrease with the sum of squared gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array, Schedule
from accelnn.formulas._checks import check_parameters, learning_rate, positive
from accelnn.formulas._ops import over, plus, root, times
from accelnn.formulas._rule import UpdateRule

__all__ = ["AdaGrad"]


@dataclass(frozen=True, repr=False)
class AdaGrad(UpdateRule):
    """AdaGrad: s ← s + g²; θ ← θ - η g / (√s + eps).

    Parameters
    ----------
    lr : float or schedule, default 0.01
        Learning rate; see `accelnn.schedules`.
    eps : float, default 1e-10
        Added to the denominator; positive, because a gradient that was always zero divides by it.
    weight_decay, decay_biases
        See `UpdateRule`.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", JMLR 12 (2011).
    """

    lr: float | Schedule = 0.01
    eps: float = 1e-10

    state_names = ("total",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, lr=learning_rate, eps=positive)

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
        (total,) = slots
        total += times(grads, grads, scratch)
        size = plus(root(xp, total, scratch), self.eps, scratch)
        params -= times(over(grads, size, scratch), rate, scratch)
