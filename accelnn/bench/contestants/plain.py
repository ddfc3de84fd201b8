"""A net in plain NumPy, written by hand with care: in place, without copies."""

from collections.abc import Callable

import numpy as np

__all__ = ["Layers", "accuracy", "forward", "gradient", "loss", "softmax"]

Layers = list[np.ndarray]
"""``[W1, b1, W2, b2, ...]``."""


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), in the memory of `z`."""
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)
    return z


def relu(z: np.ndarray) -> np.ndarray:
    """Return max(z, 0), in the memory of `z`."""
    np.maximum(z, 0, out=z)
    return z


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sigmoid": sigmoid, "relu": relu}
SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda a: a * (1 - a),
    "relu": lambda a: a > 0,
}


def forward(layers: Layers, x: np.ndarray, activation: str) -> list[np.ndarray]:
    """Return the inputs of every layer, and the scores at the end."""
    passed = [x]
    for i in range(0, len(layers), 2):
        z = passed[-1] @ layers[i]
        z += layers[i + 1]
        passed.append(z if i + 2 == len(layers) else ACTIVATIONS[activation](z))
    return passed


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities, in the memory of `scores`."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def gradient(layers: Layers, x: np.ndarray, t: np.ndarray, activation: str) -> Layers:
    """Return the gradient of the mean cross entropy."""
    *inputs, scores = forward(layers, x, activation)
    error = softmax(scores)
    error[np.arange(len(t)), t] -= 1
    error /= len(t)
    found: Layers = []
    for i in range(len(layers) - 2, -1, -2):
        before = inputs[i // 2]
        found[:0] = before.T @ error, error.sum(axis=0)
        if i > 0:
            error = error @ layers[i].T
            error *= SLOPES[activation](before)
    return found


def loss(layers: Layers, x: np.ndarray, t: np.ndarray, activation: str) -> float:
    """Return the mean cross entropy."""
    scores = forward(layers, x, activation)[-1]
    highest = scores.max(axis=1)
    scores -= highest[:, None]
    own = scores[np.arange(len(t)), t]
    return float(np.mean(np.log(np.exp(scores, out=scores).sum(axis=1)) - own))


def accuracy(layers: Layers, x: np.ndarray, t: np.ndarray, activation: str) -> float:
    """Return the fraction of samples whose largest score is that of their class."""
    return float(np.mean(forward(layers, x, activation)[-1].argmax(axis=1) == t))
