"""Training strategies: how the updates of a run are launched on the device.

Each is called with some `Updates`, and does them until a loss is not finite. The engine chooses
one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from accelnn._typing import Array
from accelnn.backends._rules import coefficients_of, decays_of, numbers_of
from accelnn.backends._training import Dataset, TrainingState
from accelnn.backends.cupy.dataset import NULL
from accelnn.backends.cupy.formulas import MOST_NUMBERS, RULES
from accelnn.backends.cupy.launch import FLAGS, TERMS, kernels_of, resident_kernel
from accelnn.backends.cupy.resident import Layout
from accelnn.formulas._dropout import Dropout
from accelnn.formulas._rule import UpdateRule

if TYPE_CHECKING:
    from accelnn.backends.cupy.engine import CupyEngine

__all__ = [
    "OneLaunch",
    "Plan",
    "Products",
    "Replayed",
    "Resident",
    "Training",
    "Updates",
    "dropout_arguments",
]

# The learning rate that a kernel is told if every update has its own.
BY_SCHEDULE = -1.0
# Updates per graph.
CAPTURED = 32
# Threads per block of kernels that loop over elements.
ELEMENT_THREADS = 256
# Tags that distinguish the messages of updates are counted modulo this.
TAGS = 1 << 31


class Plan(NamedTuple):
    """What calls of `Engine.train` have in common that share a run.

    Attributes
    ----------
    data : Dataset
        The samples.
    weights : array of shape (data.size,) or None
        Their weights.
    batch : int
        Samples per batch.
    most : int
        Samples of the largest batch, less than `batch` if there are fewer samples. Sums are split,
        and so rounded, by it.
    is_scheduled : bool
        Whether every update has its own learning rate.
    clip : float or None
        The largest norm of a gradient.
    dropout : Dropout or None
        Draws the units that are dropped.
    """

    data: Dataset
    weights: Array | None
    batch: int
    most: int
    is_scheduled: bool
    clip: float | None
    dropout: Dropout | None

    def is_same(self, other: Plan) -> bool:
        """Return whether another plan is this one."""
        is_same_data = self.data is other.data and self.weights is other.weights
        return is_same_data and self[2:] == other[2:]


class Updates(NamedTuple):
    """Consecutive updates of a run, on the device.

    Attributes
    ----------
    order : array of int64, shape (samples,)
        The samples of all batches, concatenated.
    losses : array of float64, shape (samples,)
        For the loss of each.
    coefficients : array of float64, shape (updates, 3)
        The coefficients and rates of the rule.
    numbers : array of uint32, shape (updates,), optional
        The number of updates before each, with which dropout draws its units.
    """

    order: Array
    losses: Array
    coefficients: Array
    numbers: Array | np.uint64 = NULL


class Training:
    """One run: its kernel arguments, and the buffers that all updates share.

    Parameters
    ----------
    engine : CupyEngine
        The engine of the net.
    state : TrainingState
        The state of the run.
    plan : Plan
        What its calls have in common.
    """

    def __init__(self, engine: CupyEngine, state: TrainingState, plan: Plan) -> None:
        self.engine, self.plan = engine, plan
        self.batch, self.most = plan.batch, plan.most
        rule, self.rows = cast("UpdateRule", state.optimizer), engine.rows(plan.data)
        if plan.weights is not None:
            self.rows = self.rows._replace(weights=plan.weights)
        self.variant = engine.variant(self.rows, rule)._replace(
            scheduled=plan.is_scheduled,
            drops=plan.dropout is not None,
            clips=plan.clip is not None,
        )
        self.kernels = kernels_of(engine.backend, self.variant)
        self.optimizer = rule
        self.params, self.grads, self.slots = state.params, state.grads, state.slots
        # Kernels take two slots; those that a rule lacks are valid pointers but never accessed.
        slots = [*state.slots, state.params, state.params][:2]
        self.flags = engine.backend.zeros(FLAGS, np.uint32)
        self.state = (state.params, *slots, np.int32(engine.spec.size), self.flags)
        own = [*numbers_of(rule), 0.0, 0.0, 0.0][:MOST_NUMBERS]
        numbers = BY_SCHEDULE if plan.is_scheduled else rule.lr, *own, *decays_of(rule)
        self.rule_numbers = (np.int32(RULES.index(type(rule).__name__)), *map(np.float64, numbers))
        self._dropout = dropout_arguments(plan.dropout, engine.dtype)
        self.values, self.errors = engine.trace(plan.most)
        zeros = engine.backend.zeros
        self._results = zeros(0, np.float64), zeros(0, np.float64)
        self._unread = zeros((0, 3), np.float64)
        self._blocks = 2 * self.kernels.processors
        # A sum of each block, for the norm of a gradient.
        is_clipped = plan.clip is not None
        self._squares = engine.backend.zeros(self._blocks, np.float64) if is_clipped else NULL

    def goes_on(self, state: TrainingState, plan: Plan) -> bool:
        """Return whether a call of `Engine.train` with these arguments can reuse this run."""
        return (
            self.plan.is_same(plan)
            and self.optimizer == state.optimizer
            and self.params is state.params
            and self.grads is state.grads
            and self.slots is state.slots
        )

    def numbers(self, first: int, steps: int) -> Array | np.uint64:
        """Return how many updates there were before each from `first` on, if units are dropped."""
        if self.plan.dropout is None:
            return NULL
        # The generator counts with 32 bits.
        numbers = np.arange(first - 1, first - 1 + steps).astype(np.uint32)
        return self.engine.backend.asarray(numbers)

    def coefficients(self, first: int, steps: int, rates: np.ndarray | None = None) -> Array:
        """Return the rule's coefficients and rates from update `first` on, of shape (steps, 3)."""
        if rates is None and type(self.optimizer).coefficients is UpdateRule.coefficients:
            # Its kernel has the rate, and reads none of them.
            if self._unread.shape[0] < steps:
                self._unread = self.engine.backend.zeros((steps, 3), np.float64)
            return self._unread
        told, rate = np.empty((steps, 3)), cast("float", self.optimizer.lr)
        told[:, 2] = rate if rates is None else rates
        told[:, :2] = coefficients_of(self.optimizer, told[:, 2], first, steps).T
        return self.engine.backend.asarray(told)

    def results(self, samples: int) -> tuple[Array, Array]:
        """Return arrays for the losses of so many samples, and for the mean of each batch.

        They are kept from call to call. After a loss that stops one, there are those of an earlier
        call, which nobody reads.
        """
        if self._results[0].size != samples:
            empty, steps = self.engine.backend.xp.empty, math.ceil(samples / self.batch)
            self._results = empty(samples), empty(steps)
        return self._results

    def rule(self, coefficients: Array) -> tuple[Any, ...]:
        """Return the parameters, the optimiser and its state as kernel arguments."""
        return (*self.state, *self.rule_numbers, coefficients)

    def dropout(self, numbers: Array | np.uint64) -> tuple[Any, ...]:
        """Return the dropout of updates of these numbers as kernel arguments."""
        return (*self._dropout, numbers)

    def update_parameters(self, coefficients: Array, step: int) -> None:
        """Launch what updates all parameters by their gradient, clipped if it is to be."""
        if self.plan.clip is not None:
            arguments = self.grads, self.engine.size, self._squares
            self.launch("gradient_squares", *arguments)
        clipping = np.float64(self.plan.clip or 0.0), self._squares, np.int32(self._blocks)
        head = (*self.rule(coefficients), *self.engine.layers, np.int64(step), self.grads)
        self.launch("update_parameters", *head, *clipping)

    def launch(self, name: str, *arguments: Any) -> None:
        """Launch a kernel whose threads loop over elements."""
        threads = self.kernels.whole_warps(name, ELEMENT_THREADS)
        self.kernels.launch(name, self._blocks, threads, arguments)

    def told(self, order: Array, losses: Array, samples: int) -> tuple[Any, ...]:
        """Return the net, a batch, and the buffers of its trace as kernel arguments."""
        return self.engine.told(self.rows, order, samples, self.values, self.errors, losses)


