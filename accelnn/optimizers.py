"""Optimisers: frozen configurations with the formulas and defaults of ``torch.optim``.

An optimiser holds no state, so one object can be shared between runs. `accelnn.fit` keeps the state
of a run; in a loop of your own, ``state = optimizer.init(net.params)`` creates it and
``optimizer.update(net.params, grads, state)`` updates parameters and state in place. In the
formulas θ are the parameters, g the gradient, η the learning rate, λ `weight_decay` and k the
number of the update, from 1. `lr` is η, or a schedule of it: see `accelnn.schedules`.
"""

from accelnn.formulas import _rules
from accelnn.formulas._own import Rule
from accelnn.formulas._rule import UpdateRule
from accelnn.formulas._rules import *  # noqa: F403 - whatever is listed there

__all__ = ["Rule", "UpdateRule"]
__all__ += _rules.__all__
