#!/usr/bin/env python3
"""Say where the time of a training step goes on a CUDA device, and whether its numbers are right.

    PYTHONPATH=. python scripts/gpu_breakdown.py --json breakdown.json

Each half of a step is timed at several block sizes, all ways of training, what the host adds,
the barrier of the grid alone, and what is asked for besides training. Every number is printed and
written as soon as it is there, and a part that fails hides none of the others. The names are those
inside `accelnn.backends.cupy`: this script changes with them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import accelnn
from accelnn._typing import DTypeName
from accelnn.backends import TrainingState
from accelnn.backends.cupy.dataset import NULL
from accelnn.backends.cupy.source import Variant, kernel_source, shared_bytes
from accelnn.backends.cupy.tiles import Tiled
from accelnn.backends.cupy.training import (
    OneLaunch,
    Products,
    Replayed,
    Resident,
    Training,
    Updates,
)
from accelnn.bench._machine import describe_gpu
from accelnn.errors import BackendUnavailableError

# The headline first: a run that is cut short has it.
CASES = (
    ((784, 50, 10), 100),
    ((784, 50, 10), 1_000),
    ((784, 256, 128, 10), 100),
    ((784, 50, 10), 10_000),
)
THREADS = (64, 128, 256, 384, 512)
# Blocks of the grid's barrier have so many, from one warp to what a step has.
BARRIER_THREADS = (32, 256, 896)
BARRIERS = 2_000
# Launches of one half that are captured together, so that the host is not what is timed.
LAUNCHES = 50
REPEATS = 5
FEW_STEPS = 40
COMPARED_STEPS = 20
BARRIER = """
extern "C" __global__ void barriers(unsigned int* arrived, int n) {
    for (int i = 0; i < n; ++i) grid_barrier(arrived);
}
"""


class Notes:
    """What was found, on standard output and in a file, number by number.

    Parameters
    ----------
    path : Path or None
        The file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.content: dict[str, Any] = {"machine": {}, "found": [], "failed": []}

    def add(self, case: str, what: str, value: float, unit: str = "µs") -> None:
        """Take down a number."""
        entry = {"case": case, "what": what, "value": value, "unit": unit}
        self.content["found"].append(entry)
        print(f"{case}: {what}: {value:.4g} {unit}", flush=True)
        self._write()

    def machine(self, described: dict[str, str]) -> None:
        """Take down what was measured on."""
        self.content["machine"] = described
        print(*(f"{name}: {words}" for name, words in described.items()), sep="\n", flush=True)
        self._write()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Let what fails within the block be a line among the others."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the next part is tried
            reason = f"{name}: failed: {type(error).__name__}: {error}"
            self.content["failed"].append(reason)
            print(reason, flush=True)
            self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)


def on_device(work: Callable[[], object], units: int) -> float:
    """Return the microseconds of a unit between two CUDA events, of the best of some repeats."""
    import cupy

    found = []
    # The first one warms up.
    for _ in range(1 + REPEATS):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        work()
        end.record()
        end.synchronize()
        found.append(cupy.cuda.get_elapsed_time(start, end) * 1e3 / units)
    return float(min(found[1:]))


def on_clock(work: Callable[[], object], units: int) -> float:
    """Return the microseconds of a unit on the wall clock, until the device has done it."""
    backend, found = accelnn.get_backend("cupy"), []
    for _ in range(1 + REPEATS):
        backend.synchronize()
        started = time.perf_counter()
        work()
        backend.synchronize()
        found.append((time.perf_counter() - started) * 1e6 / units)
    return min(found[1:])


def captured(launch: Callable[[], object]) -> Callable[[], object]:
    """Return what replays many launches of a kernel, captured as a graph."""
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for _ in range(LAUNCHES):
            launch()
        graph = stream.end_capture()
    replay: Callable[[], object] = graph.launch
    return replay


def time_barrier(notes: Notes) -> None:
    """Time the barrier of the grid, a block to a multiprocessor."""
    import cupy

    backend = accelnn.get_backend("cupy")
    blocks = cupy.cuda.Device().attributes["MultiProcessorCount"]
    # The barrier stands before what is made of it.
    beginning, found, _ = kernel_source().partition("struct Sum")
    if not found:
        msg = "grid.cuh has no 'struct Sum' after grid_barrier any more: cut it at what follows now"
        raise RuntimeError(msg)
    kernel = cupy.RawKernel(
        beginning + BARRIER,
        "barriers",
        options=Variant("float32", has_pixels=True, has_labels=True).options,
        enable_cooperative_groups=True,
    )
    arrived = backend.zeros(4, np.uint32)
    for threads in BARRIER_THREADS:

        def meet(threads: int = threads) -> None:
            arrived.fill(0)
            arguments = (arrived, np.int32(BARRIERS))
            kernel((blocks,), (threads,), arguments, shared_mem=shared_bytes(threads))

        what = f"barrier of {blocks} blocks of {threads} threads"
        notes.add("grid", what, on_device(meet, BARRIERS))


