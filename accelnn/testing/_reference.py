"""A reference net in float64 NumPy, independent of the library, that every backend must match.

Everything is written layer by layer in the simplest correct form.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from accelnn.testing._formulas import ACTIVATION_ROWS, LOSS_ROWS, RULE_ROWS

__all__ = ["COEFFICIENTS", "ReferenceNet", "batches", "dropped", "reference_update"]

Arrays = dict[str, np.ndarray]
Numbers = tuple[float, float, float, float]

# The learning rate, and torch's defaults: momentum or the first beta, alpha, the second beta.
COEFFICIENTS: Numbers = (0.05, 0.9, 0.99, 0.999)


class ReferenceNet:
    """Forward pass, loss and backpropagation of an MLP with parameters `params`."""

    def __init__(self, params: Arrays, activation: str, loss: str) -> None:
        self.params = {name: np.array(value, dtype=np.float64) for name, value in params.items()}
        self.depth = len(params) // 2
        self.row, self.loss_row = ACTIVATION_ROWS[activation], LOSS_ROWS[loss]

    def forward(
        self, x: np.ndarray, masks: Sequence[np.ndarray] = ()
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each layer's input and pre-activation."""
        inputs, pre = [np.asarray(x, dtype=np.float64)], []
        for layer in range(1, self.depth + 1):
            pre.append(inputs[-1] @ self.params[f"W{layer}"] + self.params[f"b{layer}"])
            inputs.append(self.row.value(pre[-1]))
            if layer <= len(masks):
                inputs[-1] = np.where(masks[layer - 1] > 0.0, inputs[-1] * masks[layer - 1], 0.0)
        return inputs[:-1], pre

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, or outputs under squared error."""
        return self.loss_row.output(self.forward(x)[1][-1])

    def loss(
        self, x: np.ndarray, t: np.ndarray, weights: Any = 1.0, masks: Sequence[np.ndarray] = ()
    ) -> float:
        """Return the mean loss; `t` has the shape of the outputs."""
        return float((weights * self.loss_row.value(self.forward(x, masks)[1][-1], t)).mean())

    def gradient(
        self, x: np.ndarray, t: np.ndarray, weights: Any = 1.0, masks: Sequence[np.ndarray] = ()
    ) -> Arrays:
        """Backpropagate."""
        inputs, pre = self.forward(x, masks)
        weights = np.broadcast_to(weights, len(x))[:, None]
        error = weights * self.loss_row.error(pre[-1], t) / len(x)
        grads = {}
        for layer in range(self.depth, 0, -1):
            grads[f"W{layer}"] = inputs[layer - 1].T @ error
            grads[f"b{layer}"] = error.sum(axis=0)
            if layer > 1:
                error = (error @ self.params[f"W{layer}"].T) * self.row.slope(pre[layer - 2])
                error = error * masks[layer - 2] if masks else error
        return {name: grads[name] for name in self.params}


def batches(
    samples: int,
    batch: int,
    steps: int,
    seed: int | np.random.Generator,
    sampling: str = "shuffle",
) -> Iterator[np.ndarray]:
    """Yield the sample indices of each batch, as `accelnn.fit` documents them."""
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


@functools.cache
def dropped(
    p: float, seed: int, update: int, rows: int, widths: tuple[int, ...]
) -> list[np.ndarray]:
    """Return the dropout masks of the hidden layers, computed element by element."""
    masks = []
    for layer, units in enumerate(widths):
        mask = np.empty((rows, units))
        for row, unit in np.ndindex(rows, units):
            word = _philox([update, layer, row, unit], [seed % 2**32, seed // 2**32])
            mask[row, unit] = 0.0 if word < round(p * 2**32) else 1.0 / (1.0 - p)
        masks.append(mask)
    return masks


def _philox(counter: list[int], key: list[int]) -> int:
    """Return the first word of Philox4x32-10, in Python integers."""
    for turn in range(10):
        product0, product1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        key0, key1 = (k + turn * w for k, w in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True))
        counter = [
            (product1 // 2**32) ^ counter[1] ^ (key0 % 2**32),
            product1 % 2**32,
            (product0 // 2**32) ^ counter[3] ^ (key1 % 2**32),
            product0 % 2**32,
        ]
    return counter[0]


def reference_update(
    name: str, params: Arrays, grads: Arrays, state: dict[str, Any], k: int, numbers: Numbers
) -> None:
    """Apply update `k` (from 1) of an optimiser with the coefficients `numbers`."""
    for key, g in grads.items():
        p = params[key]
        slots = state.setdefault(key, [np.zeros_like(p), np.zeros_like(p)])
        params[key] = RULE_ROWS[name](p, g, slots, k, numbers)
