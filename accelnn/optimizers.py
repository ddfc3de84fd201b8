"""Optimisers: frozen configurations with the formulas and defaults of ``torch.optim``.

An optimiser holds no state. A training run keeps `slots` buffers of the length of all parameters,
which start at zero, and `update` changes parameters and slots in place. In the formulas below θ are
the parameters, g the gradient, η the learning rate `lr` and k the number of the update, from 1.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from accelnn._typing import Array

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        msg = f"{name} must be a number, got {value!r}"
        raise TypeError(msg)
    # A plain float takes the dtype of the array it meets; NumPy's own would promote float32.
    return float(value)


def _positive(value: object, name: str) -> float:
    number = _number(value, name)
    if not 0.0 < number < math.inf:
        msg = f"{name} must be positive and finite, got {value!r}"
        raise ValueError(msg)
    return number


def _fraction(value: object, name: str) -> float:
    number = _number(value, name)
    if not 0.0 <= number < 1.0:
        msg = f"{name} must be in [0, 1), got {value!r}"
        raise ValueError(msg)
    return number


def _two_fractions(value: object, name: str) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004 - two of them
        msg = f"{name} must be two numbers, got {value!r}"
        raise TypeError(msg)
    return _fraction(value[0], f"{name}[0]"), _fraction(value[1], f"{name}[1]")


def _not_negative(value: object, name: str) -> float:
    number = _number(value, name)
    if not 0.0 <= number < math.inf:
        msg = f"{name} must be non-negative and finite, got {value!r}"
        raise ValueError(msg)
    return number


_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "lr": _positive,
    "momentum": _fraction,
    "alpha": _fraction,
    "betas": _two_fractions,
    "eps": _not_negative,
}


class _Configuration:
    """Checks the fields of the optimisers and makes them plain floats."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = _CHECKS[field.name](getattr(self, field.name), field.name)
            object.__setattr__(self, field.name, value)


@dataclass(frozen=True)
class SGD(_Configuration):
    """Stochastic gradient descent: θ ← θ - η g.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.

    Examples
    --------
    >>> SGD(0.1)
    SGD(lr=0.1)
    """

    lr: float = 0.001
    slots: ClassVar[int] = 0

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        params -= self.lr * grads


@dataclass(frozen=True)
class Momentum(_Configuration):
    """SGD with momentum: v ← μ v + g; θ ← θ - η v.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    momentum : float, default 0.9
        μ, in [0, 1).
    """

    lr: float = 0.001
    momentum: float = 0.9
    slots: ClassVar[int] = 1

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (velocity,) = slots
        velocity *= self.momentum
        velocity += grads
        params -= self.lr * velocity


@dataclass(frozen=True)
class Nesterov(Momentum):
    """SGD with Nesterov momentum: v ← μ v + g; θ ← θ - η (g + μ v).

    Parameters are those of `Momentum`.
    """

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (velocity,) = slots
        velocity *= self.momentum
        velocity += grads
        params -= self.lr * (grads + self.momentum * velocity)


@dataclass(frozen=True)
class AdaGrad(_Configuration):
    """AdaGrad: s ← s + g²; θ ← θ - η g / (√s + eps).

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    eps : float, default 1e-10
        Added to the denominator.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", JMLR 12 (2011).
    """

    lr: float = 0.01
    eps: float = 1e-10
    slots: ClassVar[int] = 1

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (total,) = slots
        total += grads * grads
        params -= self.lr * grads / (xp.sqrt(total) + self.eps)


@dataclass(frozen=True)
class RMSprop(_Configuration):
    """RMSprop: s ← α s + (1 - α) g²; θ ← θ - η g / (√s + eps).

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    alpha : float, default 0.99
        α, in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.

    References
    ----------
    Tieleman and Hinton, "Neural Networks for Machine Learning", lecture 6.5 (2012).
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    slots: ClassVar[int] = 1

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (average,) = slots
        average *= self.alpha
        average += (1.0 - self.alpha) * grads * grads
        params -= self.lr * grads / (xp.sqrt(average) + self.eps)


@dataclass(frozen=True)
class Adam(_Configuration):
    """Adam: m ← β₁ m + (1 - β₁) g; s ← β₂ s + (1 - β₂) g²; θ ← θ - η m̂ / (√ŝ + eps).

    m̂ = m / (1 - β₁ᵏ) and ŝ = s / (1 - β₂ᵏ) correct the bias of the zero start.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    betas : tuple of float, default (0.9, 0.999)
        β₁ and β₂, each in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR (2015).
    """

    lr: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    slots: ClassVar[int] = 2

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:
        """Apply one update in place."""
        first, second = slots
        beta1, beta2 = self.betas
        first *= beta1
        first += (1.0 - beta1) * grads
        second *= beta2
        second += (1.0 - beta2) * grads * grads
        scale = math.sqrt(1.0 - beta2**step)
        params -= (self.lr / (1.0 - beta1**step)) * first / (xp.sqrt(second) / scale + self.eps)
