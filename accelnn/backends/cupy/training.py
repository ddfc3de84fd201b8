"""Training strategies: how the updates of a run are launched on the device.

Each is called with the order of the samples and a buffer for their losses, both on the device, and
does one update per batch until a loss is not finite. The engine chooses one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from accelnn._typing import Array
from accelnn.backends._rules import coefficients_of, decays_of, numbers_of
from accelnn.backends._training import Dataset, TrainingState
from accelnn.backends.cupy.dataset import NULL
from accelnn.backends.cupy.formulas import MOST_NUMBERS, RULES
from accelnn.backends.cupy.launch import FLAGS, TERMS, kernels_of, resident_kernel
from accelnn.backends.cupy.resident import Layout
from accelnn.formulas._rule import UpdateRule

if TYPE_CHECKING:
    from accelnn.backends.cupy.engine import CupyEngine

__all__ = ["OneLaunch", "Products", "Replayed", "Resident", "Training"]

# The learning rate that a kernel is told if every update has its own.
BY_SCHEDULE = -1.0
# Updates per graph.
CAPTURED = 32
# Tags that distinguish the messages of updates are counted modulo this.
TAGS = 1 << 31


class Training:
    """One run: its kernel arguments, and the buffers that all updates share.

    Parameters
    ----------
    engine : CupyEngine
        The engine of the net.
    state, data : TrainingState, Dataset
        The state of the run, and its data.
    batch : int
        Samples per batch.
    most : int
        Samples of the largest batch, less than `batch` if there are fewer samples.
    scheduled : bool
        Whether every update has its own learning rate.
    weights : array of shape (data.size,), optional
        The weights of the samples.
    """

    def __init__(
        self,
        engine: CupyEngine,
        state: TrainingState,
        data: Dataset,
        batch: int,
        most: int,
        *,
        scheduled: bool,
        weights: Array | None,
    ) -> None:
        self.engine, self.data, self.batch, self.most = engine, data, batch, most
        rule, self.scheduled = cast("UpdateRule", state.optimizer), scheduled
        self.rows, self.weights = engine.rows(data), weights
        if weights is not None:
            self.rows = self.rows._replace(weights=weights)
        self.variant = engine.variant(self.rows, rule, scheduled=scheduled)
        self.kernels = kernels_of(engine.backend, self.variant)
        self.optimizer = rule
        self.params, self.grads, self.slots = state.params, state.grads, state.slots
        # Kernels take two slots; those that a rule lacks are valid pointers but never accessed.
        slots = [*state.slots, state.params, state.params][:2]
        self.flags = engine.backend.zeros(FLAGS, np.uint32)
        self.state = (state.params, *slots, np.int32(engine.spec.size), self.flags)
        own = [*numbers_of(rule), 0.0, 0.0, 0.0][:MOST_NUMBERS]
        numbers = BY_SCHEDULE if scheduled else rule.lr, *own, *decays_of(rule)
        self.rule_numbers = (np.int32(RULES.index(type(rule).__name__)), *map(np.float64, numbers))
        self.values, self.errors = engine.trace(most)

    def goes_on(
        self,
        state: TrainingState,
        data: Dataset,
        batch: int,
        most: int,
        *,
        scheduled: bool,
        weights: Array | None,
    ) -> bool:
        """Return whether a call of `Engine.train` with these arguments can reuse this run."""
        return (
            self.data is data
            and (self.batch, self.optimizer) == (batch, state.optimizer)
            and self.scheduled == scheduled
            and self.weights is weights
            # Sums are split, and so rounded, by the number of samples.
            and self.most == most
            and self.params is state.params
            and self.grads is state.grads
            and self.slots is state.slots
        )

    def coefficients(self, first: int, steps: int, rates: np.ndarray | None = None) -> Array:
        """Return the rule's coefficients and rates from update `first` on, of shape (steps, 3)."""
        if rates is None and type(self.optimizer).coefficients is UpdateRule.coefficients:
            # Its kernel has the rate, and reads none of them.
            return self.engine.backend.zeros((steps, 3), np.float64)
        told, rate = np.empty((steps, 3)), cast("float", self.optimizer.lr)
        told[:, 2] = rate if rates is None else rates
        told[:, :2] = coefficients_of(self.optimizer, told[:, 2], first, steps).T
        return self.engine.backend.asarray(told)

    def rule(self, coefficients: Array) -> tuple[Any, ...]:
        """Return the parameters, the optimiser and its state as kernel arguments."""
        return (*self.state, *self.rule_numbers, coefficients)

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

    def __call__(self, order: Array, losses: Array, coefficients: Array) -> None:
        """Do one update per batch."""
        run, layout = self.training, self._layout
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

    def __call__(self, order: Array, losses: Array, coefficients: Array) -> None:
        """Do one update per batch."""
        run, spec, kernels = self.training, self.training.engine.spec, self.training.kernels
        samples = min(run.batch, order.size)
        told = run.told(order, losses, samples)
        threads = kernels.threads("train", spec)
        # No more blocks than have work, because a barrier waits for all.
        sums = spec.size * math.ceil(samples / TERMS)
        blocks = min(kernels.processors, max(samples, math.ceil(sums / threads)))
        arguments = (*run.rule(coefficients), np.int64(order.size), *told)
        kernels.launch("train", blocks, threads, arguments)


