"""Structured differences: what moves of single weights change, without evaluating the net again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends._arrays import slices
from accelnn.backends._pass import NetOps
from accelnn.backends._training import Extras

__all__ = ["Point", "store"]

# Elements of the largest temporary array of a structured difference: a few of them fit in cache.
CHUNK_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Point:
    """A net and samples whose forward pass is known.

    Attributes
    ----------
    net : NetOps
        The architecture, and what computes it.
    dtype : str
        That of all arrays.
    layers : list of tuple (weights, bias)
        The parameters.
    inputs, pre : list of arrays
        Every layer's input and pre-activation.
    t : array of shape (n, outputs)
        The targets.
    extras : Extras
        Weights of the samples, and dropout masks.
    mean : callable
        ``mean(per_sample, weights)``.
    """

    net: NetOps
    dtype: str
    layers: list[tuple[Array, Array | None]]
    inputs: list[Array]
    pre: list[Array]
    t: Array
    extras: Extras
    mean: Callable[[Array, Array | None], Array]

    def moved_by(self, layer: int) -> Array:
        """Return how far each weight, and last the bias, moves a pre-activation of each sample."""
        xp, moved_by = self.net.backend.xp, self.inputs[layer].T
        if self.layers[layer][1] is None:
            return moved_by
        return xp.concat([moved_by, xp.ones_like(moved_by[:1, :])])

    def chunks(self, moved_by: Array, layer: int) -> Iterator[slice]:
        """Split the weights of a unit so that no temporary array exceeds `CHUNK_ELEMENTS`."""
        weights, samples = moved_by.shape
        last = len(self.net.spec.sizes) - 2
        along = layer >= last - 1 and _tells_along(self.net.spec.loss)
        widest = 1 if along else max(self.net.spec.sizes[layer + 1 :])
        return slices(weights, max(1, CHUNK_ELEMENTS // (max(1, samples) * widest)))

    def loss_change(self, layer: int, unit: int, move: Array) -> Array:
        """Return the change of the loss, of shape (k,), for `k` moves of one pre-activation.

        `move` has shape (k, n): how far pre-activation `unit` of `layer` moves for each sample.
        """
        layers, pre, masks = self.layers, self.pre, self.extras.masks
        activations, backend, last = self.net.hidden, self.net.backend, len(self.layers) - 1
        if layer == last:
            index = backend.asarray(np.asarray(unit))
            column = backend.one_hot(index, pre[-1].shape[1], self.dtype)
            return self._change_along(move, column)
        moved = activations[layer].change(pre[layer][:, unit], move)
        if masks:
            moved = moved * masks[layer][:, unit]
        if layer == last - 1:
            return self._change_along(moved, layers[last][0][unit, :])
        change = moved[..., None] * layers[layer + 1][0][unit, :]
        for i in range(layer + 1, last):
            change = activations[i].change(pre[i], change)
            if masks:
                change = change * masks[i]
            change = change @ layers[i + 1][0]
        return self.mean(self.net.loss.delta(pre[-1], change, self.t), self.extras.weights)

    def _change_along(self, moves: Array, direction: Array) -> Array:
        """Return the change of the loss for scores moved along one direction."""
        loss: Any = self.net.spec.loss
        if _tells_along(loss):
            backend = self.net.backend
            delta = loss.delta_along(self.pre[-1], moves, direction, self.t, backend=backend)
        else:
            delta = self.net.loss.delta(self.pre[-1], moves[..., None] * direction, self.t)
        return self.mean(delta, self.extras.weights)


def _tells_along(loss: Any) -> bool:
    """Return whether a loss has a `delta_along` that matches its `delta`.

    A subclass may have overridden only one of them.
    """
    for cls in type(loss).__mro__:
        if vars(cls).keys() & {"delta", "_delta", "delta_along", "_delta_along"}:
            return bool(vars(cls).keys() & {"delta_along", "_delta_along"})
    return False


def store(grad_w: Array, grad_b: Array | None, unit: int, rows: slice, values: Array) -> None:
    """Store the derivatives of a unit's weights; the bias comes after the last weight."""
    n_weights = grad_w.shape[0]
    in_w = min(rows.stop, n_weights) - rows.start
    grad_w[rows.start : rows.start + in_w, unit] = values[:in_w]
    if grad_b is not None and rows.stop > n_weights:
        grad_b[unit] = values[-1]
