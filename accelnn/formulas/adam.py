"""Adam: momentum, scaled by a moving average of squared gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelnn._typing import Array, Schedule
from accelnn.formulas._checks import check_parameters, learning_rate, positive, two_fractions
from accelnn.formulas._ops import over, plus, root, times
from accelnn.formulas._rule import UpdateRule

__all__ = ["Adam"]


@dataclass(frozen=True, repr=False)
class Adam(UpdateRule):
    """Adam: m ← β₁ m + (1 - β₁) g; s ← β₂ s + (1 - β₂) g²; θ ← θ - η m̂ / (√ŝ + eps).

    m̂ = m / (1 - β₁ᵏ) and ŝ = s / (1 - β₂ᵏ) correct the bias of the zero initial state.

    Parameters
    ----------
    lr : float or schedule, default 0.001
        Learning rate; see `accelnn.schedules`.
    betas : tuple of float, default (0.9, 0.999)
        β₁ and β₂, each in [0, 1).
    eps : float, default 1e-8
        Added to the denominator; positive, because a gradient that was always zero divides by it.
    weight_decay, decay_biases
        See `UpdateRule`.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR (2015).
    """

    lr: float | Schedule = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    state_names = ("first", "second")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, lr=learning_rate, betas=two_fractions, eps=positive)

    def coefficients(self, rate: Any, k: Any) -> tuple[Any, Any]:
        """Return η / (1 - β₁ᵏ) and √(1 - β₂ᵏ)."""
        beta1, beta2 = self.betas
        return rate / (1.0 - beta1**k), (1.0 - beta2**k) ** 0.5

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
        first, second = slots
        beta1, beta2 = self.betas
        first *= beta1
        first += times(grads, 1.0 - beta1, scratch)
        second *= beta2
        second += times(times(grads, 1.0 - beta2, scratch), grads, scratch)
        rate, scale = self.coefficients(rate, k)
        size = plus(over(root(xp, second, scratch), scale, scratch), self.eps, scratch)
        params -= times(over(first, size, scratch), rate, scratch)
