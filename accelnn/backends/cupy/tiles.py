"""Forward and backward passes by tiled matrix products, and updates captured as a CUDA graph."""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends.cupy.dataset import NULL, Rows
from accelnn.backends.cupy.source import TILE_DEPTH, TILE_EDGE, TILES

if TYPE_CHECKING:
    from accelnn.backends.cupy.engine import CupyEngine
    from accelnn.backends.cupy.launch import Kernels
    from accelnn.backends.cupy.training import Training

__all__ = ["Tiled", "tiled_evaluation"]

NO_ACTIVATION = np.int32(-1)
# Updates per graph.
CAPTURED = 32
# Threads per block of kernels with a thread per sample, and with a thread per element.
SAMPLE_THREADS, ELEMENT_THREADS = 64, 256
# With fewer blocks per multiprocessor, sums are split into parts.
RESIDENT_BLOCKS = 2
# Units of all samples that are evaluated at once, which bounds the memory.
UNITS_AT_ONCE = 1 << 24


class Passes:
    """Forward passes over batches of a fixed size.

    Parameters
    ----------
    engine : CupyEngine
        The engine of the net.
    rows : Rows
        The data.
    samples : int
        The most samples per batch.
    params : array of shape (size,)
        The parameters of the net.
    kernels : Kernels
        The kernels that read the data.
    """

    def __init__(
        self, engine: CupyEngine, rows: Rows, samples: int, params: Array, kernels: Kernels
    ) -> None:
        self.engine, self.rows, self.samples, self.kernels = engine, rows, samples, kernels
        self.layers = engine.spec.layers(params, engine.backend.xp)
        self.values = self._buffers()
        # Only a backward pass needs buffers for pre-activations.
        self.pre: list[Any] = [NULL] * len(self.layers)
        # The updates done before, and the number of samples of the order.
        self.clock = engine.backend.zeros(2, np.int64)

    def forward(self, order: Array | None, offset: int) -> None:
        """Compute the values of all layers."""
        sizes, last = self.engine.spec.sizes, len(self.layers) - 1
        for i, (w, b) in enumerate(self.layers):
            inputs, outputs = sizes[i], sizes[i + 1]
            activation = self.engine.activation_number if i < last else NO_ACTIVATION
            tiles, parts = self._cut(self.samples, outputs, inputs)
            to = self.values[i] if parts == 1 else self._sums
            bias = NULL if b is None else b
            head = (self.values[i - 1] if i else NULL, w, bias, np.int32(inputs), np.int32(outputs))
            told = (*self.rows.told(order, self.samples), self.clock, np.int32(offset))
            arguments = (*head, activation, np.int32(parts), to, self.pre[i], *told)
            self.kernels.launch_tiles("tile_values", tiles * parts, arguments)
            if parts > 1:
                self._join(bias, NULL, i, activation, parts, self.values[i], offset)

    def _join(
        self,
        bias: Any,
        values: Any,
        layer: int,
        activation: np.int32,
        parts: int,
        to: Array,
        offset: int,
    ) -> None:
        width, samples = self.engine.spec.sizes[layer + 1], np.int32(self.samples)
        head = (self._sums, bias, values, np.int32(width), activation, np.int32(parts))
        self.elementwise(
            "tile_join",
            self.samples * width,
            (*head, samples, to, self.pre[layer], self.clock, np.int32(offset)),
        )

    def of_samples(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel with a thread per sample."""
        blocks = math.ceil(self.samples / SAMPLE_THREADS)
        self.kernels.launch(name, blocks, SAMPLE_THREADS, arguments)

    def elementwise(self, name: str, size: int, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel whose threads loop over `size` elements."""
        most = 4 * self.kernels.processors
        blocks = min(most, math.ceil(size / ELEMENT_THREADS))
        self.kernels.launch(name, blocks, ELEMENT_THREADS, arguments)

    def _cut(self, rows: int, columns: int, terms: int) -> tuple[int, int]:
        """Return the number of tiles of a product, and of the parts of its sums."""
        tiles = math.ceil(rows / TILE_EDGE) * math.ceil(columns / TILE_EDGE)
        wanted = RESIDENT_BLOCKS * self.kernels.processors // tiles
        return tiles, max(1, min(wanted, math.ceil(terms / TILE_DEPTH)))

    @cached_property
    def _sums(self) -> Array:
        """A buffer for the partial sums of any layer."""
        sizes = self.engine.spec.sizes
        most = max(
            self._cut(self.samples, width, terms)[1] * width
            for a, b in itertools.pairwise(sizes)
            for width, terms in ((b, a), (a, b))
        )
        return self.engine.backend.xp.empty(most * self.samples, self.engine.dtype)

    def _buffers(self) -> list[Array]:
        xp, widths = self.engine.backend.xp, self.engine.spec.sizes[1:]
        return [xp.empty((self.samples, width), self.engine.dtype) for width in widths]


class Tiled(Passes):
    """Updates of several kernels each, captured as a graph that reads its position from memory.

    Parameters
    ----------
    training : Training
        The run.
    """

    def __init__(self, training: Training) -> None:
        engine, kernels = training.engine, training.kernels
        super().__init__(engine, training.rows, training.most, training.params, kernels)
        self.training = training
        # A pre-activation is overwritten by the error of its unit.
        self.pre = self._errors = self._buffers()
        sizes, bias = self.engine.spec.sizes, self.engine.spec.bias
        # All layers have the same number of parts, because each part is a whole flat gradient.
        self._parts = min(
            self._cut(a + bias, b, self.samples)[1] for a, b in itertools.pairwise(sizes)
        )
        self._gradients = self.engine.backend.xp.empty(
            (self._parts, self.engine.spec.size), self.engine.dtype
        )
        self._make_room(1)

    def __call__(self, order: Array, losses: Array, coefficients: Array) -> None:
        """Do one update per batch."""
        steps = len(coefficients)
        if order.size > self._order.size:
            self._make_room(steps)
        self._order[: order.size] = order
        self._coefficients[:steps] = coefficients
        self.clock.fill(0)
        self.clock[1] = order.size
        for length in (CAPTURED, 1):
            for _ in range(steps // length):
                self._graph(length).launch()
            steps %= length
        losses[...] = self._losses[: order.size]

    def _make_room(self, steps: int) -> None:
        """Allocate buffers for `steps` updates; graphs, which contain addresses, are discarded."""
        backend, size = self.engine.backend, steps * self.samples
        self._order = backend.zeros(size, np.int64)
        self._losses = backend.zeros(size, np.float64)
        self._coefficients = backend.zeros((steps, 2), np.float64)
        self._graphs: dict[int, Any] = {}

    def _graph(self, length: int) -> Any:
        """Return a graph of `length` updates."""
        if length not in self._graphs:
            names = ("tile_join", "tile_losses", "tile_update", "tile_advance")
            self.kernels.load(*TILES, *names)
            # Allocate the cached property now, because capture forbids allocation.
            assert self._sums is not None  # noqa: S101 - allocates
            stream = self.engine.backend.xp.cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                for offset in range(length):
                    self._take_step(offset)
                self.kernels.launch("tile_advance", 1, 32, (self.clock, np.int32(length)))
                self._graphs[length] = stream.end_capture()
        return self._graphs[length]

    def _take_step(self, offset: int) -> None:
        run, outputs = self.training, np.int32(self.engine.spec.sizes[-1])
        self.forward(self._order, offset)
        when = (self.clock, np.int32(offset))
        told = self.rows.told(self._order, self.samples)
        head = (self.values[-1], self.engine.loss_number, outputs, *told)
        self.of_samples("tile_losses", (*head, self._errors[-1], self._losses, run.flags, *when))
        self._backward(offset)
        for i in range(len(self.layers)):
            self._find_gradient(i, offset)
        rule = (*run.rule(self._coefficients), *self.engine.layers)
        counts = np.int32(self._parts), np.int32(self.samples)
        arguments = (*rule, self._gradients, *counts, *when)
        self.elementwise("tile_update", self.engine.spec.size, arguments)

    def _backward(self, offset: int) -> None:
        sizes, activation = self.engine.spec.sizes, self.engine.activation_number
        samples, when = np.int32(self.samples), (self.clock, np.int32(offset))
        for i in reversed(range(1, len(self.layers))):
            inputs, outputs = sizes[i], sizes[i + 1]
            tiles, parts = self._cut(self.samples, inputs, outputs)
            to = self._errors[i - 1] if parts == 1 else self._sums
            values = self.values[i - 1]
            head = (self._errors[i], self.layers[i][0], values, np.int32(inputs))
            pre = self.pre[i - 1]
            told = (np.int32(outputs), activation, np.int32(parts), samples, to, pre, *when)
            self.kernels.launch_tiles("tile_errors", tiles * parts, (*head, *told))
            if parts > 1:
                self._join(NULL, values, i - 1, activation, parts, self._errors[i - 1], offset)

    def _find_gradient(self, layer: int, offset: int) -> None:
        spec = self.engine.spec
        inputs, outputs = spec.sizes[layer], spec.sizes[layer + 1]
        first = sum(
            (a + spec.bias) * b for a, b in zip(spec.sizes[:layer], spec.sizes[1:], strict=False)
        )
        tiles, _ = self._cut(inputs + spec.bias, outputs, self.samples)
        numbers = (inputs, outputs, int(spec.bias), self._parts, first, spec.size)
        head = (self.values[layer - 1] if layer else NULL, self._errors[layer])
        told = self.rows.told(self._order, self.samples)
        arguments = (*head, *map(np.int32, numbers), self._gradients, *told)
        self.kernels.launch_tiles(
            "tile_gradient", tiles * self._parts, (*arguments, self.clock, np.int32(offset))
        )


def tiled_evaluation(engine: CupyEngine, params: Array, rows: Rows, found: Array) -> None:
    """Write every sample's loss and number of correct labels to the rows of `found`."""
    samples, outputs = found.shape[1], np.int32(engine.spec.sizes[-1])
    at_once = min(samples, max(1, UNITS_AT_ONCE // sum(engine.spec.sizes[1:])))
    passes = Passes(engine, rows, at_once, params, engine.kernels(rows))
    passes.clock[1] = samples
    for offset in range(math.ceil(samples / at_once)):
        passes.forward(None, offset)
        head = (passes.values[-1], engine.loss_number, outputs, *rows.told(None, at_once))
        arguments = (*head, found[0], found[1], passes.clock, np.int32(offset))
        passes.of_samples("tile_hits", arguments)
