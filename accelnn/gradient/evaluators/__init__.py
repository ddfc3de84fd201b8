"""How f is evaluated at points beside x: one by one, many at once, by workers, compiled."""

from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, no_progress
from accelnn.gradient.evaluators._reads import points_beside, refuse_random
from accelnn.gradient.evaluators._start import Start, start
from accelnn.gradient.evaluators._values import adopt
from accelnn.gradient.evaluators._workers import HasMap, Mapper

__all__ = [
    "Advance",
    "Evaluator",
    "Function",
    "HasMap",
    "Mapper",
    "Start",
    "adopt",
    "no_progress",
    "points_beside",
    "refuse_random",
    "start",
]
