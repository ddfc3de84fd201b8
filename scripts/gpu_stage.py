#!/usr/bin/env python3
"""The parts of ``scripts/gpu_report.py``, each a process of its own.

    PYTHONPATH=. python scripts/gpu_stage.py {compile,peer,check,tests,bench} ...

Each ends with one line that says so where there is no CUDA device, after it has imported all that
it needs.
"""

import argparse
import importlib.util
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import accelnn
from accelnn._typing import DTypeName
from accelnn.backends.cupy import engine, launch, tiles, training
from accelnn.backends.cupy.engine import CupyEngine
from accelnn.backends.cupy.resident import RESIDENT, layout_of
from accelnn.backends.cupy.source import PURPOSES, Variant, kernel_source
from accelnn.bench import Case, plan, run
from accelnn.bench._plan import GPU_GROUPS, GPU_HEADLINE
from accelnn.bench.contestants import CONTESTANTS, make_contestant
from accelnn.bench.contestants.base import require
from accelnn.bench.contestants.data import digits
from accelnn.errors import BackendUnavailableError

ROOT = Path(__file__).parents[1]
# Of a net that a sanitizer runs in seconds: its blocks, and their threads.
SMALL_BLOCKS, SMALL_THREADS = 6, 64
SMALL_STEPS, SMALL_BATCH = 5, 8
# How far a small net's losses may be from NumPy's in float64.
TOLERANCE = 1e-4
TESTED = (
    "tests/testing/test_conformance.py",
    "tests/backends",
    "tests/formulas",
    "tests/training",
    "tests/nets",
)
# Seconds of one test, after which it hangs.
MOST_SECONDS = 40
REPEATS = 3
# Seconds without an answer, after which a contestant is ended.
PATIENCE = 60.0
# Seconds of a repeat, which is many thousand steps even then.
BUDGET = 0.6
# The peers that may be the best one, which of torch is a recorded graph.
BEST = ("accelnn cupy", "torch CUDA graph", "JAX scan")


def compile_all() -> None:
    """Compile kernels for all kinds of data in parallel, into CuPy's cache; then run them."""
    # A kernel of each purpose, and the one that is compiled in another way than those beside it.
    named = (RESIDENT, "train", *(names[0] for names in PURPOSES))
    variants = [variant.usual for variant in Variant.all()]
    kernels = itertools.product(variants, named)
    context = multiprocessing.get_context("spawn")
    workers = min(16, os.cpu_count() or 1)
    failed = 0
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_compile, *kernel): kernel for kernel in kernels}
        for job in as_completed(jobs):
            variant, name = jobs[job]
            try:
                print(f"{variant}, {name}: {job.result():.1f} s", flush=True)
            except Exception as error:  # noqa: BLE001 - the others are compiled nevertheless
                failed += 1
                print(f"{variant}, {name}: failed: {error}", flush=True)
    check()
    sys.exit(bool(failed))


def _compile(variant: Variant, name: str) -> float:
    started = time.perf_counter()
    backend = accelnn.get_backend("cupy")
    if name == RESIDENT:
        dtype: Any = variant.dtype
        of_headline = accelnn.MLP((784, 50, 10), dtype=dtype, backend=backend).engine
        layout = of_headline._layout(100, variant, slots=0)  # type: ignore[attr-defined] # noqa: SLF001 - that of the headline
        if layout is not None:
            launch.resident_kernel(backend, variant, layout)
    else:
        launch.kernels_of(backend, variant).whole_warps(name, 1)
    return time.perf_counter() - started


def peer(contestant: str) -> None:
    """Let a contestant of the headline compile what it needs, into caches on disk."""
    (case,) = _cases((GPU_HEADLINE,), (contestant,))
    made = make_contestant(contestant, case, os.cpu_count() or 1)
    started = time.perf_counter()
    made.ready(1_000)
    made.run(1_000)
    print(f"{contestant}: {time.perf_counter() - started:.1f} s for the first steps", flush=True)


