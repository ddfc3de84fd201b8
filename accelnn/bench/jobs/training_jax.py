"""Training with JAX: one jitted update per call, or many per call under `lax.scan`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.jax_setup import configure
from accelnn.bench.jobs.training import Training, WholeRun
from accelnn.optimizers import Adam, Momentum

__all__ = ["Scan", "Step", "WholeScan"]

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


class _Jax(Training):
    """Data and order of the batches on the device."""

    def __init__(self, task: Task, threads: int) -> None:
        configure(task.dtype, threads, task.device)
        super().__init__(task, threads)
        self.x, self.t = jnp.asarray(self.data.x), jnp.asarray(self.data.t, jnp.int32)
        self.take_step = functools.partial(_step, self.optimizer, task.activation)

    def begin(self) -> None:
        """See `Training.begin`."""
        net = [jnp.array(layer) for layer in self.initial]
        zeros = [[jnp.zeros_like(layer) for layer in net] for _ in range(2)]
        self.state = (net, zeros, jnp.zeros((), net[0].dtype))

    def wait(self) -> None:
        """See `Training.wait`."""
        jax.block_until_ready(self.state)

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return [np.asarray(layer) for layer in self.state[0]]


class Step(_Jax):
    """Gather, forward, backward and update as one jitted function."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.step = jax.jit(self.take_step, donate_argnums=0)
        self.chosen: list[Any] = list(self.order.astype(np.int32))

    def ready(self, amount: int) -> None:
        """See `Job.ready`."""
        super().ready(amount)
        # On the host, where taking rows is faster than slicing an array on the device.
        self.chosen = list(self.order.astype(np.int32))

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        for chosen in self.chosen[first:last]:
            self.state = self.step(self.state, chosen, self.x, self.t)


class Scan(_Jax):
    """`lax.scan` over the updates of a call, with the batch order on the device."""

    granule = 200

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.many = jax.jit(self.take_steps, donate_argnums=0)
        self.chunks: dict[tuple[int, int], Any] = {}

    def take_steps(self, state: Any, order: Any, x: Any, t: Any) -> Any:
        """Do one update for each row of `order`."""
        return jax.lax.scan(
            lambda state, chosen: (self.take_step(state, chosen, x, t), None), state, order
        )[0]

    def ready(self, amount: int) -> None:
        """See `Job.ready`."""
        super().ready(amount)
        for first in range(0, amount, self.granule):
            self.chunk(first, min(first + self.granule, amount))

    def chunk(self, first: int, last: int) -> Any:
        """Return the batch order of some updates, on the device."""
        if (first, last) not in self.chunks:
            rows = self.order[first:last].astype(np.int32)
            self.chunks[first, last] = jax.block_until_ready(jnp.asarray(rows))
        return self.chunks[first, last]

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        for start in range(first, last, self.granule):
            order = self.chunk(start, min(start + self.granule, last))
            self.state = self.many(self.state, order, self.x, self.t)


class WholeScan(Scan, WholeRun):
    """A whole run, with a few calls per epoch."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.granule = 1
        self.count = jax.jit(self.count_correct)
        self.parts = {
            "train": (self.x, self.t),
            "test": (jnp.asarray(self.data.x_test), jnp.asarray(self.data.t_test, jnp.int32)),
        }

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        self.state = self.many(self.state, self.chunk(first, last), self.x, self.t)

    def count_correct(self, net: Any, x: Any, t: Any) -> Any:
        """Return how many samples are classified correctly."""
        return jnp.sum(jnp.argmax(_scores(net, x, self.task.activation), axis=1) == t)

    def correct(self, part: str) -> int:
        """See `WholeRun.correct`."""
        return int(self.count(self.state[0], *self.parts[part]))


def _scores(net: Any, x: Any, activation: str) -> Any:
    for i in range(0, len(net), 2):
        x = x @ net[i] + net[i + 1]
        if i + 2 < len(net):
            x = ACTIVATIONS[activation](x)
    return x


def _loss(net: Any, x: Any, t: Any, activation: str) -> Any:
    logs = jax.nn.log_softmax(_scores(net, x, activation))
    return -jnp.mean(jnp.take_along_axis(logs, t[:, None], axis=1))


def _step(rule: Any, activation: str, state: Any, chosen: Any, x: Any, t: Any) -> Any:
    """Return the state after one update."""
    net, (slots, seconds), number = state
    gradient = jax.grad(_loss)(net, x[chosen], t[chosen], activation)
    number += 1
    moved = [
        _update(rule, *parts, number) for parts in zip(net, gradient, slots, seconds, strict=True)
    ]
    net, slots, seconds = (list(parts) for parts in zip(*moved, strict=True))
    return net, [slots, seconds], number


def _update(rule: Any, value: Any, grad: Any, slot: Any, second: Any, number: Any) -> Any:
    if isinstance(rule, Adam):
        slot = rule.betas[0] * slot + (1 - rule.betas[0]) * grad
        second = rule.betas[1] * second + (1 - rule.betas[1]) * grad**2
        root = jnp.sqrt(second / (1 - rule.betas[1] ** number)) + rule.eps
        return value - rule.lr / (1 - rule.betas[0] ** number) * slot / root, slot, second
    if isinstance(rule, Momentum):
        slot = rule.momentum * slot + grad
        return value - rule.lr * slot, slot, second
    return value - rule.lr * grad, slot, second
