"""Predictions and preparations of data."""

from typing import Any

import numpy as np

import accelnn
from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.data import SEED, load
from accelnn.bench.jobs.job import Job

__all__ = ["NumbaPredict", "NumbaPrepare", "NumpyPredict", "NumpyPrepare", "Products"]


class NumpyPredict(Job):
    """`net.predict` on as many images as the task's batch; a unit is one call."""

    backend = "numpy"

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        data = load(task.data, task.dtype)
        self.x = np.resize(data.x_test, (task.batch, task.sizes[0]))
        self.net = accelnn.MLP(
            task.sizes,
            activation=task.activation,
            dtype=task.dtype,
            rng=SEED,
            backend=self.backend,
        )
        self.layers = [np.array(value) for value in self.net.params.values()]

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            self.found = self.predict()

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation from float64."""
        exact = plain.softmax(
            plain.forward(
                [layer.astype(np.float64) for layer in self.layers],
                self.x.astype(np.float64),
                self.task.activation,
            )[-1]
        )
        return {"deviation": float(np.abs(self.found - exact).max())}

    def predict(self) -> np.ndarray:
        """Return the probabilities."""
        return np.asarray(self.net.predict(self.x))


class NumbaPredict(NumpyPredict):
    """As `NumpyPredict`."""

    backend = "numba"


class Products(NumpyPredict):
    """A product and an activation for each layer, in plain NumPy."""

    def predict(self) -> np.ndarray:
        """See `NumpyPredict.predict`."""
        return plain.softmax(plain.forward(self.layers, self.x, self.task.activation)[-1])


class NumpyPrepare(Job):
    """`accelnn.prepare` of the training data; a unit is one call."""

    backend = "numpy"

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.data = load(task.data, task.dtype)

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            accelnn.prepare(self.data.x, self.data.t, backend=self.backend, dtype=self.task.dtype)

    def facts(self) -> dict[str, Any]:
        """Return the number of samples."""
        return {"samples": len(self.data.x)}


class NumbaPrepare(NumpyPrepare):
    """As `NumpyPrepare`."""

    backend = "numba"
