"""Update rules as the numbers that fused engines compute with."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from typing import Any

import numpy as np

from accelnn.backends._training import Optimizer
from accelnn.formulas import _table
from accelnn.formulas._rule import COMMON, UpdateRule

__all__ = ["coefficients_of", "decays_of", "has_code_for", "numbers_of"]


def has_code_for(optimizer: Optimizer, names: Collection[str], dtype: Any) -> bool:
    """Return whether an optimiser is one of these rules, and fused code is right for its eps."""
    if type(optimizer) not in [_table.RULES[name] for name in names]:
        return False
    # Fused code flushes subnormal numbers to zero, squares of gradients among them; and where a
    # gradient is zero, as in the padding of panels, eps = 0 divides zero by zero.
    return bool(getattr(optimizer, "eps", 1.0) >= math.sqrt(np.finfo(dtype).tiny))


def numbers_of(rule: UpdateRule) -> np.ndarray:
    """Return the hyperparameters of a built-in rule's formula, in the order of its fields."""
    own = [getattr(rule, f.name) for f in fields(rule) if f.name not in ("lr", *COMMON)]
    return np.hstack([np.zeros(0), *own])


def coefficients_of(rule: UpdateRule, rates: Any, first: int, count: int) -> np.ndarray:
    """Return the coefficients of `count` updates from number `first` on, of shape (2, count).

    `rates` is the learning rate of each, or of all.
    """
    found = np.empty((2, count))
    found[0], found[1] = rule.coefficients(rates, np.arange(first, first + count))
    return found


def decays_of(rule: UpdateRule) -> tuple[float, float]:
    """Return the weight decay of weights and that of biases."""
    return rule.weight_decay, rule.weight_decay if rule.decay_biases else 0.0