def check() -> None:
    """Run every kernel, in small blocks that a sanitizer is quick with, and compare with NumPy.

    Arrays are allocations of their own, so that a sanitizer sees their ends.
    """
    import cupy

    cupy.cuda.set_allocator(None)
    attributes = launch.device_attributes
    launch.MOST_THREADS = SMALL_THREADS
    launch.device_attributes = lambda backend: (  # type: ignore[assignment]
        attributes(backend) | {"MultiProcessorCount": SMALL_BLOCKS}
    )
    training.CAPTURED = 2
    samples = SMALL_BATCH * SMALL_STEPS
    (x, t), _ = accelnn.load_mnist(subset="5k")
    x, t = x[:samples], t[:samples]
    soft = np.eye(10, dtype=np.float32)[t]
    way, layout = CupyEngine._way, CupyEngine._layout  # noqa: SLF001 - whatever the size
    deviations = []
    ways = (tiles.Tiled, training.OneLaunch, training.Replayed, training.Products)
    for chosen in (*ways, training.Resident):
        is_kept = chosen is training.Resident
        CupyEngine._way = lambda _self, _samples, c=chosen: c  # type: ignore[method-assign,misc] # noqa: SLF001
        CupyEngine._layout = _small_layout if is_kept else lambda *_: None  # type: ignore[method-assign,assignment] # noqa: SLF001
        engine.TILED = 0 if chosen is tiles.Tiled else 1 << 60
        for sizes, targets in (((784, 12, 10), t), ((784, 9, 7, 10), soft)):
            if is_kept and len(sizes) > 3:  # noqa: PLR2004 - one hidden layer
                continue
            found, wanted = (_losses(sizes, x, targets, name) for name in ("cupy", "numpy"))
            deviations.append(float(np.abs(found - wanted).max()))
            what = f"{chosen.__name__}, {'-'.join(map(str, sizes))}"
            print(f"{what}: largest deviation from NumPy {deviations[-1]:.1e}", flush=True)
    CupyEngine._way, CupyEngine._layout = way, layout  # type: ignore[method-assign] # noqa: SLF001
    for engine.PRODUCTS_NOT_TILES, clip in ((0, 0.5), (1 << 60, 0.5), (1 << 60, None)):
        options: dict[str, Any] = {"dropout": 0.2, "clip": clip}
        found, wanted = (
            _losses((784, 9, 7, 10), x, t, name, **options) for name in ("cupy", "numpy")
        )
        deviations.append(float(np.abs(found - wanted).max()))
        what = f"{options}, products from {engine.PRODUCTS_NOT_TILES:,}"
        print(f"{what}: largest deviation from NumPy {deviations[-1]:.1e}", flush=True)
    for sizes in ((784, 12, 10), (784, 9, 7, 10)):
        net = accelnn.MLP(sizes, rng=0, dtype="float64", backend="cupy")
        few = [net.backend.asarray(part[:3]) for part in (x.astype(np.float64), t)]
        numerical, exact = net.numerical_gradient(*few), net.gradient(*few)
        apart = [float(abs(numerical[name] - exact[name]).max()) for name in exact]
        deviations.append(max(apart))
        print(f"differences of {sizes}: largest deviation {deviations[-1]:.1e}", flush=True)
    if not max(deviations) <= TOLERANCE:
        sys.exit(f"wrong: the largest deviation is {max(deviations):.1e}, above {TOLERANCE:.0e}")


def _small_layout(own: CupyEngine, batch: int, variant: Variant, slots: int) -> object:
    """Return the layout of a net on a device of few blocks."""
    return layout_of(
        variant,
        own.spec.sizes,
        batch,
        bias=own.spec.bias,
        slots=slots,
        processors=SMALL_BLOCKS,
        shared=launch.device_attributes(own.backend)["MaxSharedMemoryPerBlockOptin"],
        threads=SMALL_THREADS,
    )


def _losses(
    sizes: tuple[int, ...],
    x: Any,
    t: Any,
    backend: str,
    *,
    dropout: float = 0.0,
    clip: float | None = None,
) -> np.ndarray:
    dtype: DTypeName = "float64" if backend == "numpy" else "float32"
    net = accelnn.MLP(sizes, rng=0, dtype=dtype, dropout=dropout, backend=backend)
    rule, size = accelnn.Adam(0.01), SMALL_BATCH
    history = accelnn.fit(
        net, x, t, batch_size=size, epochs=1, rng=0, optimizer=rule, clip_norm=clip
    )
    return np.array([*history.loss, float(net.loss(*map(net.backend.asarray, (x, t))))])


