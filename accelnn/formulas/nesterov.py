"""Stochastic gradient descent with Nesterov momentum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array
from accelnn.formulas._ops import times
from accelnn.formulas.momentum import Momentum

__all__ = ["Nesterov"]


@dataclass(frozen=True, repr=False)
class Nesterov(Momentum):
    """SGD with Nesterov momentum: v ← μ v + g; θ ← θ - η (g + μ v).

    Parameters are those of `Momentum`.
    """

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
        ahead = times(velocity, self.momentum, scratch)
        ahead += grads
        params -= times(ahead, rate, scratch)
