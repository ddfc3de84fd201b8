"""The minibatch training loop, the same on every backend."""

from accelnn.training._fit import GradientKind, fit
from accelnn.training._history import History
from accelnn.training._plan import Sampling
from accelnn.training._prepare import prepare
from accelnn.training._warmup import warmup

__all__ = ["GradientKind", "History", "Sampling", "fit", "prepare", "warmup"]
