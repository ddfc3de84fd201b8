"""JAX: one jitted update per call, or many per call under `lax.scan`; its gradients."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn.bench._case import Case
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Lazy, contestant
from accelnn.bench.contestants.gradients import STEP, Gradient
from accelnn.bench.contestants.training import Training, scores, update

__all__ = ["Scan", "Step"]

jax: Any = Lazy("jax")
jnp: Any = Lazy("jax.numpy")


def configure(dtype: str, threads: int, device: str = "cpu") -> None:
    """Set up JAX before it computes anything; raise ImportError if it cannot use the device."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    if device == "cpu":
        # XLA takes as many threads as the process has processors, and ignores its option for one.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        jax.config.update("jax_platforms", "cpu")
        return
    # Otherwise products of float32 are computed in TF32, with ten bits, unlike those of others.
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        jax.config.update("jax_default_device", jax.devices("cuda")[0])
    except RuntimeError as error:
        msg = f"JAX {jax.version.__version__} cannot use a CUDA device: {error}"
        raise ImportError(msg) from error


def _loss(activate: Any, net: Any, x: Any, t: Any) -> Any:
    logs = jax.nn.log_softmax(scores(net, x, activate))
    return -jnp.mean(jnp.take_along_axis(logs, t[:, None], axis=1))


class _Jax(Training):
    """Data and order of the batches on the device."""

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        configure(case.dtype, threads, case.device)
        x, t, *test = self.data
        self.x, self.t = jnp.asarray(x), jnp.asarray(t, jnp.int32)
        self.activate = getattr(jax.nn, case.activation)
        self.gradient = jax.grad(functools.partial(_loss, self.activate))
        if test:
            self.count = jax.jit(
                lambda net, x, t: (scores(net, x, self.activate).argmax(axis=1) == t).sum()
            )
            x_test, t_test = test
            placed = jnp.asarray(x_test), jnp.asarray(t_test, jnp.int32)
            self.parts = {"train": (self.x, self.t), "test": placed}
        self.data = ()

    def take_step(self, state: Any, chosen: Any, x: Any, t: Any) -> Any:
        """Return the state after one update."""
        net, (slots, seconds), number = state
        gradient = self.gradient(net, x[chosen], t[chosen])
        number += 1
        moved = [
            update(self.optimizer, jnp.sqrt, *parts, number)
            for parts in zip(net, gradient, slots, seconds, strict=True)
        ]
        net, slots, seconds = (list(parts) for parts in zip(*moved, strict=True))
        return net, [slots, seconds], number

    def begin(self) -> None:
        net = [jnp.array(layer) for layer in self.initial]
        zeros = [[jnp.zeros_like(layer) for layer in net] for _ in range(2)]
        self.state = (net, zeros, jnp.zeros((), net[0].dtype))

    def wait(self) -> None:
        jax.block_until_ready(self.state)

    def layers(self) -> plain.Layers:
        return [np.asarray(layer) for layer in self.state[0]]

    def accuracy(self, part: str) -> float:
        x, t = self.parts[part]
        return int(self.count(self.state[0], x, t)) / len(t)


@contestant("JAX step", "training", "growth", needs="jax")
class Step(_Jax):
    """Gather, forward, backward and update as one jitted function."""

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        self.step = jax.jit(self.take_step, donate_argnums=0)
        self.lay_out()

    def lay_out(self) -> None:
        # On the host, where taking rows is faster than slicing an array on the device.
        self.chosen: list[Any] = list(self.order.astype(np.int32))

    def advance(self, first: int, last: int) -> None:
        for chosen in self.chosen[first:last]:
            self.state = self.step(self.state, chosen, self.x, self.t)


@contestant(
    "JAX scan",
    *("training", "growth", "whole-run", "to-98", "load", "gpu-training", "gpu-whole-run"),
    needs="jax",
)
class Scan(_Jax):
    """`lax.scan` over the updates of a call, with the batch order on the device."""

    MOST = 200  # updates of a call

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        if case.do == "steps":
            self.granule = min(self.MOST, case.few or case.many)
        # A whole epoch in a call between two evaluations.
        self.together = self.granule if case.do == "steps" else self.per_epoch
        self.scan = jax.jit(self.take_steps, donate_argnums=0)
        self.chunks: dict[tuple[int, int], Any] = {}

    def take_steps(self, state: Any, order: Any, x: Any, t: Any) -> Any:
        """Do one update for each row of `order`."""
        return jax.lax.scan(
            lambda state, chosen: (self.take_step(state, chosen, x, t), None), state, order
        )[0]

    def lay_out(self) -> None:
        self.chunks = {}
        for first in range(0, len(self.order), self.together):
            self.chunk(first, min(first + self.together, len(self.order)))

    def chunk(self, first: int, last: int) -> Any:
        """Return the batch order of some updates, on the device."""
        if (first, last) not in self.chunks:
            rows = self.order[first:last].astype(np.int32)
            self.chunks[first, last] = jax.block_until_ready(jnp.asarray(rows))
        return self.chunks[first, last]

    def advance(self, first: int, last: int) -> None:
        for start in range(first, last, self.together):
            order = self.chunk(start, min(start + self.together, last))
            self.state = self.scan(self.state, order, self.x, self.t)


@contestant("JAX analytic", "gradient", "scaling", kind=Gradient, needs="jax")
def analytic(problem: Gradient) -> Callable[[], Any]:
    """Return reverse mode, jitted."""
    configure("float64", problem.threads)
    x, t, *net = map(jnp.array, (problem.x, problem.t, *problem.layers))
    jitted = jax.jit(jax.grad(functools.partial(_loss, getattr(jax.nn, problem.case.activation))))
    return lambda: [np.asarray(part) for part in jitted(net, x, t)]


@contestant("JAX lax.map", "gradient", kind=Gradient, needs="jax")
def differences(problem: Gradient) -> Callable[[], Any]:
    """Return central differences under `lax.map`, jitted as a whole."""
    configure("float64", problem.threads)
    arguments = problem.flat, problem.sample(1_000), problem.x, problem.t
    placed = [jnp.array(part) for part in arguments]
    ends = np.cumsum([layer.size for layer in problem.layers])[:-1]
    activate = getattr(jax.nn, problem.case.activation)

    def loss(flat: Any, x: Any, t: Any) -> Any:
        parts = zip(jnp.split(flat, ends), problem.layers, strict=True)
        return _loss(activate, [part.reshape(layer.shape) for part, layer in parts], x, t)

    def all_of(flat: Any, places: Any, x: Any, t: Any) -> Any:
        def difference(place: Any) -> Any:
            above = loss(flat.at[place].add(STEP), x, t)
            below = loss(flat.at[place].add(-STEP), x, t)
            return (above - below) / (2 * STEP)

        return jax.lax.map(difference, places)

    jitted = jax.jit(all_of)
    return lambda: np.asarray(jitted(*placed))
