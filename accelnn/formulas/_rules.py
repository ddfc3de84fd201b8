"""The built-in update rules: the only list of them, which public modules re-export whole."""

from accelnn.formulas.adagrad import AdaGrad
from accelnn.formulas.adam import Adam
from accelnn.formulas.adamw import AdamW
from accelnn.formulas.momentum import Momentum
from accelnn.formulas.nesterov import Nesterov
from accelnn.formulas.rmsprop import RMSprop
from accelnn.formulas.sgd import SGD

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "RMSprop"]
