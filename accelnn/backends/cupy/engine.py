"""The fused engine of the CuPy backend: updates, evaluations and differences as CUDA kernels."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from accelnn._differences import DIFFERENCES
from accelnn._typing import Array
from accelnn.backends._engine import Engine, UnfitError
from accelnn.backends._rules import has_code_for
from accelnn.backends._sparse import SparseDataset
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import Dataset, Extras, TrainingState
from accelnn.backends.cupy.dataset import NULL, Rows
from accelnn.backends.cupy.examine import CHECK_THREADS, Examination, Examined, limit_of
from accelnn.backends.cupy.formulas import (
    ACTIVATIONS,
    LOSSES,
    RULES,
    constants,
    has_change,
    has_code_with_parameters,
    keeps_pre_activation,
)
from accelnn.backends.cupy.launch import Kernels, device_attributes, kernels_of
from accelnn.backends.cupy.resident import THREADS, Layout, layout_of
from accelnn.backends.cupy.source import MOST_LAYERS, MOST_TILED_LAYERS, Variant
from accelnn.backends.cupy.tiles import Tiled, tiled_evaluation
from accelnn.backends.cupy.training import (
    OneLaunch,
    Plan,
    Products,
    Replayed,
    Resident,
    Training,
    Updates,
    dropout_arguments,
)
from accelnn.formulas._dropout import Dropout

if TYPE_CHECKING:
    from accelnn.backends.cupy.backend import CupyBackend
    from accelnn.formulas._rule import UpdateRule

__all__ = ["MOST_PARAMETERS", "CupyEngine"]

Way = OneLaunch | Products | Replayed | Resident | Tiled

# Kernels index parameters with 32 bits.
MOST_PARAMETERS = 1 << 30
# Samples times parameters from which a batch is evaluated in tiles and no longer trained in one
# launch, is trained in tiles, and by cuBLAS; the most outputs that one thread loops over. On an
# NVIDIA H200, updates of 1.4 million take 19.0 µs in one launch, 20.1 as a graph and 31.8 in tiles;
# of 4.0 million 25.9, 23.7 and 22.1; of 24 million 103, 82.3 and 41.3; of 398 million 153 in tiles
# and 242 by cuBLAS.
TILED, TRAINED_IN_TILES, PRODUCTS, MOST_OUTPUTS = 1 << 20, 3 << 20, 1 << 30, 256
# The same for cuBLAS where gradients are clipped or units dropped, which tiles cannot do. Without
# either, 40 million take 161 µs as a graph and 233 by cuBLAS on an NVIDIA H200, and 398 million
# 1,660 and 242.
PRODUCTS_NOT_TILES = 1 << 26
# The compute capability from which blocks can exchange words that are read and written as a whole.
OLDEST_TO_EXCHANGE = 7
# Estimated cycles of a resident update above which tiles are faster; not measured.
MOST_CYCLES = 40_000
# From either of the first two on (samples times parameters, and parameters) gradients use cuBLAS,
# evaluations only if the net also has LARGE_TO_EVALUATE parameters: 60,000 samples of 1.9 million
# take 9.6 ms in tiles on an NVIDIA H200 and 16 by cuBLAS. The others are estimates.
LARGE_BATCH = 1 << 27
LARGE_NET = 1 << 20
LARGE_TO_EVALUATE = 1 << 24
# Parameters up to which a few samples, no more than multiprocessors, are evaluated by a block each.
# An estimate: both passes of 100 samples took 10.7 µs with 39,760 parameters and 31.6 with 235,146,
# and in tiles each of the six or eight kernels that wait for one another takes 3.3 µs or more.
SMALL_NET = 1 << 18
# Samples times parameters, and updates, per training call: a fifth of a second at six operations
# each on a card that does 0.4 TFLOP/s, and in double precision, as cards for displays do, a 24th
# of that. So Ctrl-C is handled promptly, a display stays responsive, and Windows does not end the
# kernel after two seconds.
CALL_WORK, DOUBLE_TAKES = 12_000_000_000, 24
CALL_STEPS = 20_000
# The work of drawing a unit's mask, forward and backward, in parameters; an estimate.
DRAWING = 30
# Units of all samples per call of the kernel of differences, which bounds its memory.
DIFFERENCE_UNITS = 1 << 24
# Threads per block of that kernel, and threads per multiprocessor.
DIFFERENCE_THREADS, MOST_RESIDENT = 128, 512
# For the kernel of mean losses, which has a block per update.
MEAN_THREADS, MOST_BLOCKS = 128, 1_024


class CupyEngine(Engine):
    """An engine of custom CUDA kernels, and of cuBLAS for large batches.

    How updates are launched depends on the size of net and batch; `describe` says how.
    """

    backend: CupyBackend
    checks_range: ClassVar[bool] = True

    def __init__(self, backend: CupyBackend, spec: NetSpec, dtype: str) -> None:
        super().__init__(backend, spec, dtype)
        # A net without hidden layers never calls it.
        self._activation = spec.activation if spec.activations else ACTIVATIONS[0]
        self.activation_number = np.int32(ACTIVATIONS.index(self._activation))
        self.loss_number = np.int32(LOSSES.index(spec.loss.name))
        self.keeps_pre_activation = keeps_pre_activation(self._activation)
        self._units = sum(spec.sizes[1:])
        sizes = backend.asarray(np.array(spec.sizes, np.int32))
        # The number of layers, whether they have a bias, and their widths.
        self.layers = np.int32(len(spec.sizes) - 1), np.int32(spec.bias), sizes
        numbers = self.activation_number, self.loss_number
        # What does not change from one call to the next is made once.
        self._net = (*self.layers[:2], *numbers, sizes)
        self.size, self._units_each = np.int32(spec.size), np.int32(self._units)
        self.has_bits = spec.sizes[-1] == 1 and getattr(spec.loss, "takes_bits", False)
        self._no_dropout = (*dropout_arguments(None, dtype), NULL, np.int64(0))
        self._variants: dict[tuple[np.dtype[Any], np.dtype[Any]], Kernels] = {}
        self._examined = Examination(self)
        has_code = has_change(self._activation) and has_change(spec.loss.name)
        self._has_differences = dtype == "float64" and has_code
        # The parameters before the last two layers; each block handles one at a time.
        layers = itertools.pairwise(spec.sizes[:-2])
        self._far = np.int32(sum((a + spec.bias) * b for a, b in layers))
        # Their changes are propagated through all hidden layers but the first.
        self._widest = np.int32(max(spec.sizes[2:-1], default=0))
        self._ways: WeakKeyDictionary[TrainingState, Any] = WeakKeyDictionary()

    @staticmethod
    def supports(spec: NetSpec) -> bool:
        """Return whether there are kernels for the formulas and the size of a net."""
        fits = spec.size <= MOST_PARAMETERS and len(spec.sizes) - 1 <= MOST_LAYERS
        is_uniform = len(set(spec.activations)) <= 1
        has_code = spec.is_made_of(ACTIVATIONS, LOSSES) and all(
            map(has_code_with_parameters, (*spec.activations, spec.loss))
        )
        return fits and is_uniform and has_code

    def describe(self, batch: int = 100) -> str:
        """See `Engine.describe`."""
        usual = Variant(self.dtype, has_pixels=True, has_labels=True)
        way: type[Way]
        if self.spec.dropout > 0.0:
            way = self._way_with_options(batch, clips=False)
        elif self._layout(batch, usual, slots=0) is not None:
            way = Resident
        else:
            way = self._way(batch)
        return {
            Resident: "resident: all steps of an epoch in one kernel that keeps the net",
            OneLaunch: "one launch: all steps of an epoch in one persistent cooperative kernel",
            Replayed: "graph: two kernels a step, captured as a CUDA graph and replayed",
            Tiled: "tiles: all steps of an epoch in one kernel of tiled products",
            Products: "products: cuBLAS, and fused kernels for what lies between products",
        }[way]

    def loss(self, params: Array, x: Array, t: Array) -> Array:
        """See `Engine.loss`."""
        data = Dataset(x, t, self.backend, self.dtype)
        if self._is_for_products(data):
            return super().loss(params, x, t)
        found, kernels, _ = self._evaluate(params, data)
        return self._means(kernels, found[0], data.size)[0].astype(self.dtype)

    def mean_loss(self, params: Array, x: Array, t: Array) -> float:
        """See `Engine.mean_loss`."""
        data = Dataset(x, t, self.backend, self.dtype)
        if self._is_for_products(data):
            if self._examined(params, data).is_unfit():
                raise UnfitError
            return super().mean_loss(params, x, t)
        loss, _ = self._mean_loss_and_hits(params, data)
        # The mean of losses that are finite in float32 may not be.
        with np.errstate(over="ignore"):
            return float(np.dtype(self.dtype).type(loss))

    def evaluate(self, params: Array, data: Dataset) -> tuple[float, float | None]:
        """See `Engine.evaluate`."""
        if isinstance(data, SparseDataset):
            return super().evaluate(params, data)
        if self._is_for_products(data):
            if self._examined(params, data).is_unfit():
                raise UnfitError
            return super().evaluate(params, data)
        loss, share = self._mean_loss_and_hits(params, data)
        labels = self.spec.sizes[-1] if hasattr(self.spec.loss, "hits") else 1
        accuracy = round(float(share) * data.size) / (data.size * labels)
        return float(loss), accuracy if self.spec.loss.classifies else None

    def gradient(self, params: Array, x: Array, t: Array, out: Array) -> None:
        """See `Engine.gradient`."""
        examined = self._examined(params, Dataset(x, t, self.backend, self.dtype))
        if examined.is_unfit():
            raise UnfitError
        if self._is_large(x.shape[0]):
            super().loss_and_gradient(params, x, t, out)
        else:
            self._backpropagate(params, examined, out)

    def loss_and_gradient(self, params: Array, x: Array, t: Array, out: Array) -> Array:
        """See `Engine.loss_and_gradient`."""
        if self._is_large(x.shape[0]):
            return super().loss_and_gradient(params, x, t, out)
        examined = self._examined(params, Dataset(x, t, self.backend, self.dtype))
        losses = self._backpropagate(params, examined, out)
        return self._means(examined.kernels, losses, losses.size)[0].astype(self.dtype)

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
        """See `Engine.numerical_gradient`."""
        if not self._has_differences or not (extras or Extras()).is_empty:
            return super().numerical_gradient(params, x, t, method=method, step=step, extras=extras)
        samples, most = x.shape[0], max(1, DIFFERENCE_UNITS // self._units)
        if samples <= most:
            data = Dataset(x, t, self.backend, self.dtype)
            return self._differences(params, self._examined(params, data), method, step)
        out = self.backend.zeros(self.spec.size, self.dtype)
        for start in range(0, samples, most):
            piece = slice(start, min(start + most, samples))
            gradient = self.numerical_gradient(params, x[piece], t[piece], method=method, step=step)
            out += gradient * ((piece.stop - piece.start) / samples)
        return out

    def checked_differences(
        self, params: Array, x: Array, t: Array, *, method: str, step: float
    ) -> Array | None:
        """See `Engine.checked_differences`."""
        if not self._has_differences or x.shape[0] * self._units > DIFFERENCE_UNITS:
            return None
        data = Dataset(x, t, self.backend, self.dtype)
        examined = self._examined(params, data, limit_of(step))
        return None if examined.is_unfit() else self._differences(params, examined, method, step)

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
        """See `Engine.train`."""
        if rates is None:
            rates = state.scheduled_rates(-(-order.size // batch))
        has_code = has_code_for(state.optimizer, RULES, self.dtype)
        is_sparse = isinstance(data, SparseDataset)
        if not has_code or state.gradient != "analytic" or is_sparse:
            return super().train(
                state, data, order, batch, rates=rates, weights=weights, clip=clip, dropout=dropout
            )
        if order.size == 0:
            return np.zeros(0)
        plan = Plan(
            data=data,
            weights=weights,
            batch=batch,
            most=min(batch, order.size),
            is_scheduled=rates is not None,
            clip=clip,
            dropout=dropout,
        )
        way = self._way_of(state, plan)
        order = order.astype(np.int64, casting="same_kind")
        losses = [np.zeros(0)]
        work = CALL_WORK if self.dtype == "float32" else CALL_WORK // DOUBLE_TAKES
        each = self.spec.size if dropout is None else self.spec.size + DRAWING * self._units
        steps = min(CALL_STEPS, max(1, work // (batch * each)))
        for start in range(0, order.size, steps * batch):
            done = start // batch
            own_rates = None if rates is None else rates[done : done + steps]
            piece = self.backend.asarray(order[start : start + steps * batch])
            found = self._train(way, state, piece, own_rates)
            # Updates after a non-finite loss have changed nothing.
            stopped = np.flatnonzero(~np.isfinite(found))
            losses.append(found[: stopped[0] + 1] if stopped.size else found)
            # After every piece, so that an interrupt loses only the current one.
            state.step += int(stopped[0]) if stopped.size else found.size
            if stopped.size:
                break
        return np.concatenate(losses)

    # Kernel arguments ---------------------------------------------------------------------------

    def rows(self, data: Dataset) -> Rows:
        """Return a data set as kernel arguments."""
        return Rows.of(data, has_bits=self.has_bits)

    def variant(self, rows: Rows, rule: UpdateRule | None = None) -> Variant:
        """Return the variant of the kernels that read these rows with the net's formulas."""
        activation, loss = self._activation, self.spec.loss.name
        return rows.variant._replace(
            activation=activation,
            loss=loss,
            decays=rule is not None and rule.weight_decay > 0.0,
            scheduled=False,
            weighted=rows.weights is not NULL,
            drops=False,
            clips=False,
            optimizer=None if rule is None else type(rule).__name__,
            constants=constants(*self.spec.activations[:1], self.spec.loss),
        )

    def kernels(self, rows: Rows) -> Kernels:
        """Return the kernels that read these rows."""
        key = rows.x.dtype, rows.t.dtype
        if key not in self._variants:
            self._variants[key] = kernels_of(self.backend, self.variant(rows))
        return self._variants[key]

    def trace(self, samples: int) -> tuple[Array, Array]:
        """Return buffers for values and errors of the units of `samples` samples."""
        empty, shape = self.backend.xp.empty, (samples, self._units)
        return empty(shape, self.dtype), empty(shape, self.dtype)

    def told(
        self,
        rows: Rows,
        order: Array | None,
        samples: int,
        values: Array,
        errors: Array,
        losses: Array,
    ) -> tuple[Any, ...]:
        """Return the net, a batch, and the buffers of its trace as kernel arguments."""
        told = rows.told(order, samples)
        return (*self._net, *told, self._units_each, values, errors, losses)

    # Helpers ------------------------------------------------------------------------------------

    def _way(self, batch: int) -> type[OneLaunch | Replayed | Products | Tiled]:
        """Return the training strategy for a net that is not resident."""
        work = batch * self.spec.size
        if work >= PRODUCTS:
            return Products
        is_cooperative = device_attributes(self.backend)["CooperativeLaunch"]
        is_tiled = self._is_tiled(batch) and len(self.spec.sizes) - 1 <= MOST_TILED_LAYERS
        if is_cooperative and is_tiled and work >= TRAINED_IN_TILES:
            return Tiled
        return OneLaunch if self._is_one_launch(batch) else Replayed

    def _way_with_options(
        self, batch: int, *, clips: bool
    ) -> type[OneLaunch | Replayed | Products]:
        """Return the training strategy with clipping or dropout, of those whose kernels have it."""
        if batch * self.spec.size >= PRODUCTS_NOT_TILES:
            return Products
        return OneLaunch if not clips and self._is_one_launch(batch) else Replayed

    def _is_one_launch(self, batch: int) -> bool:
        is_cooperative = device_attributes(self.backend)["CooperativeLaunch"]
        return bool(is_cooperative) and batch * self.spec.size < TILED

    def _is_tiled(self, samples: int) -> bool:
        return samples * self.spec.size >= TILED and self.spec.sizes[-1] <= MOST_OUTPUTS

    def _layout(self, batch: int, variant: Variant, slots: int) -> Layout | None:
        """Return the layout for resident training, or None if another strategy is better."""
        attributes = device_attributes(self.backend)
        can_exchange = attributes["ComputeCapabilityMajor"] >= OLDEST_TO_EXCHANGE
        if not attributes["CooperativeLaunch"] or not can_exchange:
            return None
        layout = layout_of(
            variant,
            self.spec.sizes,
            batch,
            bias=self.spec.bias,
            slots=slots,
            processors=attributes["MultiProcessorCount"],
            shared=attributes["MaxSharedMemoryPerBlockOptin"],
            threads=THREADS,
        )
        is_slow = layout is not None and layout.cost > MOST_CYCLES and self._is_tiled(batch)
        return None if is_slow else layout

    def _is_large(self, samples: int) -> bool:
        return samples * self.spec.size >= LARGE_BATCH or self.spec.size >= LARGE_NET

    def _is_for_products(self, data: Dataset) -> bool:
        return self.spec.size >= LARGE_TO_EVALUATE and self._is_large(data.size)

    def _checked(self, params: Array, kernels: Kernels, flags: Array) -> None:
        """Set a run's flags, one of which says whether a parameter is not finite."""
        flags.fill(0)
        threads = kernels.whole_warps("check_parameters", CHECK_THREADS)
        arguments = (params, self.size, flags)
        kernels.launch("check_parameters", kernels.processors, threads, arguments)

    def _way_of(self, state: TrainingState, plan: Plan) -> Way:
        """Return the training strategy of a run, with its buffers and graphs; cached."""
        way: Way | None = self._ways.get(state)
        if way is None or not way.training.goes_on(state, plan):
            run = Training(self, state, plan)
            if plan.clip is not None or plan.dropout is not None:
                way = self._way_with_options(plan.most, clips=plan.clip is not None)(run)
            elif layout := self._layout(plan.most, run.variant, len(state.slots)):
                way = Resident(run, layout)
            else:
                way = self._way(plan.most)(run)
            self._ways[state] = way
        return way

    def _train(
        self, way: Way, state: TrainingState, order: Array, rates: np.ndarray | None
    ) -> np.ndarray:
        """Do some more updates; return the mean loss of each batch."""
        run = way.training
        steps, first = -(-order.size // run.batch), state.step + 1
        losses, means = run.results(order.size)
        if isinstance(way, Tiled):
            run.flags.fill(0)
        elif not isinstance(way, Resident):
            # Others skip zero inputs if all parameters are finite.
            self._checked(run.params, run.kernels, run.flags)
        told = run.coefficients(first, steps, rates), run.numbers(first, steps)
        way(Updates(order, losses, *told))
        self._means(run.kernels, losses, min(run.batch, order.size), out=means)
        if state.meanwhile is not None:
            state.meanwhile()
        return self.backend.to_numpy(means)

    def _means(
        self,
        kernels: Kernels,
        numbers: Array,
        each: int,
        flags: Array | np.uint64 = NULL,
        out: Array | None = None,
    ) -> Array:
        """Return the means of groups of `each` numbers, and with flags what they say is unfit."""
        count = -(-numbers.size // each)
        means = self.backend.xp.empty(count + (flags is not NULL)) if out is None else out
        threads = kernels.whole_warps("mean_losses", MEAN_THREADS)
        arguments = (numbers, np.int64(numbers.size), np.int32(each), means, flags)
        kernels.launch("mean_losses", min(count, MOST_BLOCKS), threads, arguments)
        return means

    def _mean_loss_and_hits(self, params: Array, data: Dataset) -> tuple[float, float]:
        """Return the mean loss and the mean number of correct labels, in one copy to the host."""
        found, kernels, flags = self._evaluate(params, data)
        means = self._means(kernels, found, data.size, flags)
        loss, hits, is_unfit = self.backend.to_numpy(means).tolist()
        if is_unfit:
            raise UnfitError
        return loss, hits

    def _evaluate(self, params: Array, data: Dataset) -> tuple[Array, Kernels, Array]:
        """Return every sample's loss and number of correct labels, the kernels, and their flags."""
        rows, kernels, flags = self._examined(params, data)
        found = self.backend.xp.empty((2, data.size))
        is_few = data.size <= kernels.processors and self.spec.size <= SMALL_NET
        if self._is_tiled(data.size) and not is_few:
            tiled_evaluation(self, params, rows, found)
            return found, kernels, flags
        blocks = min(data.size, 2 * kernels.processors)
        values = self.backend.xp.empty((blocks, self._units), self.dtype)
        # Losses begin where `found` does.
        told = self.told(rows, None, data.size, values, NULL, found)
        threads = kernels.threads("evaluate", self.spec)
        kernels.launch("evaluate", blocks, threads, (params, flags, found[1], *told))
        return found, kernels, flags

    def _backpropagate(self, params: Array, examined: Examined, out: Array) -> Array:
        """Write the gradient to `out` and return the loss of every sample."""
        rows, kernels, flags = examined
        samples = rows.x.shape[0]
        losses = self.backend.xp.empty(samples)
        told = self.told(rows, None, samples, *self.trace(samples), losses)
        threads = kernels.threads("batch_errors", self.spec, samples)
        head = (params, flags, *self._no_dropout)
        kernels.launch("batch_errors", samples, threads, (*head, *told))
        threads = kernels.threads("batch_gradient", self.spec)
        kernels.launch("batch_gradient", kernels.processors, threads, (out, self.size, *told))
        return losses

    def _differences(self, params: Array, examined: Examined, method: str, step: float) -> Array:
        rows, kernels, flags = examined
        xp, samples = self.backend.xp, rows.x.shape[0]
        told = self.told(rows, None, samples, *self.trace(samples), NULL)
        threads = kernels.threads("batch_values", self.spec)
        kernels.launch("batch_values", samples, threads, (params, flags, *told))
        threads = kernels.whole_warps("differences", DIFFERENCE_THREADS)
        blocks = kernels.processors * max(1, MOST_RESIDENT // threads)
        gradient = xp.empty(self.spec.size)
        work = xp.empty((blocks, 2, int(self._widest))) if self._far else NULL
        moves = [*DIFFERENCES[method], (0.0, 0.0)][:2]
        numbers = [np.float64(number) for number in (step, *moves[0], *moves[1])]
        head = (params, flags, gradient, self.size, self._far, *numbers, work, self._widest)
        kernels.launch("differences", blocks, threads, (*head, *told))
        return gradient
