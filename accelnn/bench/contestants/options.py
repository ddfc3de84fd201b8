"""Training with the options of `engine.train`."""

from functools import partial
from statistics import median
from typing import Any

import numpy as np

from accelnn.backends import TrainingState
from accelnn.bench._case import Case
from accelnn.bench.contestants.base import contestant, seconds_of
from accelnn.bench.contestants.training import Accelnn
from accelnn.formulas._dropout import Dropout

__all__ = ["OPTIONS", "Optional"]

# The contestants, and the option that each has.
OPTIONS = {f"with {option}": option for option in ("rates", "weights", "dropout", "a clip")}
# Runs with and without an option, in turns.
TURNS = 7


class Optional(Accelnn):
    """Updates by the engine, on batches that were drawn before."""

    draws = True

    def __init__(self, case: Case, threads: int, option: str = "") -> None:
        super().__init__(case, threads, "numba")
        self.option = option

    def facts(self) -> dict[str, Any]:
        """Return how many times longer steps take with the option.

        Steps of two processes differ by more than an option costs, depending on which memory and
        threads the system gives them, so that both are measured in this one.
        """
        if not self.option:
            return {}
        updates = len(self.order)
        found: dict[str, list[float]] = {self.option: [], "": []}
        for _ in range(TURNS):
            for option, seconds in found.items():
                seconds.append(seconds_of(partial(self.train, 0, updates, option)))
        return {"ratio": median(found[self.option]) / median(found[""])}

    def advance(self, first: int, last: int) -> None:
        self.train(first, last, self.option)

    def train(self, first: int, last: int, option: str) -> None:
        """Do some updates with an option."""
        engine, updates = self.net.engine, last - first
        made: dict[str, dict[str, Any]] = {
            "": {},
            "rates": {"rates": np.linspace(0.1, 0.05, updates)},
            "weights": {"weights": np.linspace(0.5, 1.5, self.samples)},
            "dropout": {"dropout": Dropout(0.5, self.seed)},
            # Most gradients are longer.
            "a clip": {"clip": 0.1},
        }
        state = TrainingState(self.net.flat, self.optimizer, "analytic", engine.backend)
        order = self.order[first:last].reshape(-1)
        engine.train(state, self.prepared, order, self.case.batch, **made[option])


contestant("accelnn numba", "options")(Optional)
for name, option in OPTIONS.items():
    contestant(name, "options", option=option)(Optional)
