"""Optimisers as the numbers that fused engines are told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accelnn.backends._engine import Optimizer
from accelnn.formulas import _table

__all__ = ["RULES", "rule_numbers"]

# Names of the optimisers that fused engines have code for; their positions are their numbers there.
RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")


def rule_numbers(optimizer: Optimizer, dtype: np.dtype) -> np.ndarray | None:
    """Return learning rate, up to two fractions and eps, or None if there is no code for it."""
    rule: Any = optimizer
    if type(rule) not in (_table.RULES[name] for name in RULES):
        return None
    if rule.weight_decay > 0.0:
        return None
    fractions = [getattr(rule, name) for name in ("momentum", "alpha") if hasattr(rule, name)]
    first, second = getattr(rule, "betas", (*fractions, 0.0, 0.0)[:2])
    eps = getattr(rule, "eps", 1.0)
    # Fused code takes what is no normal number for zero, squares of gradients among them; and where
    # a gradient is zero, as in the filling of panels, eps = 0 divides zero by zero.
    if eps < math.sqrt(np.finfo(dtype).tiny):
        return None
    return np.array([rule.lr, first, second, eps])
