"""Training with a handwritten NumPy loop."""

from typing import Any

import numpy as np

from accelnn.bench.jobs import plain
from accelnn.bench.jobs.training import Training, WholeRun
from accelnn.optimizers import Adam, Momentum

__all__ = ["Loop", "WholeLoop"]


class Loop(Training):
    """Gather, forward, backward, update; everything in the net's dtype."""

    def begin(self) -> None:
        """See `Training.begin`."""
        self.net = [layer.copy() for layer in self.initial]
        self.slots = [[np.zeros_like(layer) for layer in self.net] for _ in range(2)]

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        x, t, *_ = self.data
        for step in range(first, last):
            chosen = self.order[step]
            gradient = plain.backprop(self.net, x[chosen], t[chosen], self.task.activation)
            for value, grad, slot, second in zip(self.net, gradient, *self.slots, strict=True):
                _update(self.optimizer, value, grad, slot, second, step + 1)

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return self.net


class WholeLoop(Loop, WholeRun):
    """A whole run."""

    def correct(self, part: str) -> int:
        """See `WholeRun.correct`."""
        x, t = self.data[:2] if part == "train" else self.data[2:]
        return round(plain.accuracy(self.net, x, t, self.task.activation) * len(t))


def _update(
    rule: Any,
    value: np.ndarray,
    grad: np.ndarray,
    slot: np.ndarray,
    second: np.ndarray,
    number: int,
) -> None:
    """Update `value` and its state in place."""
    if isinstance(rule, Adam):
        slot += (1 - rule.betas[0]) * (grad - slot)
        second += (1 - rule.betas[1]) * (grad * grad - second)
        root = np.sqrt(second / (1 - rule.betas[1] ** number))
        root += rule.eps
        value -= rule.lr / (1 - rule.betas[0] ** number) * slot / root
    elif isinstance(rule, Momentum):
        slot *= rule.momentum
        slot += grad
        value -= rule.lr * slot
    else:
        grad *= rule.lr
        value -= grad
