"""Optimisers as the training kernel reads them."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from accelnn.backends._rules import coefficients_of, decays_of, has_code_for, numbers_of
from accelnn.backends._training import Optimizer, TrainingState
from accelnn.backends.numba.arrays import kernel_array
from accelnn.backends.numba.dataset import NOTHING
from accelnn.backends.numba.kernels.arguments import Rule
from accelnn.backends.numba.kernels.clipping import squares_of
from accelnn.backends.numba.kernels.updates import OWN_RULE, RULES, STORE_GRADIENT
from accelnn.backends.numba.layout import Layout
from accelnn.backends.numba.memory import Workspace
from accelnn.backends.numba.own import rule_code
from accelnn.backends.numba.user_functions import NoCodeError
from accelnn.backends.numba.vectors import LANES
from accelnn.formulas._own import Rule as OwnRule
from accelnn.formulas._rule import UpdateRule

__all__ = ["gradient_rule", "rule_of"]

# Rate and coefficients, which `STORE_GRADIENT` does not use, and no sums of squares.
ONE, ONE_EACH, NO_SQUARES = np.ones(1), np.ones((2, 1)), np.zeros(0)


def rule_of(
    state: TrainingState,
    layout: Layout,
    updates: int,
    rates: np.ndarray | None,
    clip: float | None,
    workspace: Workspace,
    *,
    in_pieces: bool,
) -> Rule | None:
    """Return the rule of so many updates, or None if it has no code.

    Its state, which is a part of the workspace, is whatever was there.
    """
    dtype = state.params.dtype
    told = _told(state.optimizer, dtype, workspace)
    if told is None:
        return None
    kind, code, numbers = told
    optimizer = cast("UpdateRule", state.optimizer)
    rates = optimizer.rates(state.step, updates) if rates is None else rates
    rates = kernel_array(rates, np.float64)
    gradient, squares = NOTHING[dtype], NO_SQUARES
    if clip is not None or in_pieces:
        gradient = workspace.zeros("gradient", layout.size, dtype)
    if clip is not None:
        squares = np.zeros(squares_of(layout.size, LANES[dtype.type]))
    return Rule(
        kind,
        numbers,
        *decays_of(optimizer),
        workspace.zeros("slots", max(1, len(state.slots)) * layout.size, dtype),
        rates,
        coefficients_of(optimizer, rates, state.step + 1, updates),
        state.step,
        code,
        math.inf if clip is None else float(clip),
        gradient,
        squares,
    )


def gradient_rule(out: np.ndarray) -> Rule:
    """Return the rule by which the gradient of a batch is stored."""
    none = NOTHING[out.dtype]
    return Rule(STORE_GRADIENT, ONE, 0.0, 0.0, out, ONE, ONE_EACH, 0, 0, math.inf, none, NO_SQUARES)


def _told(
    optimizer: Optimizer, dtype: np.dtype, workspace: Workspace
) -> tuple[int, int, np.ndarray] | None:
    """Return a rule's number, the address of a user's code, and hyperparameters, or None."""
    if workspace.rule is not None and workspace.rule[0] is optimizer:
        return workspace.rule[1]
    if has_code_for(optimizer, RULES, dtype):
        numbers = numbers_of(cast("UpdateRule", optimizer))
        told = RULES.index(type(optimizer).__name__), 0, numbers
        workspace.rule = optimizer, told
        return told
    if type(optimizer) is not OwnRule:
        return None
    try:
        return OWN_RULE, rule_code(optimizer, dtype.name), np.zeros(0)
    except NoCodeError:
        return None
