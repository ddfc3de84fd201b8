"""Training: what all contestants share, accelnn, and a loop in NumPy."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import accelnn
from accelnn._validation import generator
from accelnn.bench._case import Case
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Contestant, contestant, seconds_of
from accelnn.bench.contestants.data import SEED, load
from accelnn.optimizers import SGD, Adam, Momentum
from accelnn.training._plan import Plan

__all__ = ["FLOOR", "OPTIMIZERS", "Accelnn", "Training", "initial", "net_of", "scores", "update"]

OPTIMIZERS: dict[str, Any] = {
    "sgd": SGD(0.1),
    # Dense noise has large gradients: at a rate of 0.1, batches of one diverge.
    "slow sgd": SGD(0.001),
    "momentum": Momentum(0.01, momentum=0.9),
    "adam": Adam(0.001),
}
# Epochs after which all nets are compared, and the updates and operations that this may take.
JUDGED_EPOCHS = 2
JUDGED_STEPS = 2_000
JUDGED_WORK = 3e10
# Samples for the training loss, and their products with weights.
JUDGED = 10_000
JUDGED_PRODUCTS = 1e10
# Preparations of the data, of which the fastest is that of a run.
PREPARATIONS = 3
# Rows and columns of the matrices whose product is the machine's rate.
SIDE = 1_024
FLOOR = "NumPy matmul"
"""The contestant whose time is the least that the products of a case take."""


class Training(Contestant):
    """Training from the same weights on the same batches.

    A contestant writes `begin`, `advance`, `wait`, `layers`, and `accuracy` if it takes part in
    whole runs. What a unit is, the case says: an update (``"steps"``), a run with both accuracies
    after every epoch (``"whole"``), or one until enough of the test data are right (``"reach"``).
    """

    draws = True  # in advance, which is not timed
    STEPS = 10_000  # of a whole run
    GOAL = 0.98  # of the test samples
    MOST_EPOCHS = 25
    SEEDS = 5

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        data = load(case)
        # What a contestant keeps counts as its memory, and updates need no test data.
        self.data: tuple[np.ndarray, ...] = data if case.do in ("whole", "reach") else data[:2]
        self.samples = len(data.x)
        self.optimizer = OPTIMIZERS[case.optimizer]
        self.per_epoch = self.samples // case.batch
        self.test_accuracy: list[float] = []
        self.reached: list[int] = []
        self.reseed(SEED)
        self.order = next(self.epochs(steps=1))

    def reseed(self, seed: int) -> None:
        """Begin with other weights, and draw other batches."""
        self.seed = seed
        self.initial = initial(self.case, seed)

    def epochs(self, epochs: int | None = None, steps: int | None = None) -> Iterator[np.ndarray]:
        """Return the samples of each update of an epoch, (updates, batch), as in `accelnn.fit`."""
        planned = Plan.of(self.samples, self.case.batch, epochs, steps, "shuffle")
        for order in planned.epochs(generator(self.seed)):
            yield order.reshape(-1, self.case.batch)

    def ready(self, amount: int) -> None:
        """Draw the order of the batches, unless the contestant does it itself."""
        steps = {"whole": self.STEPS, "reach": 1}.get(self.case.do, amount)
        if self.draws and steps > len(self.order):
            self.order = np.concatenate(list(self.epochs(steps=steps)))
            self.lay_out()

    def lay_out(self) -> None:
        """Place the order of the batches where they are taken from."""

    def run(self, amount: int) -> None:
        getattr(self, self.case.do)(amount)

    def steps(self, amount: int) -> None:
        """Train from the initial weights."""
        self.begin()
        self.advance(0, amount)
        self.wait()

    def whole(self, amount: int) -> None:
        """Do whole runs, with both accuracies at the start and after each epoch."""
        ends = [*range(0, self.STEPS, self.per_epoch), self.STEPS]
        for _ in range(amount):
            self.begin()
            self.test_accuracy = []
            for first, last in pairwise([0, *ends]):
                self.advance(first, last)
                self.accuracy("train")
                self.test_accuracy.append(self.accuracy("test"))

    def reach(self, amount: int) -> None:
        """Train until the goal is reached, each time from another seed; at first an epoch alone."""
        for _ in range(amount):
            self.reseed(len(self.reached) % self.SEEDS)
            most = self.MOST_EPOCHS if self.reached else 1
            self.reached.append(self.epochs_to_goal(most))
            accuracy = self.test_accuracy[-1]
            if most > 1 and accuracy < self.GOAL:
                msg = f"{accuracy} of the test data after {most} epochs"
                raise RuntimeError(msg)

    def epochs_to_goal(self, most: int) -> int:
        """Return the number of epochs after which the test accuracy is at the goal."""
        self.begin()
        for epoch, order in enumerate(self.epochs(most), 1):
            self.order = order
            self.lay_out()
            self.advance(0, self.per_epoch)
            self.test_accuracy.append(self.accuracy("test"))
            if self.test_accuracy[-1] >= self.GOAL:
                return epoch
        return most

    def facts(self) -> dict[str, Any]:
        """Return loss and accuracy after a few epochs, or the accuracy of the last run."""
        if self.case.do == "steps":
            return self.judged()
        # The first run to the goal only warms up.
        epochs = self.reached[1:] or self.reached
        told = {"epochs": float(np.median(epochs))} if epochs else {}
        return told | ({"accuracy": self.test_accuracy[-1]} if self.test_accuracy else {})

    def judged(self) -> dict[str, Any]:
        """Return loss and accuracy after a few epochs of training."""
        case = self.case
        affordable = max(2, int(JUDGED_WORK / case.products()))
        steps = min(JUDGED_EPOCHS * self.per_epoch, JUDGED_STEPS, affordable)
        self.ready(steps)
        self.steps(steps)
        some = min(JUDGED, max(100, int(JUDGED_PRODUCTS / case.parameters)))
        x, t, x_test, t_test = (part[:some] for part in load(case))
        x, x_test = x.astype(np.float64), x_test.astype(np.float64)
        layers = [np.asarray(layer, np.float64) for layer in self.layers()]
        loss = plain.loss(layers, x, t, case.activation)
        if not np.isfinite(loss):
            # Who does not learn is nobody's peer.
            msg = f"gives a loss of {loss}"
            raise ArithmeticError(msg)
        return {"loss": loss, "accuracy": plain.accuracy(layers, x_test, t_test, case.activation)}

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

    def accuracy(self, part: str) -> float:
        """Return the fraction of ``"train"`` or ``"test"`` that is classified correctly."""
        raise NotImplementedError


def initial(case: Case, seed: int = SEED) -> plain.Layers:
    """Return the weights and biases that all begin with."""
    return [np.array(value) for value in net_of(case, "numpy", seed).params.values()]


def net_of(case: Case, backend: Any, seed: int = SEED) -> accelnn.MLP:
    """Return the net of a case, with the weights and biases that all begin with."""
    return accelnn.MLP(
        case.sizes, activation=case.activation, dtype=case.dtype, rng=seed, backend=backend
    )


def scores(net: Any, x: Any, activate: Callable[[Any], Any]) -> Any:
    """Return the scores of a net in a library that differentiates them."""
    for i in range(0, len(net), 2):
        x = x @ net[i] + net[i + 1]
        if i + 2 < len(net):
            x = activate(x)
    return x


def update(
    rule: Any,
    root_of: Callable[[Any], Any],
    value: Any,
    grad: Any,
    slot: Any,
    second: Any,
    number: Any,
) -> tuple[Any, Any, Any]:
    """Return a parameter and its state after an update, done in place where arrays can change."""
    if isinstance(rule, Adam):
        slot += (1 - rule.betas[0]) * (grad - slot)
        second += (1 - rule.betas[1]) * (grad * grad - second)
        root = root_of(second / (1 - rule.betas[1] ** number))
        root += rule.eps
        value -= rule.lr / (1 - rule.betas[0] ** number) * slot / root
    elif isinstance(rule, Momentum):
        slot *= rule.momentum
        slot += grad
        value -= rule.lr * slot
    else:
        grad *= rule.lr
        value -= grad
    return value, slot, second


@contestant("accelnn numpy", "training", "whole-run", "numerical-training", backend="numpy")
@contestant(
    "accelnn numba",
    *("training", "growth", "whole-run", "to-98", "load", "numerical-training", "gpu-whole-run"),
    backend="numba",
)
@contestant("accelnn cupy", "gpu-training", "gpu-whole-run", backend="cupy")
class Accelnn(Training):
    """`accelnn.fit` on prepared data, which take the place of the arrays; drawing is timed.

    The time of a whole run includes that of the preparation.
    """

    draws = False

    def __init__(self, case: Case, threads: int, backend: Any) -> None:
        super().__init__(case, threads)
        self.events = "cupy" if backend == "cupy" else ""
        self.net = net_of(case, backend)
        x, t, *test = self.data
        if case.do in ("steps", "callback", "by_differences", "whole"):
            prepare = partial(accelnn.prepare, backend=backend, dtype=case.dtype)
            self.prepared = prepare(x, t)
            if test:
                self.test = prepare(*test)
                self.besides = min(
                    seconds_of(lambda: (prepare(x, t), prepare(*test))) for _ in range(PREPARATIONS)
                )
            self.data = ()
        else:
            self.some = [self.net.backend.asarray(part[: case.batch]) for part in (x, t)]

    def begin(self) -> None:
        for value, first in zip(self.net.params.values(), self.initial, strict=True):
            value[...] = self.net.backend.asarray(first)

    def fit(self, *data: Any, **options: Any) -> accelnn.History:
        """Train with what all calls have in common."""
        chosen = {"batch_size": self.case.batch, "optimizer": self.optimizer, "rng": self.seed}
        return accelnn.fit(self.net, *data, **(chosen | options))

    def advance(self, first: int, last: int) -> None:
        self.fit(self.prepared, iters=last - first)

    def callback(self, amount: int) -> None:
        """Train with a callback after every update."""

        def look(_net: Any, history: Any) -> None:
            self.last_loss = history.loss[-1]

        look.every = 1  # type: ignore[attr-defined]
        self.begin()
        self.fit(self.prepared, iters=amount, callbacks=[look])

    def by_differences(self, amount: int) -> None:
        """Train by numerical gradients alone."""
        self.begin()
        self.last_loss = self.fit(self.prepared, iters=amount, gradient="numerical").loss[-1]

    def differences(self, amount: int) -> None:
        """Take numerical gradients of as many samples as a batch has."""
        for _ in range(amount):
            self.net.numerical_gradient(*self.some)

    def whole(self, amount: int) -> None:
        for _ in range(amount):
            self.begin()
            history = self.fit(self.prepared, validation=self.test, iters=self.STEPS)
            self.test_accuracy = history.test_accuracy

    def epochs_to_goal(self, most: int) -> int:
        x, t, *test = self.data

        def is_there(net: Any, _history: Any) -> bool:
            self.test_accuracy.append(net.accuracy(*test))
            return self.test_accuracy[-1] >= self.GOAL

        self.begin()
        history = self.fit(x, t, epochs=most, callbacks=[is_there])
        return round(history.epochs)

    def wait(self) -> None:
        self.net.backend.synchronize()

    def layers(self) -> plain.Layers:
        return [self.net.backend.to_numpy(value) for value in self.net.params.values()]

    def facts(self) -> dict[str, Any]:
        """Add how the engine computes an update, if it has several ways."""
        told = super().facts()
        if self.case.do == "by_differences":
            told["loss"] = self.last_loss
        if self.net.backend.name not in ("numba", "numpy"):
            told["engine"] = self.net.engine.describe(self.case.batch)
        return told


@contestant("NumPy loop", "training", "growth", "whole-run", "to-98")
class Loop(Training):
    """Gather, forward, backward, update; everything in the net's dtype."""

    def begin(self) -> None:
        self.net = [layer.copy() for layer in self.initial]
        self.slots = [[np.zeros_like(layer) for layer in self.net] for _ in range(2)]
        self.number = 0

    def advance(self, first: int, last: int) -> None:
        x, t, *_ = self.data
        for chosen in self.order[first:last]:
            self.number += 1
            gradient = plain.gradient(self.net, x[chosen], t[chosen], self.case.activation)
            for value, grad, slot, second in zip(self.net, gradient, *self.slots, strict=True):
                update(self.optimizer, np.sqrt, value, grad, slot, second, self.number)

    def layers(self) -> plain.Layers:
        return self.net

    def accuracy(self, part: str) -> float:
        x, t = self.data[:2] if part == "train" else self.data[2:]
        return plain.accuracy(self.net, x, t, self.case.activation)