@dataclass(frozen=True)
class StepByStep:
    """Each update launched by itself."""

    training: Training

    def __call__(self, order: Array, losses: Array, coefficients: Array) -> None:
        """Do one update per batch."""
        batch = self.training.batch
        for step, start in enumerate(range(0, order.size, batch)):
            piece = slice(start, min(start + batch, order.size))
            self.take_step(order[piece], losses[piece], coefficients, step)

    def take_step(self, order: Array, losses: Array, coefficients: Array, step: int) -> None:
        """Do update number `step` of this call."""
        raise NotImplementedError


class TwoLaunches(StepByStep):
    """Two launches per update."""

    def take_step(self, order: Array, losses: Array, coefficients: Array, step: int) -> None:
        """See `StepByStep.take_step`."""
        run, spec, kernels = self.training, self.training.engine.spec, self.training.kernels
        told = run.told(order, losses, order.size)
        threads = kernels.threads("batch_errors", spec, order.size)
        kernels.launch("batch_errors", order.size, threads, (run.params, run.flags, *told))
        threads = kernels.threads("batch_update", spec)
        arguments = (*run.rule(coefficients), np.int64(step), *told)
        kernels.launch("batch_update", kernels.processors, threads, arguments)


@dataclass(frozen=True)
class Replayed:
    """Updates of two launches each, captured as a CUDA graph and replayed."""

    training: Training

    def __call__(self, order: Array, losses: Array, coefficients: Array) -> None:
        """Do one update per batch."""
        length = CAPTURED * self.training.batch
        whole = order.size // length
        for i in range(whole):
            samples, steps = (slice(i * n, (i + 1) * n) for n in (length, CAPTURED))
            graph, *inputs, output = self._captured
            for buffer, piece in zip(inputs, (order[samples], coefficients[steps]), strict=True):
                buffer[...] = piece
            graph.launch()
            losses[samples] = output
        rest, steps = slice(whole * length, None), slice(whole * CAPTURED, None)
        TwoLaunches(self.training)(order[rest], losses[rest], coefficients[steps])

    @cached_property
    def _captured(self) -> tuple[Any, Array, Array, Array]:
        """The graph, its inputs (order and coefficients), and its output (losses)."""
        backend, length = self.training.engine.backend, CAPTURED * self.training.batch
        order, losses = backend.zeros(length, np.int64), backend.zeros(length, np.float64)
        coefficients = backend.zeros((CAPTURED, 3), np.float64)
        kernels, spec = self.training.kernels, self.training.engine.spec
        for name in ("batch_errors", "batch_update"):
            # Compiles the kernel, which must not happen during capture.
            kernels.threads(name, spec)
        # The default stream cannot be captured.
        stream = backend.xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            TwoLaunches(self.training)(order, losses, coefficients)
            graph = stream.end_capture()
        return graph, order, coefficients, losses


class Products(StepByStep):
    """Matrix products by cuBLAS, the rest in fused kernels; not captured as a graph."""

    def take_step(self, order: Array, losses: Array, coefficients: Array, step: int) -> None:
        """See `StepByStep.take_step`."""
        run = self.training
        rows = [buffer[: order.size] for buffer in self._values]
        errors = [buffer[: order.size] for buffer in self._errors]
        told = run.rows.told(order, order.size)
        self._launch("gather_rows", np.int32(rows[0].shape[1]), *told, rows[0])
        self._forward(rows)
        scores, (_, b) = rows[-1], self._layers[-1]
        head = (scores, _address(b), run.engine.loss_number, np.int32(scores.shape[1]))
        self._launch("output_errors", *head, *told, errors[-1], losses, run.flags)
        self._backward(rows, errors)
        arguments = (*run.rule(coefficients), *run.engine.layers, np.int64(step), run.grads)
        self._launch("update_parameters", *arguments)

    def _forward(self, rows: list[Array]) -> None:
        last = len(self._layers) - 1
        for i, (w, b) in enumerate(self._layers):
            z = rows[i + 1]
            self._xp.matmul(rows[i], w, out=z)
            if i < last:
                told = (np.int64(z.size), np.int32(z.shape[1]), self._activation)
                self._launch("hidden_values", z, _address(b), self._pre[i], *told)

    def _backward(self, rows: list[Array], errors: list[Array]) -> None:
        for i in reversed(range(len(errors))):
            grad_w, grad_b = self._grads[i]
            self._xp.matmul(rows[i].T, errors[i], out=grad_w)
            if grad_b is not None:
                ones = self._ones[:, : len(errors[i])]
                self._xp.matmul(ones, errors[i], out=grad_b[None, :])
            if i > 0:
                self._xp.matmul(errors[i], self._layers[i][0].T, out=errors[i - 1])
                told = (rows[i], self._pre[i - 1], np.int64(rows[i].size), self._activation)
                self._launch("hidden_errors", errors[i - 1], *told)

    def _launch(self, name: str, *arguments: Any) -> None:
        kernels = self.training.kernels
        kernels.launch(name, 2 * kernels.processors, kernels.whole_warps(name, 256), arguments)

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
    def _pre(self) -> list[Any]:
        """Buffers for the pre-activations of every hidden layer, if the slope needs them."""
        hidden = self.training.engine.spec.sizes[1:-1]
        is_kept = self.training.engine.keeps_pre_activation
        return self._buffers(hidden) if is_kept else [NULL] * len(hidden)

    @cached_property
    def _ones(self) -> Array:
        """A row of ones: multiplying by it sums columns."""
        return self._xp.ones((1, self.training.most), self.training.engine.dtype)

    def _buffers(self, widths: tuple[int, ...]) -> list[Array]:
        most, dtype = self.training.most, self.training.engine.dtype
        return [self._xp.empty((most, width), dtype) for width in widths]


def _address(b: Array | None) -> Any:
    return NULL if b is None else b
