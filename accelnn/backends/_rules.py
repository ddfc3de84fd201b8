"""Optimisers as the numbers that fused engines are told."""

from __future__ import annotations

import math

import numpy as np

from accelnn import optimizers
from accelnn.backends._engine import Optimizer

__all__ = ["RULES", "rule_numbers"]

# Names of the optimisers that fused engines have code for; their positions are their numbers there.
RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")


def rule_numbers(optimizer: Optimizer, dtype: np.dtype) -> np.ndarray | None:
    """Return learning rate, up to two fractions and eps, or None if there is no code for it."""
    if type(optimizer) not in (getattr(optimizers, name) for name in RULES):
        return None
    fractions = [
        getattr(optimizer, name) for name in ("momentum", "alpha") if hasattr(optimizer, name)
    ]
    first, second = getattr(optimizer, "betas", (*fractions, 0.0, 0.0)[:2])
    eps = getattr(optimizer, "eps", 1.0)
    # Fused code takes what is no normal number for zero, squares of gradients among them; and where
    # a gradient is zero, as in the filling of panels, eps = 0 divides zero by zero.
    if eps < math.sqrt(np.finfo(dtype).tiny):
        return None
    return np.array([optimizer.lr, first, second, eps])  # type: ignore[attr-defined]
