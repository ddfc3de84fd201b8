"""Gradients of one net on one batch: accelnn, and plain NumPy."""

from typing import Any

import numpy as np

import accelnn
from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.clocks import CUPY_EVENTS
from accelnn.bench.jobs.data import SEED, load
from accelnn.bench.jobs.job import Job

__all__ = [
    "STEP",
    "Analytic",
    "CupyStructured",
    "Gradient",
    "Loop",
    "NumbaAnalytic",
    "NumbaStructured",
    "NumbaTraining",
    "NumpyStructured",
    "NumpyTraining",
    "Sampled",
]

STEP = 1e-4
# Samples times hidden units up to which all sampled parameters are measured.
USUAL_WORK = 2_000


class Gradient(Job):
    """One gradient of the mean cross entropy in float64; a unit is one whole gradient.

    A contestant writes `gradient`. What it returns is compared with backpropagation in NumPy.
    """

    backend = "numpy"

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        data = load(task.data, "float64")
        self.x, self.t = data.x[: task.batch].copy(), data.t[: task.batch].copy()
        inputs, hidden, outputs = task.sizes
        self.net = accelnn.TwoLayerNet(
            inputs,
            hidden,
            outputs,
            activation=task.activation,
            dtype="float64",
            rng=SEED,
            backend=self.backend,
        )
        self.flat = self.net.backend.to_numpy(self.net.flat).copy()
        self.layers = plain.views(self.flat, task.sizes)
        exact = plain.backprop(self.layers, self.x, self.t, task.activation)
        self.exact = np.concatenate([part.ravel() for part in exact])

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            self.found = self.gradient()

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation from backpropagation."""
        parts = self.found.values() if isinstance(self.found, dict) else self.found
        found = np.concatenate([self.net.backend.to_numpy(part).ravel() for part in parts])
        return {"deviation": float(np.abs(found - self.exact).max())}

    def gradient(self) -> Any:
        """Return the contestant's gradient: an array, sequence or dict."""
        raise NotImplementedError


class NumpyStructured(Gradient):
    """`net.numerical_gradient`."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.samples = [self.net.backend.asarray(part) for part in (self.x, self.t)]

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        return self.net.numerical_gradient(*self.samples, step=STEP)


class NumbaStructured(NumpyStructured):
    """`net.numerical_gradient`."""

    backend = "numba"


class CupyStructured(NumpyStructured):
    """`net.numerical_gradient`."""

    backend = "cupy"
    clock = CUPY_EVENTS

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        super().run(amount)
        self.net.backend.synchronize()


class NumbaAnalytic(Gradient):
    """`net.gradient`."""

    backend = "numba"

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        return self.net.gradient(self.x, self.t)


class Analytic(Gradient):
    """Backpropagation by hand."""

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        return plain.backprop(self.layers, self.x, self.t, self.task.activation)


class Sampled(Gradient):
    """Differences for evenly spaced parameters, with the time scaled to all.

    The time for one parameter does not depend on which it is, so that of all is proportional. In
    larger nets and batches fewer are measured, so that a repeat takes as long.
    """

    sample = 2_000

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        work = max(1.0, task.batch * task.sizes[1] / USUAL_WORK)
        size = min(max(self.sample // 10, int(self.sample / work)), self.flat.size)
        self.moved = np.linspace(0, self.flat.size - 1, size).astype(np.int64)
        self.scale = self.flat.size / size
        self.exact = self.exact[self.moved]

    def facts(self) -> dict[str, Any]:
        """Add how much was measured."""
        measured = f"{self.moved.size:,} of {self.flat.size:,} parameters"
        return super().facts() | {"measured": measured}


class Loop(Sampled):
    """The textbook's loop: two forward passes for every parameter."""

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        flat, found = self.flat, np.empty(self.moved.size)
        for i, place in enumerate(self.moved):
            value = flat[place]
            flat[place] = value + STEP
            above = self.loss()
            flat[place] = value - STEP
            below = self.loss()
            flat[place] = value
            found[i] = (above - below) / (2 * STEP)
        return found

    def loss(self) -> float:
        """Return the loss at the parameters as they are."""
        return plain.loss(self.layers, self.x, self.t, self.task.activation)


class NumpyTraining(Gradient):
    """`accelnn.fit` by differences alone; a unit is one update."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.first = self.net.flat.copy()
        data = load(task.data, "float64", task.batch)
        self.prepared = accelnn.prepare(data.x, data.t, backend=self.backend, dtype="float64")

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        self.net.flat[...] = self.first
        self.history = accelnn.fit(
            self.net,
            self.prepared,
            batch_size=self.task.batch,
            iters=amount,
            gradient="numerical",
            rng=SEED,
        )

    def facts(self) -> dict[str, Any]:
        """Return the loss of the last update."""
        return {"steps": self.history.steps, "loss": self.history.loss[-1]}


class NumbaTraining(NumpyTraining):
    """As `NumpyTraining`."""

    backend = "numba"