class Resident:
    """All updates in one launch, whose blocks keep the net and exchange results.

    Parameters
    ----------
    training : Training
        The run.
    layout : Layout
        The parts of the net that blocks keep.
    """

    def __init__(self, training: Training, layout: Layout) -> None:
        self.training, self._layout = training, layout
        backend = training.engine.backend
        self._kernel = resident_kernel(backend, training.variant, layout)
        self._words = [backend.zeros(size, np.uint64) for size in layout.words]
        # The tag of the next update; zeroed words belong to none.
        self._tag = 1

    def __call__(self, updates: Updates) -> None:
        """Do one update per batch."""
        run, layout = self.training, self._layout
        order, losses, coefficients, _ = updates
        x, divisor, t, weights = run.rows
        rows = x, divisor, t, order, np.int64(order.size), weights
        net = run.engine.activation_number, run.engine.loss_number
        arguments = (
            *run.state,
            *run.rule_numbers,
            coefficients,
            *rows,
            *net,
            losses,
            np.uint32(self._tag),
            *self._words,
        )
        self._tag = (self._tag + math.ceil(order.size / run.batch)) % TAGS
        blocks, threads, shared = layout.blocks, layout.threads, layout.shared_bytes
        self._kernel((blocks,), (threads,), arguments, shared_mem=shared)


