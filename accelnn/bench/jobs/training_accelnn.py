"""Training with accelnn."""

from typing import Any

import accelnn
from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.clocks import CUPY_EVENTS
from accelnn.bench.jobs.data import SEED
from accelnn.bench.jobs.training import Training, WholeRun

__all__ = ["Cupy", "Numba", "Numpy", "WholeCupy", "WholeNumba", "WholeNumpy"]


class _Accelnn(Training):
    """`accelnn.fit` on a prepared data set; drawing batches is timed."""

    backend = "numpy"

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.net = accelnn.MLP(
            task.sizes,
            activation=task.activation,
            dtype=task.dtype,
            rng=SEED,
            backend=self.backend,
        )
        self.first = [self.net.backend.asarray(layer) for layer in self.initial]
        self.prepared = accelnn.prepare(
            self.data.x, self.data.t, backend=self.backend, dtype=task.dtype
        )

    def ready(self, amount: int) -> None:
        """Do nothing: `fit` draws its batches itself."""

    def begin(self) -> None:
        """See `Training.begin`."""
        for value, first in zip(self.net.params.values(), self.first, strict=True):
            value[...] = first

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        batch, steps = self.task.batch, last - first
        accelnn.fit(
            self.net,
            self.prepared,
            batch_size=batch,
            iters=steps,
            optimizer=self.optimizer,
            rng=SEED,
        )

    def wait(self) -> None:
        """See `Training.wait`."""
        self.net.backend.synchronize()

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return [self.net.backend.to_numpy(value) for value in self.net.params.values()]


class Numpy(_Accelnn):
    """The portable engine."""


class Numba(_Accelnn):
    """The fused engine."""

    backend = "numba"


class Cupy(_Accelnn):
    """The CuPy engine."""

    backend = "cupy"
    clock = CUPY_EVENTS

    def facts(self) -> dict[str, Any]:
        """Add how the engine computes an update, for which it has several ways."""
        return super().facts() | {"engine": self.net.engine.describe(self.task.batch)}


class WholeNumpy(Numpy, WholeRun):
    """A whole run from plain arrays; preparing them is timed."""

    def whole(self) -> None:
        """See `WholeRun.whole`."""
        self.begin()
        x, t, x_test, t_test = self.data
        history = accelnn.fit(
            self.net,
            x,
            t,
            validation=(x_test, t_test),
            batch_size=self.task.batch,
            iters=self.STEPS,
            optimizer=self.optimizer,
            rng=SEED,
        )
        self.test_accuracy = history.test_accuracy


class WholeNumba(WholeNumpy):
    """As `WholeNumpy`."""

    backend = "numba"


class WholeCupy(Cupy, WholeNumpy):
    """As `WholeNumpy`; moving the data to the device is timed."""
