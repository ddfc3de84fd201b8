"""What training contestants share: data, initial weights, batch order and evaluation."""

from typing import Any

import numpy as np

from accelnn import MLP
from accelnn._validation import generator
from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.data import SEED, load
from accelnn.bench.jobs.job import Job
from accelnn.optimizers import SGD, Adam, Momentum
from accelnn.training._plan import Plan

__all__ = ["OPTIMIZERS", "Training", "WholeRun"]

OPTIMIZERS: dict[str, Any] = {
    "sgd": SGD(0.1),
    "momentum": Momentum(0.01, momentum=0.9),
    "adam": Adam(0.001),
}
# Epochs after which all nets are compared.
JUDGED_EPOCHS = 2
# Samples for the training loss.
JUDGED = 10_000


class Training(Job):
    """Training from the same weights on the same batches; a unit is one update.

    A contestant writes `begin`, `advance`, `wait` and `layers`.
    """

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.data = load(task.data, task.dtype, task.batch)
        self.initial = _initial(task)
        self.optimizer = OPTIMIZERS[task.optimizer]
        self.per_epoch = len(self.data.x) // task.batch
        self.order = self.draw(1)

    def draw(self, steps: int) -> np.ndarray:
        """Return the samples of each update, of shape (updates, batch), as in `accelnn.fit`."""
        planned = Plan.of(len(self.data.x), self.task.batch, None, steps, "shuffle")
        epochs = list(planned.epochs(generator(SEED)))
        return np.concatenate(epochs).reshape(steps, self.task.batch)

    def ready(self, amount: int) -> None:
        """Draw the order of the batches in advance, which is not timed for peers."""
        if amount > len(self.order):
            self.order = self.draw(amount)

    def run(self, amount: int) -> None:
        """Train from the initial weights."""
        self.begin()
        self.advance(0, amount)
        self.wait()

    def facts(self) -> dict[str, Any]:
        """Return loss and accuracy after a few epochs of training."""
        steps = JUDGED_EPOCHS * self.per_epoch
        self.ready(steps)
        self.run(steps)
        x, t, x_test, t_test = self.data
        layers = [np.asarray(layer, np.float64) for layer in self.layers()]
        judged, activation = slice(JUDGED), self.task.activation
        return {
            "steps": steps,
            "loss": plain.loss(layers, x[judged].astype(np.float64), t[judged], activation),
            "accuracy": plain.accuracy(layers, x_test.astype(np.float64), t_test, activation),
        }

    def begin(self) -> None:
        """Reset to the initial weights."""
        raise NotImplementedError

    def advance(self, first: int, last: int) -> None:
        """Do the updates from number `first` to before `last`."""
        raise NotImplementedError

    def wait(self) -> None:
        """Wait until all updates are done."""

    def layers(self) -> plain.Layers:
        """Return the weights and biases on the host."""
        raise NotImplementedError


class WholeRun(Training):
    """A training run with accuracies after every epoch; a unit is one such run.

    A contestant adds `correct`, how many of some samples it gets right.
    """

    STEPS = 10_000

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.test_accuracy: list[float] = []

    def ready(self, amount: int) -> None:  # noqa: ARG002 - every run has the same updates
        """See `Training.ready`."""
        super().ready(self.STEPS)

    def run(self, amount: int) -> None:
        """Train, and evaluate on training and test data at the start and after each epoch."""
        for _ in range(amount):
            self.whole()

    def whole(self) -> None:
        """Do one run."""
        self.begin()
        self.test_accuracy = []
        self.evaluate()
        for first in range(0, self.STEPS, self.per_epoch):
            self.advance(first, min(first + self.per_epoch, self.STEPS))
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate both accuracies."""
        self.correct("train")
        self.test_accuracy.append(self.correct("test") / len(self.data.t_test))

    def facts(self) -> dict[str, Any]:
        """Return the accuracy at the end."""
        return {"steps": self.STEPS, "accuracy": self.test_accuracy[-1]}

    def correct(self, part: str) -> int:
        """Return how many samples of ``"train"`` or ``"test"`` are classified correctly."""
        raise NotImplementedError


def _initial(task: Task) -> plain.Layers:
    net = MLP(task.sizes, activation=task.activation, dtype=task.dtype, rng=SEED, backend="numpy")
    return [np.array(value) for value in net.params.values()]