@dataclass(frozen=True)
class OneLaunch:
    """All updates in one launch, with two grid barriers per update."""

    training: Training

    def __call__(self, updates: Updates) -> None:
        """Do one update per batch."""
        run, spec, kernels = self.training, self.training.engine.spec, self.training.kernels
        order, losses, coefficients, numbers = updates
        samples = min(run.batch, order.size)
        told = run.told(order, losses, samples)
        threads = kernels.threads("train", spec)
        # No more blocks than have work, because a barrier waits for all.
        sums = spec.size * math.ceil(samples / TERMS)
        blocks = min(kernels.processors, max(samples, math.ceil(sums / threads)))
        head = (*run.rule(coefficients), np.int64(order.size))
        arguments = (*head, *run.dropout(numbers), *told)
        kernels.launch("train", blocks, threads, arguments)


@dataclass(frozen=True)
class StepByStep:
    """Each update launched by itself."""

    training: Training

    def __call__(self, updates: Updates) -> None:
        """Do one update per batch."""
        (order, losses, *told), batch = updates, self.training.batch
        for step, start in enumerate(range(0, order.size, batch)):
            piece = slice(start, min(start + batch, order.size))
            self.take_step(Updates(order[piece], losses[piece], *told), step)

    def take_step(self, updates: Updates, step: int) -> None:
        """Do update number `step` of this call, whose samples and losses alone are given."""
        raise NotImplementedError


