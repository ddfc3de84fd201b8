"""The cases that a run measures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from accelnn.bench._case import Case
from accelnn.bench.contestants import CONTESTANTS

__all__ = ["GPU_GROUPS", "GPU_HEADLINE", "GROUPS", "HEADLINE", "OURS", "ours_in", "plan"]

OURS = "accelnn numba"
"""The reference contestant of ratios, except in GPU groups."""
HEADLINE = "784-50-10, batch 100, float32, sigmoid, SGD"
GPU_HEADLINE = "784-50-10, batch 100"
SLOW = ("SciPy", "numdifftools", "JAX lax.map", "torch gradcheck")
"""Contestants that a short run leaves out."""
SHORT = ("training", "gradient", "scaling", "predict", "first-call")
"""The groups of a short run."""
# Samples of the shortest training run on a GPU, whatever the batch size.
GPU_SAMPLES = 1_000_000
# Variables of a function for which some contestants take minutes.
MANY = 1_000
# Operations of the shorter of two training runs, whatever the net; and operations per update that
# add a second to its budget, so that it has several.
WORK, HEAVY = 2e11, 2e10

# Training cases, by what they change in the first.
VARIANTS: dict[str, dict[str, Any]] = {
    "hidden 100": {"sizes": (784, 100, 10)},
    "784-256-128-10": {"sizes": (784, 256, 128, 10)},
    "batch 32": {"batch": 32},
    "batch 1,000": {"batch": 1000},
    "relu": {"activation": "relu"},
    "float64": {"dtype": "float64"},
    "dense data": {"data": "gaussian"},
    "Momentum": {"optimizer": "momentum"},
    "Adam": {"optimizer": "adam"},
}
# Training cases with relu, of which the first is trained with MNIST too.
WIDE = (
    ((784, 512, 512, 10), 128),
    ((20, 64, 3), 32),
    ((100, 128, 64, 10), 64),
    ((3072, 512, 256, 10), 128),
    ((784, 1024, 1024, 10), 256),
    ((4096, 4096, 10), 512),
)


# Nets of the textbook's gradient, in float64.
GRADIENT: dict[str, Any] = {"sizes": (784, 100, 10), "batch": 20, "dtype": "float64"}


def _case(group: str, name: str, **options: Any) -> Case:
    return Case(group, name, **{"contestants": tuple(CONTESTANTS[group])} | options)


def _relu(
    group: str, sizes: tuple[int, ...], batch: int, name: str = "", data: str = "gaussian"
) -> Case:
    """Return a training case whose runs are the shorter, the wider its net is."""
    kind = "dense" if data == "gaussian" else "MNIST"
    named = name or f"{'-'.join(map(str, sizes))}, batch {batch:,}, relu, {kind}"
    options: Any = {"sizes": sizes, "batch": batch, "activation": "relu", "data": data}
    options |= {} if data == "mnist" else {"optimizer": "slow sgd"}
    work = Case("", "", **options).products()
    few = max(1, min(2000, int(WORK / work)))
    options |= {"few": few, "many": 3 * few, "budget": 1.0 + work / HEAVY}
    return _case(group, named, do="steps", **options)


def _training(data: str, *, full: bool) -> Iterator[Case]:
    options: Any = {"do": "steps", "data": data, "few": 2000, "many": 6000}
    if not full:
        yield _case("training", HEADLINE, **options | {"few": 400, "many": 1200, "budget": 1.0})
        return
    yield _case("training", HEADLINE, **options, budget=3.0)
    for name, changes in VARIANTS.items():
        yield _case("training", name, **options | changes, budget=1.5)
    yield _relu("training", *WIDE[0], data=data)
    for sizes, batch in WIDE:
        yield _relu("training", sizes, batch)


def _gradients(*, full: bool) -> Iterator[Case]:
    """Yield gradients of nets, and of nets and batches of several sizes."""
    names = tuple(name for name in CONTESTANTS["gradient"] if full or name not in SLOW)
    options: Any = {"many": 1_000, "budget": 0.5, "contestants": names}
    yield _case("gradient", "784-100-10, 20 samples", **GRADIENT, **options)
    options = {"dtype": "float64", "many": 1000, "budget": 0.3}
    if not full:
        options |= {"contestants": tuple(CONTESTANTS["scaling"])[:3], "threaded": False}
    for h in (50, 100, 200, 400, 800) if full else (50, 200, 800):
        yield _case("scaling", f"hidden {h}", sizes=(784, h, 10), batch=20, **options)
    for n in (50, 100, 200, 500, 1000) if full else ():
        yield _case("scaling", f"batch {n:,}", batch=n, **options)


def _black_box() -> Iterator[Case]:
    for function, n in (("rosenbrock", 50), ("rosenbrock", 5_000), ("few", 10_000)):
        # numdifftools takes minutes for thousands of variables, because it stores all points.
        names = (name for name in CONTESTANTS["black-box"] if name != "numdifftools" or n < MANY)
        options: Any = {"do": function, "contestants": tuple(names), "threaded": False}
        name = f"{function} of {n:,} variables"
        yield _case("black-box", name, sizes=(n,), dtype="float64", many=1000, **options)


def _load(data: str) -> Iterator[Case]:
    for loaded in (False, True):
        options: Any = {"data": data, "loaded": loaded, "budget": 2.0}
        steps: Any = options | {"few": 2_000, "many": 20_000}
        yield _case("load", "training, one call", do="steps", **steps)
        ours: Any = {"contestants": (OURS,)}
        yield _case(
            "load", "fit with a callback after every update", do="callback", **steps, **ours
        )
        name = "numerical gradient, 784-100-10, 20 samples"
        yield _case("load", name, do="differences", many=300, **GRADIENT, **options, **ours)


def _simple(data: str) -> Iterator[Case]:
    """Yield the cases of groups that have one, or vary in what is called alone."""
    on: Any = {"data": data}
    yield _case("digits", "37 functions", threaded=False)
    numerical: Any = {"do": "by_differences", "dtype": "float64", "many": 1000, "budget": 1.0}
    yield _case("numerical-training", "784-50-10, batch 100, float64", **numerical, **on)
    calls: Any = {"do": "predict", "batch": 10_000, "many": 1000, "budget": 0.5}
    yield _case("predict", "10,000 images", **calls, **on)
    yield _case("prepare", "the training images", many=100, **on)
    loop: Any = {"do": "steps", "many": 10_000, "budget": 5.0}
    yield _case("handwritten-loop", "784-50-10, batch 100, float32", **loop, **on)
    yield _case("whole-run", "10,000 iterations", do="whole", budget=60.0, **on)
    yield _case("first-call", "one step", do="steps", budget=60.0, threaded=False)
    if data == "mnist":
        # The shipped images are too few to learn that much.
        goal: Any = {"sizes": (784, 256, 10), "activation": "relu", "optimizer": "adam"}
        name = "784-256-10, relu, Adam, batch 100"
        yield _case("to-98", name, do="reach", budget=60.0, **goal, **on)


def _on_gpu(data: str) -> Iterator[Case]:
    options: Any = {"device": "cuda", "threaded": False}
    gradients: Any = {"many": 1_000, "budget": 0.5} | GRADIENT | options
    yield _case("gpu-gradient", "784-100-10, 20 samples", **gradients)
    options |= {"data": data}
    yield _case("gpu-whole-run", "10,000 iterations", do="whole", budget=60.0, **options)
    # There are not enough shipped images for one batch of 10,000.
    batches = (100, 1_000, 10_000) if data == "mnist" else (100, 1_000)
    for sizes, batch in (*(((784, 50, 10), n) for n in batches), ((784, 256, 128, 10), 100)):
        name = f"{'-'.join(map(str, sizes))}, batch {batch:,}"
        few = GPU_SAMPLES // batch
        amounts: Any = {"do": "steps", "few": few, "many": 3 * few}
        yield _case("gpu-training", name, sizes=sizes, batch=batch, **amounts, **options)


def _all(data: str, *, full: bool) -> Iterator[Case]:
    yield from _training(data, full=full)
    for hidden in (16, 128, 1024, 4096):
        for batch in (1, 32, 512, 4096):
            name = f"hidden {hidden:,}, batch {batch:,}"
            yield _relu("growth", (784, hidden, 10), batch, name)
    for call in ("gradient", "loss", "predict"):
        for n in (1, 20, 100, 1_000, 10_000):
            name = f"net.{call}, {n:,} sample{'s' * (n > 1)}"
            options: Any = {"do": call, "batch": n, "data": data}
            yield _case("doors", name, many=10_000, budget=0.3, **options)
    yield from _gradients(full=full)
    yield from _black_box()
    yield from _simple(data)
    yield from _load(data)
    yield from _on_gpu(data)


GROUPS = tuple(dict.fromkeys(case.group for case in _all("mnist", full=True)))
GPU_GROUPS = tuple(group for group in GROUPS if group.startswith("gpu-"))
"""Groups that need a CUDA device."""


def ours_in(group: str) -> str:
    """Return the reference contestant of a group's ratios."""
    return "accelnn cupy" if group in GPU_GROUPS else OURS


def plan(
    *, full: bool, only: Sequence[str] = (), data: str = "5k", isa: str = "native"
) -> list[Case]:
    """Return the cases of a short or of a full run.

    Parameters
    ----------
    full : bool
        All groups except those of a GPU, with all cases; otherwise cases of two to three minutes
        in total.
    only : sequence of str, optional
        Only these groups, also those that a short run leaves out.
    data : {"mnist", "5k"}
        The digits.
    isa : {"native", "avx2"}
        The vector instructions.
    """
    on_cpu = [group for group in GROUPS if group not in GPU_GROUPS]
    wanted = tuple(only) or (on_cpu if full else SHORT)
    cases = [replace(case, isa=isa) for case in _all(data, full=full) if case.group in wanted]
    if isa == "native":
        return cases
    # XLA computes products with AVX-512 whatever its option for that says: with JAX 0.10.2 one core
    # did 249 GFLOP/s in float32 that can do 141 with AVX2.
    return [
        replace(case, contestants=tuple(n for n in case.contestants if not n.startswith("JAX")))
        for case in cases
    ]