class Case:
    """A net in training, and everything that is timed of it.

    Parameters
    ----------
    notes : Notes
        Where numbers go.
    sizes, batch : tuple of int, int
        The net, and the samples of a step.
    samples : tuple of numpy.ndarray
        Images and labels.
    """

    def __init__(
        self,
        notes: Notes,
        sizes: tuple[int, ...],
        batch: int,
        samples: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self.notes, self.sizes, self.batch, self.samples = notes, sizes, batch, samples
        self.name = f"{'-'.join(map(str, sizes))}, batch {batch:,}"
        self.backend = accelnn.get_backend("cupy")
        self.net = accelnn.MLP(sizes, rng=0, backend=self.backend)
        self.data = accelnn.prepare(*samples, backend=self.backend)
        self.state = TrainingState(self.net.flat, accelnn.SGD(0.1), "analytic", self.backend)
        order = np.random.default_rng(0).permutation(len(samples[0]))
        self.steps = len(order) // batch
        self.order = order[: self.steps * batch]

    def measure(self) -> None:
        """Do all of it, what is asked for first at the beginning."""
        started = time.perf_counter()
        self._train(self.order)
        self._add("first call of engine.train", (time.perf_counter() - started) * 1e3, "ms")
        print(f"{self.name}: {self.net.engine.describe(self.batch)}", flush=True)
        parts = (self.ways, self.host, self.deviation, self.others, self.layouts, self.halves)
        for part in parts:
            with self.notes.part(f"{self.name}, {part.__name__}"):
                part()

    def ways(self) -> None:
        """Time a step in each of the ways that can be gone, an epoch at once."""
        on_device_order = self.backend.asarray(self.order, np.int64)
        losses = self.backend.zeros(self.order.size, np.float64)
        coefficients = self._training.coefficients(1, self.steps)
        updates = Updates(on_device_order, losses, coefficients)
        for way in (self._resident, Tiled, Replayed, OneLaunch, Products):
            run, take = self._training, way(self._training)
            if take is None:
                continue
            name = f"{type(take).__name__}, a step"
            # As before each call of the engine: what an earlier way came to is forgotten.
            self.net.engine._checked(run.params, run.kernels, run.flags)  # type: ignore[attr-defined] # noqa: SLF001 - see `_training`
            with self.notes.part(f"{self.name}, {name}"):
                self._add(name, on_device(lambda t=take: t(updates), self.steps))  # type: ignore[misc]
                # After one that is not finite, the steps do nothing, in no time.
                if not np.isfinite(self.backend.to_numpy(losses)).all():
                    self._add(f"{name}: losses that are not finite", 1, "")

    def layouts(self) -> None:
        """Time other layouts of a resident net than the one that is chosen."""
        chosen = self._resident(self._training)
        if chosen is None or self.sizes != CASES[0][0]:
            return
        order = self.backend.asarray(self.order, np.int64)
        losses = self.backend.zeros(self.order.size, np.float64)
        updates = Updates(order, losses, self._training.coefficients(1, self.steps))
        layout = chosen._layout  # noqa: SLF001 - see `_training`
        wider = {"rows": 24, "columns": 5, "width": 10, "tile": 10}
        for other in ({"update": 5}, {"forward": 4}, {"last": 10}, wider):
            name = f"resident with {other}, a step"
            with self.notes.part(f"{self.name}, {name}"):
                take = Resident(self._training, layout._replace(**other))
                self._add(name, on_device(lambda t=take: t(updates), self.steps))  # type: ignore[misc]

    def halves(self) -> None:
        """Time each half of a step by itself."""
        run = self._training
        order = self.backend.asarray(self.order[: self.batch], np.int64)
        losses = self.backend.zeros(self.batch, np.float64)
        told, spec = run.told(order, losses, self.batch), self.net.engine.spec
        coefficients, first = run.coefficients(1, 1), np.int64(0)
        head = (run.params, run.flags, *run.dropout(NULL), first)
        halves = {
            "batch_errors": (self.batch, (*head, *told)),
            "batch_update": (
                run.kernels.processors,
                (*run.rule(coefficients), first, *told),
            ),
        }
        for name, (blocks, arguments) in halves.items():
            usual = run.kernels.threads(name, spec)
            most = run.kernels.whole_warps(name, 1_024)
            for threads in sorted({*(n for n in THREADS if n <= most), usual}):
                what = f"{name}, {threads} threads" + " as chosen" * (threads == usual)
                with self.notes.part(f"{self.name}, {what}"):
                    replay = captured(
                        lambda n=threads, b=blocks, a=arguments, k=name: run.kernels.launch(  # type: ignore[misc]
                            k, b, n, a
                        )
                    )
                    self._add(what, on_device(replay, LAUNCHES))

    def host(self) -> None:
        """Time calls as a user makes them, on the wall clock."""
        few = self.order[: FEW_STEPS * self.batch]
        self._add(f"engine.train of {len(few) // self.batch} steps", self._clocked(few))
        self._add("engine.train of one step", self._clocked(self.order[: self.batch]))
        each = self._clocked(self.order) / self.steps
        self._add("engine.train of an epoch, a step", each)
        arguments = {"batch_size": self.batch, "epochs": 1, "rng": 0}

        def fit() -> None:
            accelnn.fit(self.net, self.data, **arguments)  # type: ignore[arg-type]

        self._add("fit of an epoch, a step", on_clock(fit, 1) / self.steps)

    def deviation(self) -> None:
        """Compare losses with those of NumPy in float64."""
        n = min(COMPARED_STEPS * self.batch, len(self.samples[0]))
        few = tuple(part[:n] for part in self.samples)
        losses = []
        dtypes: dict[str, DTypeName] = {"numpy": "float64", "cupy": "float32"}
        for backend, dtype in dtypes.items():
            net = accelnn.MLP(self.sizes, rng=0, dtype=dtype, backend=backend)
            history = accelnn.fit(net, *few, batch_size=self.batch, epochs=1, rng=0)
            losses.append(np.array(history.loss))
        what = f"largest deviation of {len(losses[0])} losses from NumPy's"
        self._add(what, float(np.abs(losses[0] - losses[1]).max()), "")

    def others(self) -> None:
        """Time what is asked for besides training."""
        x, t = (self.backend.asarray(part[: self.batch]) for part in self.samples)
        calls: dict[str, Callable[[], object]] = {
            "net.gradient of a batch": lambda: self.net.gradient(x, t),
            "net.loss of a batch": lambda: self.net.loss(x, t),
            "net.accuracy of a batch": lambda: self.net.accuracy(x, t),
            f"engine.evaluate of {len(self.samples[0]):,} images": lambda: self.net.engine.evaluate(
                self.net.flat, self.data
            ),
        }
        for what, call in calls.items():
            with self.notes.part(f"{self.name}, {what}"):
                self._add(what, on_clock(call, 1))

    def _resident(self, run: Training) -> Resident | None:
        """Return the way of a net that the device keeps, if it fits."""
        engine: Any = self.net.engine
        layout = engine._layout(run.most, run.variant, len(run.slots))  # noqa: SLF001 - see `_training`
        if layout is None:
            return None
        print(f"{self.name}: {layout}", flush=True)
        return Resident(run, layout)

    @property
    def _training(self) -> Training:
        """The run that the engine made at the first call, with its buffers."""
        run: Training = self.net.engine._ways[self.state].training  # type: ignore[attr-defined] # noqa: SLF001 - what a script about the inside is for
        return run

    def _train(self, order: np.ndarray) -> None:
        self.net.engine.train(self.state, self.data, order, self.batch)

    def _clocked(self, order: np.ndarray) -> float:
        return on_clock(lambda: self._train(order), 1)

    def _add(self, what: str, value: float, unit: str = "µs") -> None:
        self.notes.add(self.name, what, value, unit)


def time_differences(notes: Notes, samples: tuple[np.ndarray, np.ndarray]) -> None:
    """Time the numerical gradient of 79,510 parameters, and compare it with the analytic one."""
    backend, case = accelnn.get_backend("cupy"), "gradient of 784-100-10, 20 samples"
    net = accelnn.TwoLayerNet(784, 100, 10, dtype="float64", rng=0, backend=backend)
    x, t = backend.asarray(samples[0][:20], np.float64), backend.asarray(samples[1][:20])
    found, exact = net.numerical_gradient(x, t), net.gradient(x, t)
    deviation = max(float(abs(found[name] - exact[name]).max()) for name in found)
    notes.add(case, "largest deviation from the analytic one", deviation, "")
    ways: dict[str, Callable[[], object]] = {
        "net.numerical_gradient": lambda: net.numerical_gradient(x, t),
        "engine.numerical_gradient": lambda: net.engine.numerical_gradient(
            net.flat, x, t, method="central", step=1e-4
        ),
    }
    for what, call in ways.items():

        def many(call: Callable[[], object] = call) -> None:
            for _ in range(LAUNCHES):
                call()

        notes.add(case, f"{what}, CUDA events", on_device(many, LAUNCHES))
        notes.add(case, f"{what}, wall clock", on_clock(many, LAUNCHES))


def break_down(notes: Notes) -> None:
    """Measure everything, the headline first."""
    subset = None if os.environ.get("ACCELNN_DATA_DIR") else "5k"
    samples, _ = accelnn.load_mnist(subset=subset)  # type: ignore[arg-type]
    for number, (sizes, batch) in enumerate(CASES):
        if batch <= len(samples[0]):
            with notes.part(f"{sizes}, batch {batch:,}"):
                Case(notes, sizes, batch, samples).measure()
        if number == 0:
            with notes.part("gradient"):
                time_differences(notes, samples)
            with notes.part("barrier"):
                time_barrier(notes)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description="Say where a step's time goes on a CUDA device.")
    parser.add_argument("--json", type=Path, help="write every number to this file too")
    options = parser.parse_args()
    notes = Notes(options.json)
    try:
        notes.machine(describe_gpu())
    except BackendUnavailableError as error:
        sys.exit(str(error).splitlines()[0])
    break_down(notes)
    sys.exit(bool(notes.content["failed"]))


if __name__ == "__main__":
    main()
