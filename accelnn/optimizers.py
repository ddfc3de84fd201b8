"""Optimisers: frozen configurations with the formulas and defaults of ``torch.optim``.

An optimiser holds no state, so one object can be shared between runs. `accelnn.fit` keeps the state
of a run; in a loop of your own, ``state = optimizer.init(net.params)`` creates it and
``optimizer.update(net.params, grads, state)`` updates parameters and state in place. In the
formulas θ are the parameters, g the gradient, η the learning rate `lr`, λ `weight_decay` and k the
number of the update, from 1.
"""

from accelnn.formulas._own import Rule
from accelnn.formulas._rule import UpdateRule
from accelnn.formulas.adagrad import AdaGrad
from accelnn.formulas.adam import Adam
from accelnn.formulas.adamw import AdamW
from accelnn.formulas.momentum import Momentum
from accelnn.formulas.nesterov import Nesterov
from accelnn.formulas.rmsprop import RMSprop
from accelnn.formulas.sgd import SGD

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "RMSprop",
    "Rule",
    "UpdateRule",
]
