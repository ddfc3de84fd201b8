"""Stochastic gradient descent with momentum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array, Schedule
from accelnn.formulas._checks import check_parameters, fraction, learning_rate
from accelnn.formulas._ops import times
from accelnn.formulas._rule import UpdateRule

__all__ = ["Momentum"]


@dataclass(frozen=True, repr=False)
class Momentum(UpdateRule):
    """SGD with momentum: v ← μ v + g; θ ← θ - η v.

    Parameters
    ----------
    lr : float or schedule, default 0.001
        Learning rate; see `accelnn.schedules`.
    momentum : float, default 0.9
        μ, in [0, 1).
    weight_decay, decay_biases
        See `UpdateRule`.
    """

    lr: float | Schedule = 0.001
    momentum: float = 0.9

    state_names = ("velocity",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, lr=learning_rate, momentum=fraction)

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
        (velocity,) = slots
        velocity *= self.momentum
        velocity += grads
        params -= times(velocity, rate, scratch)