@contestant("NumPy by hand", "handwritten-loop", backend=None)
@contestant("accelnn numpy", "handwritten-loop", backend="numpy")
@contestant("accelnn numba", "handwritten-loop", backend="numba")
class Handwritten(Training):
    """A minibatch, its gradient by a net or by hand, and an update of every parameter."""

    draws = False

    def __init__(self, case: Case, threads: int, backend: str | None) -> None:
        super().__init__(case, threads)
        self.values: Any = [layer.copy() for layer in self.initial]
        self.gradient: Any = partial(plain.gradient, self.values, activation=case.activation)
        if backend is not None:
            net = net_of(case, backend)
            self.values, self.gradient = net.params, net.gradient
        self.names = list(self.values) if backend else range(len(self.values))

    def begin(self) -> None:
        self.random = np.random.default_rng(SEED)
        for name, first in zip(self.names, self.initial, strict=True):
            self.values[name][...] = first

    def advance(self, first: int, last: int) -> None:
        x, t, *_ = self.data
        values, rate = self.values, self.optimizer.lr
        for _ in range(first, last):
            chosen = self.random.integers(len(x), size=self.case.batch)
            gradient = self.gradient(x[chosen], t[chosen])
            for name in self.names:
                values[name] -= rate * gradient[name]

    def layers(self) -> plain.Layers:
        return [self.values[name] for name in self.names]


@contestant(FLOOR, "training", "growth")
class Matmul(Contestant):
    """A product of large square matrices, at whose rate the case's products take its time."""

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        self.few, self.many = 0, 50
        draw = np.random.default_rng(SEED)
        self.a, self.b = (draw.random((SIDE, SIDE)).astype(case.dtype) for _ in range(2))
        self.out = np.empty_like(self.a)
        density = 1.0
        if case.data != "gaussian":
            x = load(case).x
            density = float(np.count_nonzero(x) / x.size)
        self.scale = case.products(density) / (2.0 * SIDE**3)

    def run(self, amount: int) -> None:
        for _ in range(amount):
            np.matmul(self.a, self.b, out=self.out)
