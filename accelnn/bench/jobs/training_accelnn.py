"""accelnn trains."""

import accelnn
from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.data import SEED
from accelnn.bench.jobs.training import Training, WholeRun

__all__ = ["Numba", "Numpy", "WholeNumba", "WholeNumpy"]


class _Accelnn(Training):
    """`accelnn.fit` on a prepared data set, batches drawn within the time."""

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
        self.prepared = accelnn.prepare(
            self.data.x, self.data.t, backend=self.backend, dtype=task.dtype
        )

    def ready(self, amount: int) -> None:
        """Do nothing: `fit` draws its batches itself."""

    def begin(self) -> None:
        """See `Training.begin`."""
        for value, first in zip(self.net.params.values(), self.initial, strict=True):
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

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return list(self.net.params.values())


class Numpy(_Accelnn):
    """The portable engine."""


class Numba(_Accelnn):
    """The fused engine."""

    backend = "numba"


class WholeNumpy(Numpy, WholeRun):
    """A whole run from plain arrays: preparing them is within the time."""

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
