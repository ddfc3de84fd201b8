"""Optimisers: frozen configurations with the formulas and defaults of ``torch.optim``.

An optimiser holds no state. A training run keeps `slots` buffers of the length of all parameters,
which start at zero, and `update` changes parameters and slots in place. In the formulas below θ are
the parameters, g the gradient, η the learning rate `lr` and k the number of the update, from 1.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from accelnn._typing import Array

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]


def _require(ok: bool, name: str, value: float, range_: str) -> None:  # noqa: FBT001 - a condition
    if not ok:
        msg = f"{name} must be {range_}, got {value!r}"
        raise ValueError(msg)


def _check_lr(lr: float) -> None:
    _require(0.0 < lr < math.inf, "lr", lr, "positive and finite")


def _check_fraction(name: str, value: float) -> None:
    _require(0.0 <= value < 1.0, name, value, "in [0, 1)")


def _check_eps(eps: float) -> None:
    _require(0.0 <= eps < math.inf, "eps", eps, "non-negative and finite")


@dataclass(frozen=True)
class SGD:
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

    def __post_init__(self) -> None:
        _check_lr(self.lr)

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        params -= self.lr * grads


@dataclass(frozen=True)
class Momentum:
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

    def __post_init__(self) -> None:
        _check_lr(self.lr)
        _check_fraction("momentum", self.momentum)

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (velocity,) = slots
        velocity *= self.momentum
        velocity += grads
        params -= self.lr * velocity


@dataclass(frozen=True)
class Nesterov:
    """SGD with Nesterov momentum: v ← μ v + g; θ ← θ - η (g + μ v).

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

    def __post_init__(self) -> None:
        _check_lr(self.lr)
        _check_fraction("momentum", self.momentum)

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (velocity,) = slots
        velocity *= self.momentum
        velocity += grads
        params -= self.lr * (grads + self.momentum * velocity)


@dataclass(frozen=True)
class AdaGrad:
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

    def __post_init__(self) -> None:
        _check_lr(self.lr)
        _check_eps(self.eps)

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (total,) = slots
        total += grads * grads
        params -= self.lr * grads / (xp.sqrt(total) + self.eps)


@dataclass(frozen=True)
class RMSprop:
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

    def __post_init__(self) -> None:
        _check_lr(self.lr)
        _check_fraction("alpha", self.alpha)
        _check_eps(self.eps)

    def update(self, params: Array, grads: Array, slots: list[Array], step: int, xp: Any) -> None:  # noqa: ARG002 - one signature for all
        """Apply one update in place."""
        (average,) = slots
        average *= self.alpha
        average += (1.0 - self.alpha) * grads * grads
        params -= self.lr * grads / (xp.sqrt(average) + self.eps)


@dataclass(frozen=True)
class Adam:
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

    def __post_init__(self) -> None:
        _check_lr(self.lr)
        for i, beta in enumerate(self.betas):
            _check_fraction(f"betas[{i}]", beta)
        _check_eps(self.eps)

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
