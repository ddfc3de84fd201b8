"""The fused engine: training steps, evaluations and differences as CUDA kernels."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from accelnn._differences import DIFFERENCES
from accelnn._typing import Array
from accelnn.backends._engine import Engine
from accelnn.backends._rules import rule_numbers
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import Dataset, Extras, TrainingState
from accelnn.backends.cupy.dataset import NULL, Rows
from accelnn.backends.cupy.formulas import (
    ACTIVATIONS,
    LOSSES,
    RULES,
    constants,
    has_change,
    has_code_with_parameters,
    keeps_pre_activation,
)
from accelnn.backends.cupy.launch import FLAGS, Kernels, device_attributes, kernels_of
from accelnn.backends.cupy.resident import THREADS, Layout, layout_of
from accelnn.backends.cupy.source import MOST_LAYERS, Variant
from accelnn.backends.cupy.tiles import Tiled, tiled_evaluation
from accelnn.backends.cupy.training import OneLaunch, Products, Replayed, Resident, Training
from accelnn.formulas._dropout import Dropout

if TYPE_CHECKING:
    from accelnn.backends.cupy.backend import CupyBackend

__all__ = ["MOST_PARAMETERS", "CupyEngine"]

Way = OneLaunch | Products | Replayed | Resident | Tiled

# Kernels count parameters in 32 bits.
MOST_PARAMETERS = 1 << 30
# Samples times parameters of a batch that is evaluated in tiles and no longer trained on in one
# launch, that is trained on in tiles, and that is left to cuBLAS; outputs that a thread goes
# through. On an NVIDIA H200, steps of 4.0 million take 23.3 µs as a graph, 31.2 in tiles and 32.1
# in one launch; of 24 million 76.9, 51.8 and 102; of 398 million in tiles 205, by cuBLAS 278.
TILED, TRAINED_IN_TILES, PRODUCTS, MOST_OUTPUTS = 1 << 20, 1 << 23, 1 << 30, 256
# Cycles of a step of a net that is kept, from which tiles are faster; not measured.
MOST_CYCLES = 40_000
# Samples times parameters of a gradient that is left to cuBLAS, or parameters of a net, and those
# from which an evaluation is. Estimates, which are not measured.
LARGE_BATCH = 1 << 27
LARGE_NET = 1 << 20
LARGE_TO_EVALUATE = 1 << 17
# Samples times parameters of one call of a way of training, and its steps: well under a second, so
# that Ctrl-C is heard, and no display waits.
CALL_WORK = 30_000_000_000
CALL_STEPS = 20_000
# Numbers of all samples' units of one call of the kernel of differences, which bounds its memory.
DIFFERENCE_UNITS = 1 << 24
# Threads of a block of that kernel, and of all blocks that a multiprocessor is given.
DIFFERENCE_THREADS, MOST_RESIDENT = 128, 512
CHECK_THREADS = 256
# Of the kernel of mean losses, which has a block for each step.
MEAN_THREADS, MOST_BLOCKS = 128, 1_024


class CupyEngine(Engine):
    """An engine whose steps are kernels of its own, and for large batches cuBLAS.

    How the steps of a run reach the device is chosen by size; `describe` says which way it is.
    """

    backend: CupyBackend

    def __init__(self, backend: CupyBackend, spec: NetSpec, dtype: str) -> None:
        super().__init__(backend, spec, dtype)
        # A net without hidden layers asks for none.
        self._activation = spec.activation if spec.activations else ACTIVATIONS[0]
        self.activation_number = np.int32(ACTIVATIONS.index(self._activation))
        self.loss_number = np.int32(LOSSES.index(spec.loss.name))
        self.keeps_pre_activation = keeps_pre_activation(self._activation)
        self._units = sum(spec.sizes[1:])
        sizes = backend.asarray(np.array(spec.sizes, np.int32))
        # How many layers, whether they have a bias, and their widths.
        self.layers = np.int32(len(spec.sizes) - 1), np.int32(spec.bias), sizes
        self._ways: WeakKeyDictionary[TrainingState, Any] = WeakKeyDictionary()

    @staticmethod
    def supports(spec: NetSpec) -> bool:
        """Return whether there are kernels for a net's formulas and its size."""
        fits = spec.size <= MOST_PARAMETERS and len(spec.sizes) - 1 <= MOST_LAYERS
        is_uniform = len(set(spec.activations)) <= 1
        has_code = spec.is_made_of(ACTIVATIONS, LOSSES) and all(
            map(has_code_with_parameters, (*spec.activations, spec.loss))
        )
        return fits and is_uniform and has_code

    def describe(self, batch: int = 100) -> str:
        """See `Engine.describe`."""
        usual = Variant(self.dtype, has_pixels=True, has_labels=True)
        is_kept = self._layout(batch, usual, slots=0) is not None
        return {
            Resident: "resident: all steps of an epoch in one kernel that keeps the net",
            OneLaunch: "one launch: all steps of an epoch in one persistent cooperative kernel",
            Replayed: "graph: two kernels a step, captured as a CUDA graph and replayed",
            Tiled: "tiles: products in kernels of our own, captured as a CUDA graph and replayed",
            Products: "products: cuBLAS, and fused kernels for what lies between products",
        }[Resident if is_kept else self._way(batch)]

    def loss(self, params: Array, x: Array, t: Array) -> Array:
        """See `Engine.loss`."""
        data = Dataset(x, t, self.backend, self.dtype)
        if self._is_for_products(data):
            return super().loss(params, x, t)
        found, kernels = self._evaluate(params, data)
        return self._means(kernels, found[0], data.size)[0].astype(self.dtype)

    def evaluate(self, params: Array, data: Dataset) -> tuple[float, float | None]:
        """See `Engine.evaluate`."""
        if self._is_for_products(data):
            return super().evaluate(params, data)
        found, kernels = self._evaluate(params, data)
        # Both at once: the device is waited for when they are copied.
        loss, share = self.backend.to_numpy(self._means(kernels, found, data.size))
        labels = self.spec.sizes[-1] if hasattr(self.spec.loss, "hits") else 1
        accuracy = round(float(share) * data.size) / (data.size * labels)
        return float(loss), accuracy if self.spec.loss.classifies else None

    def loss_and_gradient(self, params: Array, x: Array, t: Array, out: Array) -> Array:
        """See `Engine.loss_and_gradient`."""
        samples = x.shape[0]
        if self._is_large(samples):
            return super().loss_and_gradient(params, x, t, out)
        rows = self.rows(Dataset(x, t, self.backend, self.dtype))
        kernels = self.kernels(rows)
        flags = self._checked(params, kernels)
        losses = self.backend.xp.empty(samples)
        told = self.told(rows, None, samples, *self.trace(samples), losses)
        threads = kernels.threads("batch_errors", self.spec)
        kernels.launch("batch_errors", samples, threads, (params, flags, *told))
        threads = kernels.threads("batch_gradient", self.spec)
        arguments = (out, np.int32(self.spec.size), *told)
        kernels.launch("batch_gradient", kernels.processors, threads, arguments)
        return self._means(kernels, losses, samples)[0].astype(self.dtype)

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
        has_code = has_change(self._activation) and has_change(self.spec.loss.name)
        if self.dtype != "float64" or not has_code or not (extras or Extras()).is_empty:
            return super().numerical_gradient(params, x, t, method=method, step=step, extras=extras)
        samples, most = x.shape[0], max(1, DIFFERENCE_UNITS // self._units)
        if samples <= most:
            return self._differences(params, x, t, method, step)
        out = self.backend.zeros(self.spec.size, self.dtype)
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
        weights: Array | None = None,
        clip: float | None = None,
        dropout: Dropout | None = None,
    ) -> np.ndarray:
        """See `Engine.train`."""
        rule = rule_numbers(state.optimizer, np.dtype(self.dtype), RULES)
        is_plain = all(option is None for option in (rates, weights, clip, dropout))
        if rule is None or state.gradient != "analytic" or not is_plain:
            return super().train(
                state, data, order, batch, rates=rates, weights=weights, clip=clip, dropout=dropout
            )
        if order.size == 0:
            return np.zeros(0)
        way = self._way_of(state, data, batch, min(batch, order.size), rule)
        order = order.astype(np.int64, casting="same_kind")
        on_device, losses = self.backend.asarray(order), [np.zeros(0)]
        steps = min(CALL_STEPS, max(1, CALL_WORK // (batch * self.spec.size)))
        for start in range(0, order.size, steps * batch):
            found = self._train(way, state, on_device[start : start + steps * batch])
            # What follows a loss that is not finite has changed nothing.
            stopped = np.flatnonzero(~np.isfinite(found))
            losses.append(found[: stopped[0] + 1] if stopped.size else found)
            # After every piece, so that an interruption leaves what was reached before it.
            state.step += int(stopped[0]) if stopped.size else found.size
            if stopped.size:
                break
        return np.concatenate(losses)

    # What kernels are told ----------------------------------------------------------------------

    def rows(self, data: Dataset) -> Rows:
        """Return a data set as kernels read it."""
        is_single = self.spec.sizes[-1] == 1
        return Rows.of(data, has_bits=is_single and getattr(self.spec.loss, "takes_bits", False))

    def variant(self, rows: Rows, *, decays: bool = False) -> Variant:
        """Return what kernels are compiled for that read these rows."""
        activation, loss = self._activation, self.spec.loss.name
        return rows.variant._replace(
            activation=activation,
            loss=loss,
            decays=decays,
            constants=constants(*self.spec.activations[:1], self.spec.loss),
        )

    def kernels(self, rows: Rows, *, decays: bool = False) -> Kernels:
        """Return the kernels that read these rows."""
        return kernels_of(self.backend, self.variant(rows, decays=decays))

    def trace(self, samples: int) -> tuple[Array, Array]:
        """Return room for values and errors of the units of so many samples."""
        values, errors = self.backend.xp.empty((2, samples, self._units), self.dtype)
        return values, errors

    def told(
        self,
        rows: Rows,
        order: Array | None,
        samples: int,
        values: Array,
        errors: Array,
        losses: Array,
    ) -> tuple[Any, ...]:
        """Return the net, a batch, and where its trace goes, as kernels take them."""
        layers, has_bias, sizes = self.layers
        net = (layers, has_bias, self.activation_number, self.loss_number, sizes)
        return (*net, *rows.told(order, samples), np.int32(self._units), values, errors, losses)

    # Pieces -------------------------------------------------------------------------------------

    def _way(self, batch: int) -> type[OneLaunch | Replayed | Products | Tiled]:
        """Return the way of a net that the device does not keep."""
        work = batch * self.spec.size
        if work >= PRODUCTS:
            return Products
        if work >= TRAINED_IN_TILES and self._is_tiled(batch):
            return Tiled
        is_cooperative = device_attributes(self.backend)["CooperativeLaunch"]
        return OneLaunch if is_cooperative and work < TILED else Replayed

    def _is_tiled(self, samples: int) -> bool:
        return samples * self.spec.size >= TILED and self.spec.sizes[-1] <= MOST_OUTPUTS

    def _layout(self, batch: int, variant: Variant, slots: int) -> Layout | None:
        """Return how a net is laid out that the device keeps, or None if another way is better."""
        attributes = device_attributes(self.backend)
        if not attributes["CooperativeLaunch"]:
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

    def _checked(self, params: Array, kernels: Kernels, flags: Array | None = None) -> Array:
        """Return the kernels' flags, of which one says whether all parameters are finite."""
        if flags is None:
            flags = self.backend.zeros(FLAGS, np.uint32)
        else:
            flags.fill(0)
        threads = kernels.whole_warps("check_parameters", CHECK_THREADS)
        arguments = (params, np.int32(self.spec.size), flags)
        kernels.launch("check_parameters", kernels.processors, threads, arguments)
        return flags

    def _way_of(
        self, state: TrainingState, data: Dataset, batch: int, most: int, rule: np.ndarray
    ) -> Way:
        """Return the way of a run, with its buffers and what it has captured, made once."""
        way = self._ways.get(state)
        if way is None or not way.training.goes_on(state, data, batch, most):
            run = Training(self, state, data, batch, most, rule)
            layout = self._layout(most, run.variant, len(state.slots))
            way = self._way(most)(run) if layout is None else Resident(run, layout)
            self._ways[state] = way
        return way

    def _train(self, way: Way, state: TrainingState, order: Array) -> np.ndarray:
        """Take some steps after those done; return the mean loss of each."""
        run, xp = way.training, self.backend.xp
        steps = -(-order.size // run.batch)
        losses = xp.full(order.size, np.nan)
        if not isinstance(way, Resident):
            # Which multiplies by all inputs, and needs no word that it may pass over some.
            self._checked(run.params, run.kernels, run.flags)
        way(order, losses, run.corrections(state.step + 1, steps))
        means = self._means(run.kernels, losses, min(run.batch, order.size))
        if state.meanwhile is not None:
            state.meanwhile()
        return self.backend.to_numpy(means)

    def _means(self, kernels: Kernels, numbers: Array, each: int) -> Array:
        """Return the mean of each so many numbers, one after the other."""
        count = -(-numbers.size // each)
        means = self.backend.xp.empty(count)
        threads = kernels.whole_warps("mean_losses", MEAN_THREADS)
        arguments = (numbers, np.int64(numbers.size), np.int32(each), means)
        kernels.launch("mean_losses", min(count, MOST_BLOCKS), threads, arguments)
        return means

    def _evaluate(self, params: Array, data: Dataset) -> tuple[Array, Kernels]:
        """Return every sample's loss, then how many of its labels are right.

        With the kernels that have found them.
        """
        rows = self.rows(data)
        kernels, backend = self.kernels(rows), self.backend
        found = backend.xp.empty((2, data.size))
        if self._is_tiled(data.size):
            tiled_evaluation(self, params, rows, found)
            return found, kernels
        blocks = min(data.size, 2 * kernels.processors)
        told = self.told(rows, None, data.size, *self.trace(blocks), found[0])
        threads = kernels.threads("evaluate", self.spec)
        kernels.launch(
            "evaluate", blocks, threads, (params, self._checked(params, kernels), found[1], *told)
        )
        return found, kernels

    def _differences(self, params: Array, x: Array, t: Array, method: str, step: float) -> Array:
        rows, samples = self.rows(Dataset(x, t, self.backend, self.dtype)), x.shape[0]
        kernels, size, sizes = self.kernels(rows), self.spec.size, self.spec.sizes
        losses = self.backend.xp.empty(samples)
        told = self.told(rows, None, samples, *self.trace(samples), losses)
        threads = kernels.threads("batch_values", self.spec)
        flags = self._checked(params, kernels)
        kernels.launch("batch_values", samples, threads, (params, flags, *told))
        threads = kernels.whole_warps("differences", DIFFERENCE_THREADS)
        # All but the last two layers' parameters, of which every block has one at a time.
        far = sum((a + self.spec.bias) * b for a, b in itertools.pairwise(sizes[:-2]))
        blocks = kernels.processors * max(1, MOST_RESIDENT // threads)
        xp, gradient = self.backend.xp, self.backend.xp.empty(size)
        # Their moves go through all hidden layers but the first.
        widest = max(sizes[2:-1], default=0)
        work = xp.empty((blocks, 2, widest)) if far else NULL
        moves = [*DIFFERENCES[method], (0.0, 0.0)][:2]
        numbers = [np.float64(number) for number in (step, *moves[0], *moves[1])]
        head = (params, flags, gradient, np.int32(size), np.int32(far), *numbers, work)
        kernels.launch("differences", blocks, threads, (*head, np.int32(widest), *told))
        return gradient
