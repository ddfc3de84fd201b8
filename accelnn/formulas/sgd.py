"""Stochastic gradient descent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array, Schedule
from accelnn.formulas._checks import check_parameters, learning_rate
from accelnn.formulas._ops import times
from accelnn.formulas._rule import UpdateRule

__all__ = ["SGD"]


@dataclass(frozen=True, repr=False)
class SGD(UpdateRule):
    """Stochastic gradient descent: θ ← θ - η g.

    Parameters
    ----------
    lr : float or schedule, default 0.001
        Learning rate; see `accelnn.schedules`.
    weight_decay, decay_biases
        See `UpdateRule`.

    Examples
    --------
    >>> import accelnn
    >>> accelnn.SGD(0.1)
    SGD(lr=0.1)
    """

    lr: float | Schedule = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, lr=learning_rate)

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
        params -= times(grads, rate, scratch)
