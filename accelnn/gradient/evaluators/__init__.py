"""Ways to evaluate f near x: one point at a time, batched, compiled, or on workers."""

from accelnn.gradient.evaluators._base import Advance, Evaluator, Function, Serial, no_progress
from accelnn.gradient.evaluators._batched import Batched, Compiled
from accelnn.gradient.evaluators._reads import alike, points_beside, refuse_random
from accelnn.gradient.evaluators._values import Values, adopt, from_foreign
from accelnn.gradient.evaluators._workers import HasMap, Mapper, Workers, workers_for

__all__ = [
    "Advance",
    "Batched",
    "Compiled",
    "Evaluator",
    "Function",
    "HasMap",
    "Mapper",
    "Serial",
    "Values",
    "Workers",
    "adopt",
    "alike",
    "from_foreign",
    "no_progress",
    "points_beside",
    "refuse_random",
    "workers_for",
]
