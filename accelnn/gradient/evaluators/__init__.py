"""How f is evaluated at points beside x: one by one, many at once, by workers, compiled."""

from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, no_progress
from accelnn.gradient.evaluators._choice import Start, make_evaluator
from accelnn.gradient.evaluators._mappers import HasMap, Mapper
from accelnn.gradient.evaluators._values import Values

__all__ = [
    "Advance",
    "Evaluator",
    "Function",
    "HasMap",
    "Mapper",
    "Start",
    "Values",
    "make_evaluator",
    "no_progress",
]
