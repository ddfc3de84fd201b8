"""The portable engine: a net's computations, composed from a backend's ops.

An engine is specialised for an architecture and a dtype. Nets, `fit` and numerical gradients use it
alone, so a backend with fused kernels may override any of its methods.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from accelnn._cached import cached_property
from accelnn._differences import DIFFERENCES
from accelnn._typing import Array
from accelnn.backends._arrays import slices
from accelnn.backends._pass import NetOps, Pass
from accelnn.backends._spec import NetSpec
from accelnn.backends._structured import Point, store
from accelnn.backends._training import LONG, Dataset, Extras, OwnOptimizer, TrainingState
from accelnn.formulas._dropout import Dropout
from accelnn.formulas._loss import Labels
from accelnn.formulas._own import Rule as OwnRule
from accelnn.formulas._rule import UpdateRule
from accelnn.formulas._table import RULES

if TYPE_CHECKING:
    from accelnn.backends._base import Backend

__all__ = ["Engine", "UnfitError"]

# Samples per forward pass of an evaluation, which bounds its memory.
EVALUATION_ROWS = 10_000
# Parameters that are updated at a time: with gradients and state they fit in a core's cache.
PIECE = 3 << 14
# Added to the norm of a gradient before it is clipped, as in torch.
CLIP_EPS = 1e-6
# No weights and no masks.
NONE = Extras()


class UnfitError(ValueError):
    """Targets are out of the range of the loss; whoever called the engine says which."""


class Engine:
    """Forward pass, loss, gradients and updates of nets of one architecture.

    Parameters are passed as one flat buffer in the order of ``spec.parameters``. Inputs are
    validated by the caller: `x` has shape (n, inputs) and the engine's dtype; `t` holds integer
    labels of shape (n,) or targets of shape (n, outputs) in the engine's dtype. An engine may look
    at their range itself; see `checks_range`.

    Parameters
    ----------
    backend : Backend
        The backend whose ops compute.
    spec : NetSpec
        The architecture.
    dtype : str
        ``"float32"`` or ``"float64"``.

    Attributes
    ----------
    checks_range : bool
        Whether `mean_loss`, `evaluate`, `gradient` and `checked_differences` take targets that may
        be out of range, which they refuse with `UnfitError`: on a device, to look at them first is
        to wait once more.
    """

    checks_range: ClassVar[bool] = False

    def __init__(self, backend: Backend, spec: NetSpec, dtype: str) -> None:
        self.backend = backend
        self.spec = spec
        self.dtype = dtype
        self._net_ops = NetOps(backend, spec)
        self._activations, self._loss = self._net_ops.hidden, self._net_ops.loss
        self._output = backend.with_memory(spec.loss.output)

    def describe(self, batch: int = 100) -> str:  # noqa: ARG002 - others choose by it
        """Return a description of how an update on a batch of that many samples is computed."""
        return f"portable: each op of {self.backend.name} by itself"

    def scores(self, params: Array, x: Array) -> Array:
        """Return the last layer's output before the output function, of shape (n, outputs)."""
        return Pass(self._net_ops, params).forward(x)

    def predict(self, params: Array, x: Array) -> Array:
        """Return the output layer: probabilities under cross entropy, of shape (n, outputs)."""
        scores = self.scores(params, x)
        return self._output(scores, scores)

    def loss(self, params: Array, x: Array, t: Array) -> Array:
        """Return the mean loss as a 0-d array."""
        return self._mean_loss(self.scores(params, x), self._for_loss(t))

    def mean_loss(self, params: Array, x: Array, t: Array) -> float:
        """Return the mean loss as a number."""
        return self._number(self.loss(params, x, t))

    def evaluate(self, params: Array, data: Dataset) -> tuple[float, float | None]:
        """Return the mean loss and the accuracy, or None where the loss does not classify."""
        total_loss, correct = 0.0, 0.0
        for rows in slices(data.size, min(EVALUATION_ROWS, data.rows_at_once)):
            x, t = data.piece(rows)
            scores = self.scores(params, x)
            total_loss += self._number(self._mean_loss(scores, self._for_loss(t))) * x.shape[0]
            if self.spec.loss.classifies:
                correct += self._number(self.backend.xp.count_nonzero(self.hits(scores, t)))
        labels = self.spec.sizes[-1] if hasattr(self.spec.loss, "hits") else 1
        accuracy = correct / (data.size * labels) if self.spec.loss.classifies else None
        return total_loss / data.size, accuracy

    def gradient(self, params: Array, x: Array, t: Array, out: Array) -> None:
        """Write the flat gradient to `out`; a subclass need only override `loss_and_gradient`."""
        if type(self).loss_and_gradient is _portable_loss_and_gradient:
            # Saves the loss.
            Pass(self._net_ops, params, out).gradient(x, self._for_loss(t), NONE)
        else:
            self.loss_and_gradient(params, x, t, out)

    def loss_and_gradient(self, params: Array, x: Array, t: Array, out: Array) -> Array:
        """Backpropagate: write the flat gradient to `out`, return the loss as a 0-d array."""
        losses = Pass(self._net_ops, params, out).losses_and_gradient(x, self._for_loss(t), NONE)
        return self._mean(losses)

    def loss_with(self, params: Array, x: Array, t: Array, extras: Extras) -> Array:
        """Return the mean loss of weighted samples, or of one with dropout, as a 0-d array."""
        losses = Pass(self._net_ops, params).losses(x, self._for_loss(t), extras)
        return self._mean(losses, extras.weights)

    def gradient_with(self, params: Array, x: Array, t: Array, extras: Extras, out: Array) -> None:
        """Write the flat gradient of `loss_with` to `out`."""
        Pass(self._net_ops, params, out).gradient(x, self._for_loss(t), extras)

    def weighted_accuracy(self, params: Array, x: Array, t: Array, weights: Array) -> float:
        """Return the share of the samples' weight that is classified right."""
        xp = self.backend.xp
        hits = xp.astype(self.hits(self.scores(params, x), t), weights.dtype)
        if hits.ndim > 1:
            hits = self.backend.sum(hits, -1) / hits.shape[-1]
        total = self._number(xp.sum(weights))
        if total == 0.0:
            msg = "sample_weight is 0 for every sample: their accuracy is undefined"
            raise ValueError(msg)
        return self._number(xp.sum(weights * hits)) / total

    def hits(self, scores: Array, t: Array) -> Array:
        """Return which samples, or labels if there are several outputs, are classified right."""
        xp = self.backend.xp
        hits = getattr(self.spec.loss, "hits", None)
        if hits is not None:
            found: Array = hits(scores, self._targets(t), backend=self.backend)
            return found
        labels = t if xp.isdtype(t.dtype, "integral") else xp.argmax(t, axis=-1)
        # In int64, because a narrow label type may not hold every class.
        hit = xp.argmax(scores, axis=-1) == xp.astype(labels, self.backend.dtype("int64"))
        # The maximum of scores with a NaN is NaN, and then no class is predicted.
        return hit & ~xp.isnan(xp.max(scores, axis=-1))

    def smoothed(self, t: Array) -> Array:
        """Return targets with the net's label smoothing, of shape (n, outputs) if there is any."""
        share = self.spec.label_smoothing
        if share == 0.0:
            return t
        return (1.0 - share) * self._targets(t) + share * cast("float", self.spec.even_target)

    def masks(self, dropout: Dropout, update: int, rows: int) -> tuple[Array, ...]:
        """Return the dropout masks of the hidden layers, drawn on the host."""
        return tuple(
            self.backend.asarray(dropout.factors(update, layer, rows, units), self.dtype)
            for layer, units in enumerate(self.spec.sizes[1:-1])
        )

    def numerical_gradient(
        self,
        params: Array,
        x: Array,
        t: Array,
        *,
        method: str,
        step: float,
        extras: Extras | None = None,
    ) -> Array:
        """Return the flat gradient by true finite differences with the given step.

        Structured: moving one weight moves the pre-activation of one unit, so only the layers after
        that unit are evaluated again, for all its weights at once. Changes of activations and of
        the loss are computed without cancellation, so they are as accurate at a step of 1e-4 as at
        one of 0.5.
        """
        layers, extras = self._layers(params), extras or NONE
        inputs, pre = self._forward(layers, x, extras.masks)
        point = Point(
            self._net_ops, self.dtype, layers, inputs, pre, self._targets(t), extras, self._mean
        )
        out = self.backend.zeros(self.spec.size, self.dtype)
        for i, (grad_w, grad_b) in enumerate(self._layers(out)):
            moved_by = point.moved_by(i)
            for unit in range(grad_w.shape[1]):
                for rows in point.chunks(moved_by, i):
                    # Row k: the change of the pre-activation per unit change of weight k.
                    moves = moved_by[rows, :]
                    derivative = sum(
                        weight * point.loss_change(i, unit, moves * (sign * step))
                        for sign, weight in DIFFERENCES[method]
                    )
                    store(grad_w, grad_b, unit, rows, derivative / step)
        return out

    def checked_differences(
        self,
        params: Array,  # noqa: ARG002 - others use them
        x: Array,  # noqa: ARG002
        t: Array,  # noqa: ARG002
        *,
        method: str,  # noqa: ARG002
        step: float,  # noqa: ARG002
    ) -> Array | None:
        """Return `numerical_gradient`, or None where the caller must look at targets and step.

        The step is one below 1 that rounding may keep from moving some parameter.
        """
        return None

    def train(
        self,
        state: TrainingState,
        data: Dataset,
        order: np.ndarray,
        batch: int,
        *,
        rates: np.ndarray | None = None,
        weights: Array | None = None,
        clip: float | None = None,
        dropout: Dropout | None = None,
    ) -> np.ndarray:
        """Do one update per batch and return each batch's loss before its update.

        A non-finite loss stops the training before its update, and is the last one returned.

        Parameters
        ----------
        state : TrainingState
            Updated in place.
        data : Dataset
            As returned by `Backend.prepare`.
        order : numpy.ndarray of int
            The sample indices of all batches, concatenated.
        batch : int
            Samples per batch; the last one may be shorter.
        rates : numpy.ndarray of float64, optional
            The learning rate of each update; by default that of the optimizer.
        weights : array of shape (data.size,), optional
            The weight of each sample, in the engine's dtype. The loss of a batch of n samples is
            Σ wₛ lₛ / n.
        clip : float, optional
            The largest norm of a gradient, before weight decay: a larger one is scaled down to it.
        dropout : Dropout, optional
            Draws the units that each update drops.

        Returns
        -------
        numpy.ndarray of float64
            One loss per batch.
        """
        backend, most = self.backend, min(batch, order.shape[0])
        losses: list[float] = []
        for index, x, t in self._batches(state, data, order, batch):
            extras = NONE
            if weights is not None or dropout is not None:
                extras = Extras(
                    None if weights is None else backend.xp.take(weights, index, axis=0),
                    () if dropout is None else self.masks(dropout, state.step, x.shape[0]),
                )
            rate = None if rates is None else float(rates[len(losses)])
            losses.append(self._number(self._gradient_of(state, x, t, extras, most)))
            if not math.isfinite(losses[-1]):
                break
            if clip is not None:
                self._clip(state.grads, clip)
            state.step += 1
            self._update(state, rate)
        return np.array(losses)

    # Helpers --------------------------------------------------------------------------------

    def _clip(self, grads: Array, most: float) -> None:
        """Scale a gradient down to the norm `most`, as in torch."""
        xp = self.backend.xp
        norm = self._number(xp.sqrt(xp.sum(grads * grads)))
        if norm + CLIP_EPS > most:
            grads *= most / (norm + CLIP_EPS)

    def _update(self, state: TrainingState, rate: float | None = None) -> None:
        xp, rule = self.backend.xp, state.optimizer
        if not isinstance(rule, UpdateRule) or rule.updates_itself:
            # A user-defined optimiser does not tell weights from biases.
            own = cast("OwnOptimizer", rule)
            if rate is not None and rate != getattr(own, "lr", None):
                msg = (
                    f"{type(own).__name__} updates with its own learning rate and takes no other: "
                    f"leave the rates out"
                )
                raise TypeError(msg)
            own.update(state.params, state.grads, state.slots, state.step, xp)
            return
        decayed = 1.0 if rule.weight_decay == 0.0 or rule.decay_biases else self._weights
        apply = rule.apply
        if type(rule) in RULES.values():
            scratch = self._scratch_of(state)
            for place, p, g, slots in state.pieces:
                part = decayed if isinstance(decayed, float) else decayed[place]
                memory = None if scratch is None else scratch[: place.stop - place.start]
                rule.apply(p, g, slots, state.step, xp, rate=rate, decayed=part, scratch=memory)
            return
        if isinstance(rule, OwnRule):
            from accelnn.backends._resolve import use_backend

            # Its function is mapped by the active backend.
            apply = use_backend(self.backend)(apply)
        apply(state.params, state.grads, state.slots, state.step, xp, rate=rate, decayed=decayed)

    def _scratch_of(self, state: TrainingState) -> Array | None:
        """Return memory for what an update computes in between, after cutting it into pieces."""
        parts = [state.params, state.grads, *state.slots]
        if len(state.parts) != len(parts) or not all(map(operator.is_, state.parts, parts)):
            state.parts, state.pieces = parts, []
            size = self.spec.size
            state.scratch = self.backend.memory_for((min(size, PIECE),), self.dtype)
            for place in slices(size, size if state.scratch is None else PIECE):
                slots = [slot[place] for slot in state.slots]
                state.pieces.append((place, state.params[place], state.grads[place], slots))
        return state.scratch

    @cached_property
    def _weights(self) -> Array:
        """1 for each weight in the flat buffer, and 0 for each bias."""
        found = np.zeros(self.spec.size, self.dtype)
        for parameter in self.spec.parameters:
            if len(parameter.shape) > 1:
                found[parameter.start : parameter.stop] = 1.0
        return self.backend.asarray(found)

    def _batches(
        self, state: TrainingState, data: Dataset, order: np.ndarray, batch: int
    ) -> Iterator[tuple[Array, Array, Array]]:
        """Yield the sample indices, samples and targets of each batch, in memory that is kept."""
        backend, on_device = self.backend, self.backend.asarray(order)
        x = t = None
        # An index out of range is an error where nothing is kept.
        if type(data).take is Dataset.take and _is_within(order, data.size):
            most = min(batch, order.shape[0])
            if state.batch is None or state.batch[0] is not data or state.batch[1] < most:
                x = backend.memory_for((most, data.inputs), self.dtype)
                t = backend.memory_for((most, *data.t.shape[1:]), data.t.dtype)
                state.batch = data, most, x, t
            _, _, x, t = state.batch
        for rows in slices(order.shape[0], batch):
            index = on_device[rows]
            if x is None or t is None:
                yield index, *data.take(index)
                continue
            n = rows.stop - rows.start
            yield (
                index,
                backend.take(data.x, index, x if n == len(x) else x[:n]),
                backend.take(data.t, index, t if n == len(t) else t[:n]),
            )

    def _pass_of(self, state: TrainingState, rows: int) -> Pass:
        """Return the pass of a run, whose memory is kept in its state; `rows` is a batch's size."""
        kept = state.kept
        parts = [self, state.params, state.grads]
        # A state's parts may be exchanged between calls.
        if kept is None or kept[0].rows < rows or not all(map(operator.is_, kept[1], parts)):
            kept = Pass(self._net_ops, state.params, state.grads, rows, self.dtype), parts
            state.kept = kept
        return kept[0]

    def _mean_loss(self, scores: Array, t: Any) -> Array:
        """Return the mean of the samples' losses as a 0-d array."""
        return self._mean(self._loss.value(scores, t))

    def _mean(self, per_sample: Array, weights: Array | None = None) -> Array:
        """Return the weighted mean over the last axis, that of samples."""
        if per_sample.ndim == 0:
            msg = (
                f"the loss {self.spec.loss.name!r} returned one number; it must return the loss of "
                f"each sample, of shape (..., n); the net takes the mean"
            )
            raise TypeError(msg)
        if weights is not None:
            per_sample = per_sample * weights
        return self.backend.sum(per_sample, -1) / per_sample.shape[-1]

    def _gradient_of(
        self, state: TrainingState, x: Array, t: Array, extras: Extras, rows: int
    ) -> Array:
        """Write a batch's gradient to the state and return its loss; batches have up to `rows`."""
        if state.gradient == "analytic":
            is_long = x.shape[0] * self.spec.size > LONG
            with state.listening() if is_long else nullcontext():
                return self._analytic(state, x, t, extras, rows)
        loss = self.loss_with(state.params, x, t, extras)
        with state.listening():
            gradient = self._numerical_gradient_in_double(state.params, x, t, extras)
        state.grads[...] = gradient
        return loss

    def _analytic(
        self, state: TrainingState, x: Array, t: Array, extras: Extras, rows: int
    ) -> Array:
        """Write a batch's gradient by backpropagation, and return its loss."""
        is_portable = type(self).loss_and_gradient is _portable_loss_and_gradient
        if extras.is_empty and not is_portable:
            return self.loss_and_gradient(state.params, x, t, state.grads)
        losses = self._pass_of(state, rows).losses_and_gradient(x, self._for_loss(t), extras)
        return self._mean(losses, extras.weights)

    def _numerical_gradient_in_double(
        self, params: Array, x: Array, t: Array, extras: Extras
    ) -> Array:
        xp, backend = self.backend.xp, self.backend
        double = backend.dtype("float64")
        params, x = xp.astype(params, double), xp.astype(x, double)
        if not xp.isdtype(t.dtype, "integral"):
            t = xp.astype(t, double)
        if extras.weights is not None:
            extras = extras._replace(weights=xp.astype(extras.weights, double))
        extras = extras._replace(masks=tuple(xp.astype(mask, double) for mask in extras.masks))
        gradient = backend.engine(self.spec, "float64").numerical_gradient(
            params, x, t, method="central", step=1e-4, extras=extras
        )
        return xp.astype(gradient, backend.dtype(self.dtype))

    def _layers(self, flat: Array) -> list[tuple[Array, Array | None]]:
        return self.spec.layers(flat, self.backend.xp)

    def _targets(self, t: Array) -> Array:
        """Return targets of shape (n, outputs), with labels as one-hot rows."""
        if t.ndim == 1:
            if self.spec.sizes[-1] == 1 and getattr(self.spec.loss, "takes_bits", False):
                return self.backend.xp.astype(t[:, None], self.backend.dtype(self.dtype))
            return self.backend.one_hot(t, self.spec.sizes[-1], self.dtype)
        return t

    def _for_loss(self, t: Array) -> Any:
        """Return targets of shape (n, outputs), or labels for a loss that takes them."""
        if t.ndim > 1:
            return t
        return Labels(t) if self._loss.takes_labels else self._targets(t)

    def _forward(
        self, layers: list[tuple[Array, Array | None]], x: Array, masks: tuple[Array, ...] = ()
    ) -> tuple[list[Array], list[Array]]:
        """Return every layer's input and every layer's pre-activation."""
        inputs: list[Array] = []
        pre: list[Array] = []
        for i, (w, b) in enumerate(layers):
            inputs.append(x if i == 0 else self._activations[i - 1].value(pre[-1], None))
            if masks and i > 0:
                inputs[-1] = inputs[-1] * masks[i - 1]
            z = inputs[-1] @ w
            pre.append(z if b is None else z + b)
        return inputs, pre

    def _number(self, x: Array) -> float:
        return float(self.backend.to_numpy(x))


_portable_loss_and_gradient = Engine.loss_and_gradient


def _is_within(order: np.ndarray, size: int) -> bool:
    return order.size > 0 and bool(order.min() >= 0 and order.max() < size)