class AsTheyEnd:
    """A plugin of pytest that prints a failure when it happens, not when all tests have ended."""

    def __init__(self) -> None:
        self.terminal: Any = None

    def pytest_sessionstart(self, session: Any) -> None:
        """Find where to print."""
        self.terminal = session.config.pluginmanager.getplugin("terminalreporter")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Print why a test has failed."""
        if report.failed:
            self.terminal.write_line(f"\n{report.nodeid}, {report.when}:\n{report.longreprtext}")


def tests(processes: int, *, collect: bool) -> int:
    """Run the tests of the cupy backend in some processes, of which a faulty kernel ends one."""
    # Other packages' plugins are not asked for, and change what is tested.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["--require-backend", "cupy", "-p", "no:cacheprovider"]
    # The others need no device, and can be run where none is paid for.
    options += ["-m", "not cuda_on_cpu and not nvrtc", "-k", "cupy or gpu"]
    # What a newer NumPy or CuPy warns of is listed, and hides no result.
    options += ["-W", "default"]
    # A file that needs a package which the machine lacks, such as SciPy, ends none of the others.
    options += ["--continue-on-collection-errors"]
    if _is_installed("pytest_timeout"):
        options += ["-p", "pytest_timeout", "--timeout", str(MOST_SECONDS)]
        options += ["--timeout-method", "thread"]
    if _is_installed("xdist"):
        options += ["-p", "xdist.plugin", "-n", "0" if collect else str(processes)]
    else:
        print("pytest-xdist is not installed: a kernel's fault fails all later tests", flush=True)
    options += ["-q", "--collect-only"] if collect else ["-v"]
    import pytest

    return int(pytest.main([*TESTED, *options], plugins=[AsTheyEnd()]))


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def bench(part: str, path: Path, *, is_best: bool) -> None:
    """Measure the ``"headline"`` or the ``"rest"``, and write every case when it is done."""
    report = run(
        _part(part, is_best=is_best),
        repeats=REPEATS,
        timeout=PATIENCE,
        progress=_say,
        keep=lambda report: report.write(path),
    )
    for problem in report.problems:
        print(f"{problem.case.name}: {problem.contestant}: {problem.reason}", flush=True)


def _part(part: str, *, is_best: bool = False) -> list[Case]:
    """Return the cases of a part, those of most worth first; of peers, the best ones alone."""
    if part == "headline":
        named: tuple[str, ...] = BEST if is_best else ()
        return [*_cases((GPU_HEADLINE,), named), *_cases(group="gpu-gradient")]
    others = (
        "784-50-10, batch 1,000",
        "784-256-128-10, batch 100",
        "784-50-10, batch 10,000",
    )
    whole = ("accelnn cupy", "accelnn numba", "torch CUDA graph", "JAX scan")
    named = whole if is_best else ()
    return [*_cases(others, BEST), *_cases((), named, group="gpu-whole-run")]


def _cases(
    names: tuple[str, ...] = (), contestants: tuple[str, ...] = (), group: str = "gpu-training"
) -> list[Case]:
    planned = {case.name: case for case in plan(full=False, only=[group], data=digits())}
    return [
        replace(planned[name], contestants=contestants or planned[name].contestants, budget=BUDGET)
        for name in names or planned
        if name in planned
    ]


def _say(_steps: int, note: str) -> None:
    print(note, flush=True)


def start_only(part: str, contestants: list[str]) -> None:
    """Import what a part needs, and say what is not installed, where it cannot be carried out."""
    if part == "compile":
        print(f"{len(kernel_source().splitlines()):,} lines of kernels", flush=True)
    for contestant in contestants:
        entries = (CONTESTANTS[group].get(contestant) for group in GPU_GROUPS)
        needs = next(entry.needs for entry in entries if entry is not None)
        try:
            require(needs)
        except ImportError as error:
            print(f"{contestant}: will be skipped: {error}", flush=True)
        else:
            print(f"{contestant}: {needs or 'nothing else is needed'}", flush=True)


def main() -> None:
    """Read the command line, see that there is a device, do what is asked."""
    parser = argparse.ArgumentParser(description="Do a part of scripts/gpu_report.py.")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("compile", help="compile all kernels")
    parts.add_parser("peer", help="let a contestant compile").add_argument("contestant")
    parts.add_parser("check", help="run all kernels in small blocks")
    parts.add_parser("tests", help="run the tests").add_argument("--processes", type=int, default=8)
    measuring = parts.add_parser("bench", help=f"measure {', '.join(GPU_GROUPS)}")
    measuring.add_argument("which", choices=("headline", "rest"))
    measuring.add_argument("--best", action="store_true", help="the best peers alone")
    measuring.add_argument("--json", type=Path, required=True, help="where times are written")
    options = parser.parse_args()
    os.chdir(ROOT)
    work: dict[str, Callable[[], object]] = {
        "compile": compile_all,
        "peer": lambda: peer(options.contestant),
        "check": check,
        "tests": lambda: sys.exit(tests(options.processes, collect=False)),
        "bench": lambda: bench(options.which, options.json, is_best=options.best),
    }
    try:
        accelnn.get_backend("cupy")
    except BackendUnavailableError as error:
        if options.part == "tests":
            tests(0, collect=True)
        cases = _part(options.which) if options.part == "bench" else []
        named = [name for case in cases for name in case.contestants]
        named += [options.contestant] if options.part == "peer" else []
        start_only(options.part, list(dict.fromkeys(named)))
        sys.exit(str(error).splitlines()[0])
    work[options.part]()


if __name__ == "__main__":
    main()
