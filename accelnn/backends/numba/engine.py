"""The fused engine of the Numba backend: compiled updates, evaluations and differences."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._cached import cached_property
from accelnn._typing import Array
from accelnn.backends._engine import Engine
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import LONG, Dataset, Extras, TrainingState
from accelnn.backends.numba._jit import entry_of
from accelnn.backends.numba.arrays import kernel_array
from accelnn.backends.numba.dataset import NO_LABELS, PackedDataset, kernel_data
from accelnn.backends.numba.differences import Differences
from accelnn.backends.numba.forms import QUAD_INPUTS
from accelnn.backends.numba.kernels.arguments import Data, Mask, Memory, Net, Rule
from accelnn.backends.numba.kernels.evaluation import evaluate, predict
from accelnn.backends.numba.kernels.losses import BINARY_CROSS_ENTROPY
from accelnn.backends.numba.kernels.nonzeros import has_many_zeros
from accelnn.backends.numba.kernels.online import is_online
from accelnn.backends.numba.kernels.packing import copy_parameters
from accelnn.backends.numba.kernels.training import train
from accelnn.backends.numba.layout import INPUTS, OUTPUT_PANELS, Layout, aligned_zeros, with_room
from accelnn.backends.numba.memory import Workspace, memory_of_passes, memory_of_updates
from accelnn.backends.numba.own import activation_code, loss_code, parameter_of
from accelnn.backends.numba.pieces import most_samples, rows_of_pieces
from accelnn.backends.numba.rules import gradient_rule, rule_of
from accelnn.backends.numba.team import Member
from accelnn.backends.numba.user_functions import NoCodeError, State, state_of
from accelnn.backends.numba.vectors import LANES, QUAD
from accelnn.formulas._dropout import Dropout

if TYPE_CHECKING:
    from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["NumbaEngine"]

# The argument of a step without dropout.
NO_MASK = Mask(0, 1.0, 0)
# Samples times parameters of a batch for each of two threads, which take one or two microseconds;
# many threads wait longer for each other, and get that much more.
THREAD_WORK, MANY_TIMES = 20_000, 50
# Of fewer samples of a call no quads are listed, because that takes as long as it saves.
FEW = 16
# Samples are read where they are, unless there are more panels of weights, each of which reads all
# of them; or their rows are a multiple of so many bytes apart, so that the same columns of many
# rows compete for a few lines of a cache.
MOST_PANELS, ROW_BYTES = 16, 512
# Where zeros are left out, samples times parameters of the updates between checks for parameters
# that are not finite: some hundredths of a second.
SPARSE_WORK = 4_000_000_000
# From so many parameters on, copying them takes longer than waking a thread.
MANY_NUMBERS = 1_000_000


class NumbaEngine(Engine):
    """An engine of compiled loops that the backend's team of threads runs.

    Parameters are packed into panels at the start of every call, and one call of `train` does many
    updates. All that is kept from one to the next is memory, in the state of the run.
    """

    backend: NumbaBackend

    def __init__(self, backend: NumbaBackend, spec: NetSpec, dtype: str) -> None:
        super().__init__(backend, spec, dtype)
        self._dtype = np.dtype(dtype)
        self._lanes, self._largest = LANES[self._dtype.type], float(np.finfo(dtype).max)
        formulas = (*spec.activations, spec.loss)
        self._own = [f for formula in formulas for f in getattr(formula, "functions", ())]
        # First, because it tells whether there is code at all.
        self._compile()
        self._parameters = np.array([parameter_of(formula) for formula in formulas])
        self._has_room: Callable[[], np.ndarray | None] = lambda: None
        self._entries: dict[tuple[object, int, int], Callable[..., Any]] = {}

    def _compile(self) -> None:
        """Look up the code of all formulas, and compile that of a user's own."""
        self._states: list[State] = list(map(state_of, self._own))
        codes = [activation_code(formula, self.dtype) for formula in self.spec.activations]
        self._layout = Layout.of(self.spec, self._dtype, codes)
        self._loss_code = loss_code(self.spec.loss)
        self.__dict__.pop("_differences", None)

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
        if self._has_bits(data) or self._hides_nan(params, data):
            return super().evaluate(params, data)
        loss, accuracy = self._evaluate(params, _readable(data), data.size)
        if loss > self._largest:
            # As the losses of training, and those of backends that compute in the net's dtype.
            loss = math.inf
        return loss, accuracy if self.spec.loss.classifies else None

    def loss_and_gradient(
        self, params: np.ndarray, x: np.ndarray, t: np.ndarray, out: np.ndarray
    ) -> Array:
        """See `Engine.loss_and_gradient`."""
        gradient, data = kernel_array(out), kernel_data(x, t)
        quads = self._has_many_zeros(params, data, len(x))
        loss = self._gradient(params, data, len(x), gradient, quads=quads)
        if quads and math.isnan(loss):
            loss = self._gradient(params, data, len(x), gradient, quads=False)
        if gradient is not out:
            out[...] = gradient
        return self._scalar(loss)

    def loss_with(self, params: np.ndarray, x: np.ndarray, t: np.ndarray, extras: Extras) -> Array:
        """See `Engine.loss_with`."""
        if extras.is_empty:
            return self.loss(params, x, t)
        return super().loss_with(params, x, t, extras)

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
        differences = self._differences if self._dtype == np.float64 else None
        if differences is None or not is_finite or not (extras or Extras()).is_empty:
            return super().numerical_gradient(params, x, t, method=method, step=step, extras=extras)
        net = Net(self._layout.table, kernel_array(params), self._parameters, *self._loss_code)
        return differences.gradient(net, x, self._targets(t), method, step)

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
        options: dict[str, Any] = {"rates": rates, "weights": weights}
        options |= {"clip": clip, "dropout": dropout}
        rule = self._rule_for(state, data, order.size, batch, rates, clip)
        if rule is None:
            return super().train(state, data, order, batch, **options)
        if order.size == 0:
            return np.zeros(0)
        net = self._net(state.params, self._packed(self._workspace_of(state)))
        size = self._layout.size
        parts = [rule.slots[k * size : (k + 1) * size] for k in range(len(state.slots))]
        for slot, part in zip(state.slots, parts, strict=True):
            self._pack(slot, part)
        losses = self._updates(state, data, order, batch, net, rule, weights, dropout)
        # An interrupt before here loses all updates of the call, and none is counted.
        self._unpack(net.params, state.params)
        for slot, part in zip(state.slots, parts, strict=True):
            self._unpack(part, slot)
        is_whole = math.isfinite(losses[-1])
        state.step += losses.size if is_whole else losses.size - 1
        rest = order[losses.size * batch :]
        if not is_whole or rest.size == 0:
            return losses
        if rates is not None:
            options["rates"] = rates[losses.size :]
        return np.concatenate((losses, super().train(state, data, rest, batch, **options)))

    # Helpers ------------------------------------------------------------------------------------

    def _rule_for(
        self,
        state: TrainingState,
        data: Dataset,
        samples: int,
        batch: int,
        rates: np.ndarray | None,
        clip: float | None,
    ) -> Rule | None:
        """Return the rule of the updates with so many samples, or None if kernels cannot do them.

        What they leave out of sparse products may be NaN, unless parameters are finite.
        """
        workspace = self._workspace_of(state)
        if state.gradient != "analytic" or self._has_bits(data):
            return None
        if self._hides_nan(state.params, data):
            is_check = state.step % self._updates_between_checks(data, batch) == 0
            if is_check or not self._overflowed(workspace):
                return None
        updates, in_pieces = -(-samples // batch), min(batch, samples) > self._most_samples
        return rule_of(state, self._layout, updates, rates, clip, workspace, in_pieces=in_pieces)

    def _updates(
        self,
        state: TrainingState,
        data: Dataset,
        order: np.ndarray,
        batch: int,
        net: Net,
        rule: Rule,
        weights: np.ndarray | None,
        dropout: Dropout | None,
    ) -> np.ndarray:
        """Do updates, and return their losses, until one is not finite.

        Or until parameters are not, where that must be looked for.
        """
        readable, mask = _readable(data), _mask_of(dropout)
        if weights is not None:
            readable = readable._replace(weights=kernel_array(weights, np.float64))
        # The only dtype that the kernel is compiled for.
        order, samples = order.astype(np.int64, casting="same_kind"), order.size
        following, state.following = state.following, None
        if following is not None and samples % batch == 0:
            order = np.concatenate((order, following))
        every = self._updates_between_checks(data, batch)
        losses: list[np.ndarray] = []
        start, done, workspace = 0, state.step, self._workspace_of(state)
        while start < samples and (start == 0 or not self._hides_nan(net.params, data)):
            size = min(batch * (every - done % every), samples - start)
            # With the samples that the next call may begin with, and where the next ones are.
            piece = order[start : start + size + 2 * batch]
            given = net, readable, rule, piece, batch, size, done, mask
            if size * self.spec.size > LONG:
                with _interruptible(state):
                    found = self._train(*given, quads=readable.quads, workspace=workspace)
            else:
                found = self._train(*given, quads=readable.quads, workspace=workspace)
            if not math.isfinite(found[-1]):
                # There may be others where zeros were.
                state.workspace = None
                losses.append(found[: int(np.isfinite(found).argmin()) + 1])
                break
            losses.append(found)
            start, done = start + size, done + found.size
        return losses[0] if len(losses) == 1 else np.concatenate(losses)

    def _has_bits(self, data: Dataset) -> bool:
        """Return whether integer targets are those of a single output, not class labels."""
        is_single = self.spec.sizes[-1] == 1 and self.spec.loss.name == "binary_cross_entropy"
        return is_single and bool(np.issubdtype(data.t.dtype, np.integer))

    def _workspace_of(self, state: TrainingState) -> Workspace:
        """Return what this engine's last call with a state has left there, or a new workspace."""
        found = state.workspace
        if not isinstance(found, Workspace) or found.engine is not self:
            found = state.workspace = Workspace(self)
        return found

    def _packed(self, workspace: Workspace) -> np.ndarray:
        return workspace.zeros("params", self._layout.size, self._dtype)

    def _overflowed(self, workspace: Workspace) -> bool:
        """Return whether the last call has left parameters that are not finite.

        They are found at the next check, as they would be in one call of all updates.
        """
        return not np.isfinite(self._packed(workspace)).all()

    def _scalar(self, number: float) -> np.ndarray:
        return np.array(number, self._dtype)

    def _outputs(self, params: np.ndarray, x: np.ndarray, *, as_scores: bool) -> np.ndarray:
        data, order = kernel_data(x, NO_LABELS), np.arange(len(x))
        quads = self._has_many_zeros(params, data, order.size)
        net = self._net_to_read(params, quads=quads)
        out = np.empty((x.shape[0], self.spec.sizes[-1]), self._dtype)
        memory, threads = self._memory_of_passes(data, order.size, quads=quads)
        flat = out.reshape(-1)
        self._call(predict, data, (net, data, memory, order, as_scores, flat), threads, order.size)
        return out

    def _evaluate(self, params: np.ndarray, data: Data, samples: int) -> tuple[float, float]:
        quads = data.quads or self._has_many_zeros(params, data, samples)
        net = self._net_to_read(params, quads=quads)
        order, losses = np.arange(samples), np.empty(samples)
        memory, threads = self._memory_of_passes(data, samples, quads=quads)
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
    def _differences(self) -> Differences | None:
        """What computes numerical gradients, or None if a formula has no code for its changes."""
        try:
            return Differences(self.spec, self.backend.team)
        except NoCodeError:
            return None

    def _train(
        self,
        net: Net,
        data: Data,
        rule: Rule,
        order: np.ndarray,
        batch: int,
        samples: int,
        done: int = 0,
        mask: Mask = NO_MASK,
        *,
        quads: bool,
        workspace: Workspace | None = None,
    ) -> np.ndarray:
        """Run the kernel on the first samples of `order`; return the losses.

        It fetches the next ones as well, if the last batch is a whole one.
        """
        losses = np.full(-(-samples // batch), np.nan)
        batch = min(batch, samples)
        threads = self._threads(batch)
        memory = memory_of_updates(
            self._layout,
            self._dtype,
            rows_of_pieces(batch, self._most_samples),
            threads,
            # One sample is used once each way, so that moving it saves nothing.
            with_samples=quads or (batch > 1 and self._gathers(data)),
            quads=quads and not is_online(data, rule, batch),
            workspace=workspace,
        )
        row_losses = np.empty(batch)
        arguments = net, data, rule, mask, memory, row_losses, order, batch, done, losses
        self._call(train, data, arguments, threads, samples, batch)
        return losses

    def _gradient(
        self, params: np.ndarray, data: Data, samples: int, out: np.ndarray, *, quads: bool
    ) -> float:
        """Compute the gradient; return the loss.

        It is NaN as well where products with zeros, which are left out of `quads`, would be NaN.
        """
        rule, order = gradient_rule(out), np.arange(samples)
        net = self._net_to_read(params, quads=quads)
        losses = self._train(net, data, rule, order, samples, samples, quads=quads)
        return float(losses[0])

    def _has_many_zeros(self, params: np.ndarray, data: Data, samples: int) -> bool:
        """Return whether to list the quads of a call's dense samples."""
        inputs, outputs = self.spec.sizes[:2]
        if data.sparse or samples < FEW or inputs > QUAD_INPUTS:
            return False
        return bool(has_many_zeros(data.x, inputs, kernel_array(params)[: inputs * outputs]))

    def _call(
        self,
        kernel: Any,
        data: Data,
        arguments: tuple[Any, ...],
        threads: int,
        samples: int,
        batch: int = 0,
    ) -> None:
        """Run a kernel on some samples."""
        # The types of columns and codes are all that differs between the arguments of its calls.
        work = samples * self.spec.size
        key = kernel, data.columns.itemsize, data.codes.itemsize
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = entry_of(kernel, (NO_LABELS, 1, *arguments))
        # The time of a sample depends on all of these.
        call = kernel.__name__, self.spec.sizes, self.dtype, data.sparse, data.quads, batch
        self.backend.team.call(entry, arguments, threads, (call, work), is_long=work > LONG)

    def _gathers(self, data: Data) -> bool:
        """Return whether dense samples are moved into panels before they are multiplied."""
        return not data.sparse and self._gathers_rows

    @cached_property
    def _gathers_rows(self) -> bool:
        first = self._layout.table[0]
        row_bytes = int(first[INPUTS]) * self._dtype.itemsize
        return bool(first[OUTPUT_PANELS] > MOST_PANELS) or row_bytes % ROW_BYTES == 0

    def _threads(self, batch: int) -> int:
        """Return how many threads a training step uses."""
        work = batch * self.spec.size
        worth = max(work // (MANY_TIMES * THREAD_WORK), min(work // THREAD_WORK, 2))
        return max(1, min(self.backend.threads, worth))

    def _updates_between_checks(self, data: Dataset, batch: int) -> int:
        """Return how many updates are done between checks for parameters that are not finite.

        The checks come after the same updates however many each call does, which depends on the
        clock.
        """
        if not _is_sparse(data):
            return sys.maxsize
        return max(1, SPARSE_WORK // (batch * self.spec.size))

    @staticmethod
    def _hides_nan(params: np.ndarray, data: Dataset) -> bool:
        """Return whether sparse products would skip 0 · inf or 0 · NaN, which are NaN."""
        return _is_sparse(data) and not np.isfinite(params).all()

    def _net(self, params: np.ndarray, packed: np.ndarray | None = None) -> Net:
        """Return the net with its parameters in panels, in the memory that is given."""
        self._recompile_what_changed()
        if packed is None:
            packed = aligned_zeros(self._layout.size, self._dtype)
        self._pack(params, packed)
        return Net(self._layout.table, packed, self._parameters, *self._loss_code)

    def _net_to_read(self, params: np.ndarray, *, quads: bool) -> Net:
        """Return the net for a kernel that does not change its parameters.

        Of quads it reads whole ones: after the last weights of a layer there are others.
        """
        if quads and self.spec.sizes[0] % QUAD:
            return self._net(params)
        return self._net_in_place(params)

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
        self._copy(kernel_array(flat), packed, into_panels=True)

    def _unpack(self, packed: np.ndarray, flat: np.ndarray) -> None:
        self._copy(flat, packed, into_panels=False)

    def _copy(self, flat: np.ndarray, packed: np.ndarray, *, into_panels: bool) -> None:
        """Copy parameters between a flat buffer and panels, on all threads if there are many."""
        table = self._layout.table
        if flat.size < MANY_NUMBERS:
            copy_parameters(table, flat, packed, into_panels, 0, 1)
            return

        def copy(member: Member) -> None:
            copy_parameters(table, flat, packed, into_panels, member.number, member.size)

        self.backend.team.run(copy, self.backend.threads, to_the_end=True)

    def _memory_of_passes(self, data: Data, samples: int, *, quads: bool) -> tuple[Memory, int]:
        """Return memory for forward passes, and how many threads have some."""
        size, threads = self.spec.size, self.backend.threads
        options = {"with_samples": quads or self._gathers(data), "quads": quads}
        return memory_of_passes(self._layout, self._dtype, size, samples, threads, **options)


@contextmanager
def _interruptible(state: TrainingState) -> Iterator[None]:
    """Listen to what interrupts a long call, and forget what it leaves then."""
    try:
        with state.listening():
            yield
    except BaseException:
        state.workspace = None
        raise


def _is_sparse(data: Dataset) -> bool:
    return isinstance(data, PackedDataset) and data.kernel_data.sparse


def _readable(data: Dataset) -> Data:
    return data.kernel_data if isinstance(data, PackedDataset) else kernel_data(data.x, data.t)


def _mask_of(dropout: Dropout | None) -> Mask:
    if dropout is None:
        return NO_MASK
    # The seed's bits as a signed number, which a kernel's integers are.
    seed = int(np.uint64(dropout.seed).astype(np.int64))
    return Mask(round(dropout.p * 2**32), 1.0 / (1.0 - dropout.p), seed)
