"""The fused engine of the Numba backend: compiled updates, evaluations and differences."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from accelnn._cached import cached_property
from accelnn._differences import DIFFERENCES
from accelnn._typing import Array
from accelnn.backends._engine import Engine
from accelnn.backends._rules import coefficients_of, decays_of, has_code_for, numbers_of
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import Dataset, Extras, Optimizer, TrainingState
from accelnn.backends.numba._jit import entry_of
from accelnn.backends.numba.dataset import (
    NARROW_COLUMNS,
    NO_LABELS,
    NOTHING,
    PackedDataset,
    kernel_array,
    kernel_data,
)
from accelnn.backends.numba.kernels.arguments import Data, Mask, Memory, Net, Rule
from accelnn.backends.numba.kernels.changes import Codes
from accelnn.backends.numba.kernels.clipping import squares_of
from accelnn.backends.numba.kernels.differences import Difference, Inputs, Scratch, differences
from accelnn.backends.numba.kernels.evaluation import evaluate, predict
from accelnn.backends.numba.kernels.interpolation import TABLES, Fits, coefficients_per_sample
from accelnn.backends.numba.kernels.losses import BINARY_CROSS_ENTROPY
from accelnn.backends.numba.kernels.nonzeros import has_many_zeros
from accelnn.backends.numba.kernels.observation import Point
from accelnn.backends.numba.kernels.packing import copy_parameters
from accelnn.backends.numba.kernels.training import train
from accelnn.backends.numba.kernels.updates import OWN_RULE, RULES, STORE_GRADIENT
from accelnn.backends.numba.layout import Layout, aligned_zeros, with_room
from accelnn.backends.numba.memory import memory_of_passes, memory_of_updates
from accelnn.backends.numba.own import (
    activation_change_code,
    activation_code,
    bend_of_activation,
    bend_of_loss,
    loss_change_code,
    loss_code,
    parameter_of,
    rule_code,
)
from accelnn.backends.numba.pieces import (
    NO_SQUARES,
    gradient_rule,
    most_samples,
    rows_of_pieces,
)
from accelnn.backends.numba.user_functions import NoCodeError, State, state_of
from accelnn.backends.numba.vectors import LANES
from accelnn.formulas._dropout import Dropout
from accelnn.formulas._own import Rule as OwnRule
from accelnn.formulas._rule import UpdateRule

if TYPE_CHECKING:
    from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["NumbaEngine"]

# The argument of a step without dropout.
NO_MASK = Mask(0, 1.0, 0)
# Samples times parameters of a batch for each of two threads, some microseconds: with less, they
# wait for each other longer than they compute. Many threads wait longer, and get that much more.
THREAD_WORK, MANY_TIMES = 100_000, 10
# Samples of a call with fewer are not compressed: packing the parameters would take as long as that
# saves.
FEW = 48
# Samples times parameters per call of the training kernel: some tenths of a second, so that Ctrl-C
# is handled promptly.
CALL_WORK = 10_000_000_000
# The same for the kernel of differences, where each move is propagated through all later layers;
# and the inputs of all layers and samples per call, and the coefficients of all units and samples,
# which bound its memory.
DIFFERENCE_WORK = 100_000_000
DIFFERENCE_INPUTS = 300_000
DIFFERENCE_COEFFICIENTS = 3_000_000


class NumbaEngine(Engine):
    """An engine of compiled loops that the backend's team of threads runs.

    It is stateless: parameters are packed into panels at the start of every call, and one call of
    `train` does many updates.
    """

    backend: NumbaBackend

    def __init__(self, backend: NumbaBackend, spec: NetSpec, dtype: str) -> None:
        super().__init__(backend, spec, dtype)
        self._dtype = np.dtype(dtype)
        self._lanes = LANES[self._dtype.type]
        formulas = (*spec.activations, spec.loss)
        self._own = [f for formula in formulas for f in getattr(formula, "functions", ())]
        # First, because it tells whether there is code at all.
        self._compile()
        self._parameters = np.array([parameter_of(formula) for formula in formulas])
        self._has_room: Callable[[], np.ndarray | None] = lambda: None
        self._entries: dict[tuple[object, int], Callable[..., Any]] = {}

    def _compile(self) -> None:
        """Look up the code of all formulas, and compile that of a user's own."""
        self._states: list[State] = list(map(state_of, self._own))
        codes = [activation_code(formula, self.dtype) for formula in self.spec.activations]
        self._layout = Layout.of(self.spec, self._dtype, codes)
        self._loss_code = loss_code(self.spec.loss)
        for name in ("_bends", "_change_codes", "_has_changes"):
            self.__dict__.pop(name, None)

    def _recompile_what_changed(self) -> None:
        """Compile a user's functions anew if what they look up is not what it was."""
        if self._own and self._states != list(map(state_of, self._own)):
            self._compile()

    def describe(self, batch: int = 100) -> str:
        """See `Engine.describe`."""
        threads = self._threads(batch)
        noun = "thread" if threads == 1 else "threads"
        return f"compiled: all steps of a call in one loop, on {threads} {noun}"

    def scores(self, params: np.ndarray, x: np.ndarray) -> Array:
        """See `Engine.scores`."""
        return self._outputs(params, x, as_scores=True)

    def predict(self, params: np.ndarray, x: np.ndarray) -> Array:
        """See `Engine.predict`."""
        return self._outputs(params, x, as_scores=False)

    def loss(self, params: np.ndarray, x: np.ndarray, t: np.ndarray) -> Array:
        """See `Engine.loss`."""
        loss, _ = self._evaluate(params, kernel_data(x, t), len(x))
        return self._scalar(loss)

    def evaluate(self, params: np.ndarray, data: Dataset) -> tuple[float, float | None]:
        """See `Engine.evaluate`."""
        if self._has_bits(data):
            return super().evaluate(params, data)
        loss, accuracy = self._evaluate(params, self._readable(params, data), data.size)
        return loss, accuracy if self.spec.loss.classifies else None

    def loss_and_gradient(
        self, params: np.ndarray, x: np.ndarray, t: np.ndarray, out: np.ndarray
    ) -> Array:
        """See `Engine.loss_and_gradient`."""
        gradient, data = kernel_array(out), kernel_data(x, t)
        compressed = self._has_many_zeros(params, data, len(x))
        loss = self._gradient(params, data, len(x), gradient, compressed=compressed)
        if compressed and math.isnan(loss):
            loss = self._gradient(params, data, len(x), gradient, compressed=False)
        if gradient is not out:
            out[...] = gradient
        return self._scalar(loss)

    def numerical_gradient(
        self,
        params: np.ndarray,
        x: np.ndarray,
        t: np.ndarray,
        *,
        method: str,
        step: float,
        extras: Extras | None = None,
    ) -> Array:
        """See `Engine.numerical_gradient`."""
        self._recompile_what_changed()
        is_finite = np.isfinite(params).all() and np.isfinite(x).all()
        has_code = self._dtype == np.float64 and self._has_changes
        if not has_code or not is_finite or not (extras or Extras()).is_empty:
            return super().numerical_gradient(params, x, t, method=method, step=step, extras=extras)
        samples, most = len(x), self._samples_of_differences()
        if samples <= most:
            return self._differences(params, x, t, method, step)
        out = np.zeros(self.spec.size)
        for start in range(0, samples, most):
            piece = slice(start, min(start + most, samples))
            gradient = self._differences(params, x[piece], t[piece], method, step)
            out += gradient * ((piece.stop - piece.start) / samples)
        return out

    def train(
        self,
        state: TrainingState,
        data: Dataset,
        order: np.ndarray,
        batch: int,
        *,
        rates: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        clip: float | None = None,
        dropout: Dropout | None = None,
    ) -> np.ndarray:
        """See `Engine.train`."""
        has_code = state.gradient == "analytic"
        told = None if self._has_bits(data) or not has_code else self._told(state.optimizer)
        if told is None:
            return super().train(
                state, data, order, batch, rates=rates, weights=weights, clip=clip, dropout=dropout
            )
        kind, code, numbers = told
        optimizer = cast("UpdateRule", state.optimizer)
        updates = -(-order.size // batch)
        rates = np.full(updates, optimizer.lr) if rates is None else rates
        rates = kernel_array(rates, np.float64)
        copies = max(1, len(state.slots))
        net, slots = self._net(state.params), self._packed_zeros(copies)
        coefficients = coefficients_of(optimizer, rates, state.step + 1, updates)
        gradient, squares = NOTHING[self._dtype], NO_SQUARES
        if clip is not None or min(batch, order.size) > self._most_samples:
            gradient = self._packed_zeros(1)
        if clip is not None:
            squares = np.zeros(squares_of(gradient.size, self._lanes))
        rule = Rule(
            kind,
            numbers,
            *decays_of(optimizer),
            slots,
            rates,
            coefficients,
            state.step,
            code,
            math.inf if clip is None else float(clip),
            gradient,
            squares,
        )
        mask = NO_MASK
        if dropout is not None:
            # The seed's bits as a signed number, which a kernel's integers are.
            seed = int(np.uint64(dropout.seed).astype(np.int64))
            mask = Mask(round(dropout.p * 2**32), 1.0 / (1.0 - dropout.p), seed)
        parts = np.split(slots, copies)
        for slot, part in zip(state.slots, parts, strict=False):
            self._pack(slot, part)
        losses = [np.zeros(0)]
        # The only dtype that the kernel is compiled for.
        order = order.astype(np.int64, casting="same_kind")
        steps = max(1, CALL_WORK // (batch * self.spec.size))
        for start in range(0, order.size, steps * batch):
            piece, readable = order[start : start + steps * batch], self._readable(net.params, data)
            if weights is not None:
                readable = readable._replace(weights=kernel_array(weights, np.float64))
            losses.append(_finite(self._train(net, readable, rule, piece, batch, state.step, mask)))
            # After every piece, so that an interrupt loses only the current one.
            self._unpack(net.params, state.params)
            for slot, part in zip(state.slots, parts, strict=False):
                self._unpack(part, slot)
            finished = int(np.isfinite(losses[-1]).sum())
            state.step += finished
            if finished < losses[-1].size:
                break
        return np.concatenate(losses)

    # Helpers ------------------------------------------------------------------------------------

    def _told(self, optimizer: Optimizer) -> tuple[int, int, np.ndarray] | None:
        """Return a rule's number, the address of a user's code, and hyperparameters, or None."""
        if has_code_for(optimizer, RULES, self._dtype):
            numbers = numbers_of(cast("UpdateRule", optimizer))
            return RULES.index(type(optimizer).__name__), 0, numbers
        if type(optimizer) is not OwnRule:
            return None
        try:
            return OWN_RULE, rule_code(optimizer, self._dtype.name), np.zeros(0)
        except NoCodeError:
            return None

    def _has_bits(self, data: Dataset) -> bool:
        """Return whether integer targets are those of a single output, not class labels."""
        is_single = self.spec.sizes[-1] == 1 and self.spec.loss.name == "binary_cross_entropy"
        return is_single and bool(np.issubdtype(data.t.dtype, np.integer))

    def _loss_with(self, params: np.ndarray, x: np.ndarray, t: np.ndarray, extras: Extras) -> Array:
        if extras.is_empty:
            return self.loss(params, x, t)
        return super()._loss_with(params, x, t, extras)

    def _scalar(self, number: float) -> np.ndarray:
        return np.array(number, self._dtype)

    def _outputs(self, params: np.ndarray, x: np.ndarray, *, as_scores: bool) -> np.ndarray:
        data, order = kernel_data(x, NO_LABELS), np.arange(len(x))
        compressed = self._has_many_zeros(params, data, order.size)
        net = self._net(params) if compressed else self._net_in_place(params)
        out = np.empty((x.shape[0], self.spec.sizes[-1]), self._dtype)
        memory, threads = self._memory_of_passes(order.size, compressed=compressed)
        flat = out.reshape(-1)
        self._call(predict, data, (net, data, memory, order, as_scores, flat), threads, order.size)
        return out

    def _evaluate(self, params: np.ndarray, data: Data, samples: int) -> tuple[float, float]:
        compressed = self._has_many_zeros(params, data, samples)
        net = self._net(params) if compressed else self._net_in_place(params)
        order, losses = np.arange(samples), np.empty(samples)
        memory, threads = self._memory_of_passes(samples, compressed=compressed)
        hits = np.zeros(threads, np.int64)
        self._call(evaluate, data, (net, data, memory, order, losses, hits), threads, samples)
        labels = self.spec.sizes[-1] if net.loss == BINARY_CROSS_ENTROPY else 1
        # For the few numbers of a single call, the arrays' own methods take longer.
        mean = float(np.add.reduce(losses)) / samples
        return mean, sum(hits.tolist()) / (samples * labels)

    @cached_property
    def _most_samples(self) -> int:
        """How many samples of a batch are computed at a time."""
        return most_samples(self._layout, self._dtype)

    @cached_property
    def _has_changes(self) -> bool:
        """Whether there is code for the changes of all formulas, compiled with `_change_codes`."""
        try:
            _ = self._change_codes
        except NoCodeError:
            return False
        return True

    @cached_property
    def _bends(self) -> np.ndarray:
        """How smooth the activations and the loss are, see `Fits`."""
        bends = [bend_of_activation(formula) for formula in self.spec.activations]
        return np.array([*bends, [bend_of_loss(self.spec.loss), *[0.0] * 4]])

    @cached_property
    def _change_codes(self) -> Codes | None:
        activations = [activation_change_code(formula) for formula in self.spec.activations]
        loss = loss_change_code(self.spec.loss)
        if loss == 0 and not any(changes for _, changes in activations):
            return None
        units, changes = np.array([*activations, (0, 0)], np.int64).T.copy()
        return Codes(units, changes, loss)

    def _samples_of_differences(self) -> int:
        """Return how many samples one call of the kernel processes."""
        sizes = self.spec.sizes
        products = [a * b for a, b in itertools.pairwise(sizes)]
        # A move of a weight is propagated through every layer after the next, a vector at a time.
        work = sum(n * (1 + sum(products[i + 2 :]) // self._lanes) for i, n in enumerate(products))
        inputs, coefficients = sum(sizes[:-1]), coefficients_per_sample(sizes, self._lanes)
        most = (
            DIFFERENCE_WORK // work,
            DIFFERENCE_INPUTS // inputs,
            DIFFERENCE_COEFFICIENTS // coefficients,
        )
        return max(1, min(most))

    def _differences(
        self, params: np.ndarray, x: np.ndarray, t: np.ndarray, method: str, step: float
    ) -> np.ndarray:
        difference = Difference.of(DIFFERENCES[method], step)
        sizes, point, out = self.spec.sizes, self._point(params, x, t), np.empty(self.spec.size)
        fits = Fits.of(self._bends, sizes, len(x), difference.terms, self._lanes)
        threads = self.backend.threads
        scratch = Scratch.of(sizes, self._lanes, threads)
        listed = Inputs.of(len(x), threads)
        self.backend.team.call(
            differences,
            (point, fits, difference, TABLES, scratch, listed, out),
            kind=("differences", len(x) * self.spec.size),
        )
        return out

    def _point(self, params: np.ndarray, x: np.ndarray, t: np.ndarray) -> Point:
        """Return the net and buffers for the activations of the samples."""
        samples, sizes = x.shape[0], self.spec.sizes
        inputs = samples * sum(size + self._lanes for size in sizes[:-1]) + self._lanes
        targets = self._targets(t)
        count = samples * sum(sizes[1:]) + self._lanes
        pre, after, s, rest = (np.zeros(count) for _ in range(4))
        return Point(
            self._layout.table,
            kernel_array(params),
            self._parameters,
            self._loss_code[0],
            self._change_codes,
            kernel_array(x).reshape(-1),
            kernel_array(targets).reshape(-1),
            pre,
            after,
            s,
            rest,
            np.empty((len(sizes) - 1, samples), np.int64),
            np.empty(inputs, np.int64),
            np.empty(inputs),
            np.empty((len(sizes) - 1, samples)),
            np.empty(samples * sizes[-1]),
            targets.sum(axis=1),
        )

    def _train(
        self,
        net: Net,
        data: Data,
        rule: Rule,
        order: np.ndarray,
        batch: int,
        done: int = 0,
        mask: Mask = NO_MASK,
        *,
        compressed: bool = False,
    ) -> np.ndarray:
        """Run the kernel; return the losses."""
        losses = np.full(-(-order.size // batch), np.nan)
        batch = min(batch, order.size)
        threads = self._threads(batch)
        memory = memory_of_updates(
            self._layout,
            self._dtype,
            rows_of_pieces(batch, self._most_samples),
            threads,
            with_samples=not data.sparse,
            compressed=compressed,
            updates=rule.kind != STORE_GRADIENT,
        )
        row_losses = np.empty(batch)
        arguments = net, data, rule, mask, memory, row_losses, order, batch, done, losses
        self._call(train, data, arguments, threads, order.size)
        return losses

    def _gradient(
        self, params: np.ndarray, data: Data, samples: int, out: np.ndarray, *, compressed: bool
    ) -> float:
        """Compute the gradient; return the loss.

        It is NaN as well where products with zeros, which are left out if the samples are
        compressed, would be NaN.
        """
        rule, order = gradient_rule(out), np.arange(samples)
        net = self._net(params) if compressed else self._net_in_place(params)
        losses = self._train(net, data, rule, order, samples, compressed=compressed)
        return float(losses[0])

    def _has_many_zeros(self, params: np.ndarray, data: Data, samples: int) -> bool:
        """Return whether to compress the samples of a call, and pack the parameters."""
        inputs, outputs = self.spec.sizes[:2]
        if data.sparse or samples < FEW or inputs > NARROW_COLUMNS:
            return False
        return bool(has_many_zeros(data.x, inputs, kernel_array(params)[: inputs * outputs]))

    def _call(
        self, kernel: Any, data: Data, arguments: tuple[Any, ...], threads: int, samples: int
    ) -> None:
        """Run a kernel on some samples."""
        # The type of the columns is all that differs between the arguments of an engine's calls.
        key = kernel, data.columns.itemsize
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = entry_of(kernel, (NO_LABELS, 1, *arguments))
        self.backend.team.call(
            entry, arguments, threads, (kernel.__name__, samples * self.spec.size)
        )

    def _threads(self, batch: int) -> int:
        """Return how many threads a training step uses."""
        work = batch * self.spec.size
        worth = max(work // (MANY_TIMES * THREAD_WORK), min(work // THREAD_WORK, 2))
        return max(1, min(self.backend.threads, worth))

    def _readable(self, params: np.ndarray, data: Dataset) -> Data:
        """Return the data dense unless all parameters are finite.

        Sparse products would skip 0 · inf and 0 · NaN, which are NaN.
        """
        if isinstance(data, PackedDataset) and np.isfinite(params).all():
            return data.kernel_data
        return kernel_data(data.x, data.t)

    def _net(self, params: np.ndarray) -> Net:
        self._recompile_what_changed()
        packed = self._packed_zeros(1)
        self._pack(params, packed)
        return Net(self._layout.table, packed, self._parameters, *self._loss_code)

    def _net_in_place(self, params: np.ndarray) -> Net:
        self._recompile_what_changed()
        flat = params
        # That a net's buffer has room takes longer to find out than a small call.
        if self._has_room() is not params:
            flat = with_room(kernel_array(params), self._lanes)
            if flat is params:
                self._has_room = weakref.ref(params)
        return Net(self._layout.in_place, flat, self._parameters, *self._loss_code)

    def _pack(self, flat: np.ndarray, packed: np.ndarray) -> None:
        into_panels = True
        copy_parameters(self._layout.table, kernel_array(flat), packed, into_panels)

    def _unpack(self, packed: np.ndarray, flat: np.ndarray) -> None:
        into_panels = False
        copy_parameters(self._layout.table, flat, packed, into_panels)

    def _packed_zeros(self, copies: int) -> np.ndarray:
        return aligned_zeros(copies * self._layout.size, self._dtype)

    def _memory_of_passes(self, samples: int, *, compressed: bool) -> tuple[Memory, int]:
        """Return memory for forward passes, and how many threads have some."""
        size, threads = self.spec.size, self.backend.threads
        return memory_of_passes(
            self._layout, self._dtype, size, samples, threads, compressed=compressed
        )


def _finite(losses: np.ndarray) -> np.ndarray:
    """Return the losses up to the first non-finite one."""
    stopped = np.flatnonzero(~np.isfinite(losses))
    return losses[: stopped[0] + 1] if stopped.size else losses
