"""A net in plain float64 NumPy, written apart from the library: what every backend must agree with.

Everything here is spelled out layer by layer, in the plainest form that is right.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["COEFFICIENTS", "ReferenceNet", "batches", "reference_update"]

Arrays = dict[str, np.ndarray]
Numbers = tuple[float, float, float, float]

# The learning rate, and torch's defaults: momentum or the first beta, alpha, the second beta.
COEFFICIENTS: Numbers = (0.05, 0.9, 0.99, 0.999)

ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sigmoid": (
        lambda z: 1.0 / (1.0 + np.exp(-z)),
        lambda z: np.exp(-z) / (1.0 + np.exp(-z)) ** 2,
    ),
    "tanh": (np.tanh, lambda z: 1.0 - np.tanh(z) ** 2),
    "relu": (lambda z: np.where(z > 0.0, z, 0.0), lambda z: np.where(z > 0.0, 1.0, 0.0)),
}


class ReferenceNet:
    """Forward pass, loss and backpropagation of an MLP whose parameters are `params`."""

    def __init__(self, params: Arrays, activation: str, loss: str) -> None:
        self.params = {name: np.array(value, dtype=np.float64) for name, value in params.items()}
        self.depth = len(params) // 2
        self.f, self.df = ACTIVATIONS[activation]
        self.loss_name = loss

    def forward(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each layer's input and pre-activation."""
        inputs, pre = [np.asarray(x, dtype=np.float64)], []
        for layer in range(1, self.depth + 1):
            pre.append(inputs[-1] @ self.params[f"W{layer}"] + self.params[f"b{layer}"])
            inputs.append(self.f(pre[-1]))
        return inputs[:-1], pre

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, or outputs under squared error."""
        a = self.forward(x)[1][-1]
        if self.loss_name == "sum_squared_error":
            return a
        e = np.exp(a - a.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def loss(self, x: np.ndarray, t: np.ndarray) -> float:
        """Return the mean loss; `t` has the shape of the outputs."""
        y = self.predict(x)
        if self.loss_name == "sum_squared_error":
            return float(0.5 * ((y - t) ** 2).sum() / len(x))
        return float(-(t * np.log(y)).sum() / len(x))

    def gradient(self, x: np.ndarray, t: np.ndarray) -> Arrays:
        """Backpropagate."""
        inputs, pre = self.forward(x)
        y = self.predict(x)
        weight = t.sum(axis=1, keepdims=True) if self.loss_name == "cross_entropy" else 1.0
        error = (weight * y - t) / len(x)
        grads = {}
        for layer in range(self.depth, 0, -1):
            grads[f"W{layer}"] = inputs[layer - 1].T @ error
            grads[f"b{layer}"] = error.sum(axis=0)
            if layer > 1:
                error = (error @ self.params[f"W{layer}"].T) * self.df(pre[layer - 2])
        return {name: grads[name] for name in self.params}


def batches(
    samples: int, batch: int, steps: int, seed: int, sampling: str = "shuffle"
) -> Iterator[np.ndarray]:
    """Yield the sample indices of each step, as `accelnn.fit` documents them."""
    draw = np.random.default_rng(seed)
    per_epoch = -(-samples // batch)
    for step in range(steps):
        if step % per_epoch == 0:
            if sampling == "shuffle":
                order = draw.permutation(samples)
            else:
                order = draw.integers(0, samples, size=per_epoch * batch)
        start = (step % per_epoch) * batch
        yield order[start : start + batch]


def reference_update(
    name: str, params: Arrays, grads: Arrays, state: dict[str, Any], k: int, numbers: Numbers
) -> None:
    """Apply update `k` (from 1) of an optimiser whose coefficients are `numbers`."""
    lr, beta, alpha, square = numbers
    for key, g in grads.items():
        p = params[key]
        first, second = state.setdefault(key, [np.zeros_like(p), np.zeros_like(p)])
        if name == "SGD":
            step = lr * g
        elif name in ("Momentum", "Nesterov"):
            first[...] = beta * first + g
            step = lr * (first if name == "Momentum" else g + beta * first)
        elif name == "AdaGrad":
            first[...] = first + g**2
            step = lr * g / (np.sqrt(first) + 1e-10)
        elif name == "RMSprop":
            first[...] = alpha * first + (1.0 - alpha) * g**2
            step = lr * g / (np.sqrt(first) + 1e-8)
        else:
            first[...] = beta * first + (1.0 - beta) * g
            second[...] = square * second + (1.0 - square) * g**2
            corrected = np.sqrt(second / (1.0 - square**k))
            step = lr * (first / (1.0 - beta**k)) / (corrected + 1e-8)
        params[key] = p - step
