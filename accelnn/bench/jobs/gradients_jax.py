"""JAX's gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelnn.bench._task import Task
from accelnn.bench.jobs.gradients import STEP, Gradient, Sampled
from accelnn.bench.jobs.jax_setup import configure

__all__ = ["Analytic", "Map"]

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


class _Jax(Gradient):
    """The net as one flat array."""

    def __init__(self, task: Task, threads: int) -> None:
        configure("float64", threads)
        super().__init__(task, threads)
        self.shapes = [layer.shape for layer in self.layers]
        self.ends = np.cumsum([layer.size for layer in self.layers])[:-1]
        self.parameters = jnp.array(self.flat)
        self.inputs, self.targets = jnp.array(self.x), jnp.array(self.t)

    def loss(self, flat: Any, x: Any, t: Any) -> Any:
        """Return the mean cross entropy."""
        parts = zip(jnp.split(flat, self.ends), self.shapes, strict=True)
        return self.loss_of_layers([part.reshape(shape) for part, shape in parts], x, t)

    def loss_of_layers(self, layers: Any, x: Any, t: Any) -> Any:
        """Return the mean cross entropy."""
        w1, b1, w2, b2 = layers
        logs = jax.nn.log_softmax(ACTIVATIONS[self.task.activation](x @ w1 + b1) @ w2 + b2)
        return -jnp.mean(jnp.take_along_axis(logs, t[:, None], axis=1))


class Analytic(_Jax):
    """Reverse mode, jitted."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.jitted = jax.jit(jax.grad(self.loss_of_layers))
        self.placed = [jnp.array(layer) for layer in self.layers]

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        found = self.jitted(self.placed, self.inputs, self.targets)
        return [np.asarray(part) for part in found]


class Map(_Jax, Sampled):
    """Central differences under `lax.map`, jitted as a whole."""

    sample = 1_000

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.jitted = jax.jit(self.differences)
        self.places = jnp.array(self.moved)

    def differences(self, flat: Any, places: Any, x: Any, t: Any) -> Any:
        """Return the differences along some coordinates."""

        def difference(place: Any) -> Any:
            above = self.loss(flat.at[place].add(STEP), x, t)
            below = self.loss(flat.at[place].add(-STEP), x, t)
            return (above - below) / (2 * STEP)

        return jax.lax.map(difference, places)

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        return np.asarray(self.jitted(self.parameters, self.places, self.inputs, self.targets))