class Halves(StepByStep):
    """The halves of an update in a launch each, or more if the gradient is clipped in between."""

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of the kernels of an update."""
        if self.training.plan.clip is None:
            return "batch_errors", "batch_update"
        return "batch_errors", "batch_gradient", "gradient_squares", "update_parameters"

    def take_step(self, updates: Updates, step: int) -> None:
        """See `StepByStep.take_step`."""
        run, spec, kernels = self.training, self.training.engine.spec, self.training.kernels
        order, losses, coefficients, numbers = updates
        told, at = run.told(order, losses, order.size), np.int64(step)
        threads = kernels.threads("batch_errors", spec, order.size)
        head = (run.params, run.flags, *run.dropout(numbers), at)
        kernels.launch("batch_errors", order.size, threads, (*head, *told))
        if run.plan.clip is None:
            threads = kernels.threads("batch_update", spec)
            arguments = (*run.rule(coefficients), at, *told)
            kernels.launch("batch_update", kernels.processors, threads, arguments)
            return
        threads = kernels.threads("batch_gradient", spec)
        arguments = (run.grads, run.engine.size, *told)
        kernels.launch("batch_gradient", kernels.processors, threads, arguments)
        run.update_parameters(coefficients, step)


@dataclass(frozen=True)
class Replayed:
    """Updates of some launches each, captured as a CUDA graph and replayed."""

    training: Training

    def __call__(self, updates: Updates) -> None:
        """Do one update per batch."""
        length = CAPTURED * self.training.batch
        whole = updates.order.size // length
        for i in range(whole):
            samples, steps = (slice(i * n, (i + 1) * n) for n in (length, CAPTURED))
            graph, own = self._captured
            piece = _part(updates, samples, steps)
            own.order[...], own.coefficients[...] = piece.order, piece.coefficients
            if self.training.plan.dropout is not None:
                cast("Array", own.numbers)[...] = piece.numbers
            graph.launch()
            piece.losses[...] = own.losses
        rest = slice(whole * length, None), slice(whole * CAPTURED, None)
        Halves(self.training)(_part(updates, *rest))

    @cached_property
    def _captured(self) -> tuple[Any, Updates]:
        """The graph, and what it reads and writes."""
        backend, length = self.training.engine.backend, CAPTURED * self.training.batch
        own = Updates(
            backend.zeros(length, np.int64),
            backend.zeros(length, np.float64),
            backend.zeros((CAPTURED, 3), np.float64),
            self.training.numbers(1, CAPTURED),
        )
        halves, kernels = Halves(self.training), self.training.kernels
        for name in halves.kernels:
            # Compiles the kernel, which must not happen during capture.
            kernels.threads(name, self.training.engine.spec)
        # The default stream cannot be captured.
        stream = backend.xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            halves(own)
            graph = stream.end_capture()
        return graph, own


class Products(StepByStep):
    """Matrix products by cuBLAS, the rest in fused kernels; not captured as a graph."""

    def take_step(self, updates: Updates, step: int) -> None:
        """See `StepByStep.take_step`."""
        run = self.training
        order, losses, coefficients, numbers = updates
        dropout = (*run.dropout(numbers), np.int64(step))
        rows = [buffer[: order.size] for buffer in self._values]
        errors = [buffer[: order.size] for buffer in self._errors]
        told = run.rows.told(order, order.size)
        self.training.launch("gather_rows", np.int32(rows[0].shape[1]), *told, rows[0])
        self._forward(rows, dropout)
        scores, (_, b) = rows[-1], self._layers[-1]
        head = (scores, _address(b), run.engine.loss_number, np.int32(scores.shape[1]))
        self.training.launch("output_errors", *head, *told, errors[-1], losses, run.flags)
        self._backward(rows, errors, dropout)
        run.update_parameters(coefficients, step)

    def _forward(self, rows: list[Array], dropout: tuple[Any, ...]) -> None:
        last = len(self._layers) - 1
        for i, (w, b) in enumerate(self._layers):
            z = rows[i + 1]
            self._xp.matmul(rows[i], w, out=z)
            if i < last:
                told = (np.int64(z.size), np.int32(z.shape[1]), self._activation, np.int32(i))
                self.training.launch(
                    "hidden_values", z, _address(b), self._kept[i], *told, *dropout
                )

    def _backward(self, rows: list[Array], errors: list[Array], dropout: tuple[Any, ...]) -> None:
        for i in reversed(range(len(errors))):
            grad_w, grad_b = self._grads[i]
            self._xp.matmul(rows[i].T, errors[i], out=grad_w)
            if grad_b is not None:
                ones = self._ones[:, : len(errors[i])]
                self._xp.matmul(ones, errors[i], out=grad_b[None, :])
            if i > 0:
                self._xp.matmul(errors[i], self._layers[i][0].T, out=errors[i - 1])
                z, layer = rows[i], np.int32(i - 1)
                told = (np.int64(z.size), np.int32(z.shape[1]), self._activation, layer)
                self.training.launch(
                    "hidden_errors", errors[i - 1], z, self._kept[i - 1], *told, *dropout
                )

    @property
    def _activation(self) -> np.int32:
        return self.training.engine.activation_number

    @property
    def _xp(self) -> Any:
        return self.training.engine.backend.xp

    @cached_property
    def _layers(self) -> list[tuple[Array, Array | None]]:
        return self.training.engine.spec.layers(self.training.params, self._xp)

    @cached_property
    def _grads(self) -> list[tuple[Array, Array | None]]:
        return self.training.engine.spec.layers(self.training.grads, self._xp)

    @cached_property
    def _values(self) -> list[Array]:
        """Buffers for the samples, the values of every hidden layer, and the scores."""
        return self._buffers(self.training.engine.spec.sizes)

    @cached_property
    def _errors(self) -> list[Array]:
        """Buffers for the errors of every layer but the input."""
        return self._buffers(self.training.engine.spec.sizes[1:])

    @cached_property
    def _kept(self) -> list[Any]:
        """Buffers for what the slopes of every hidden layer need besides its values."""
        run = self.training
        hidden = run.engine.spec.sizes[1:-1]
        is_kept = run.engine.keeps_pre_activation or run.plan.dropout is not None
        return self._buffers(hidden) if is_kept else [NULL] * len(hidden)

    @cached_property
    def _ones(self) -> Array:
        """A row of ones: multiplying by it sums columns."""
        return self._xp.ones((1, self.training.most), self.training.engine.dtype)

    def _buffers(self, widths: tuple[int, ...]) -> list[Array]:
        most, dtype = self.training.most, self.training.engine.dtype
        return [self._xp.empty((most, width), dtype) for width in widths]


def dropout_arguments(dropout: Dropout | None, dtype: str) -> tuple[Any, ...]:
    """Return a dropout as kernel arguments, which the numbers of updates, or NULL, follow."""
    p, seed = dropout or (0.0, 0)
    scale = np.dtype(dtype).type(1.0 / (1.0 - p))
    return np.uint64(round(p * 2**32)), scale, np.uint64(seed)


def _part(updates: Updates, samples: slice, steps: slice) -> Updates:
    """Return some of the updates: their samples, and which they are."""
    order, losses, coefficients, numbers = updates
    own = numbers if numbers is NULL else cast("Array", numbers)[steps]
    return Updates(order[samples], losses[samples], coefficients[steps], own)


def _address(b: Array | None) -> Any:
    return NULL if b is None else b
