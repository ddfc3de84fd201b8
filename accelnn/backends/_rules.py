"""Optimisers as the numbers that fused engines are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from accelnn.backends._training import Optimizer
from accelnn.formulas import _table
from accelnn.formulas._rule import UpdateRule

__all__ = [
    "DECAY_OF_BIASES",
    "DECAY_OF_WEIGHTS",
    "NUMBERS",
    "RULES",
    "numbers_of_all_rules",
    "rule_numbers",
]

# Names of the optimisers that fused engines have code for; their positions are their numbers.
RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "AdamW")
# How many numbers a rule has, and which of them is its decay.
NUMBERS, DECAY_OF_WEIGHTS, DECAY_OF_BIASES = 6, 4, 5


def rule_numbers(
    optimizer: Optimizer, dtype: np.dtype, names: Sequence[str] = RULES
) -> np.ndarray | None:
    """Return an optimiser's numbers, or None if there is no code for it among those names.

    These are its learning rate, up to two fractions, eps, and the decay of weights and of biases.
    """
    rule: Any = optimizer
    if type(rule) not in (_table.RULES[name] for name in names):
        return None
    fractions = [getattr(rule, name) for name in ("momentum", "alpha") if hasattr(rule, name)]
    first, second = getattr(rule, "betas", (*fractions, 0.0, 0.0)[:2])
    eps = getattr(rule, "eps", 1.0)
    # Fused code takes what is no normal number for zero, squares of gradients among them; and where
    # a gradient is zero, as in the filling of panels, eps = 0 divides zero by zero.
    if eps < math.sqrt(np.finfo(dtype).tiny):
        return None
    return numbers_of_all_rules(rule, first, second, eps)


def numbers_of_all_rules(
    rule: UpdateRule, first: float = 0.0, second: float = 0.0, eps: float = 1.0
) -> np.ndarray:
    """Return what all rules have in the places of `rule_numbers`, with these in the others."""
    decays = rule.weight_decay, rule.weight_decay if rule.decay_biases else 0.0
    return np.array([rule.lr, first, second, eps, *decays])
