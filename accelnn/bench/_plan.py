"""The cases that a run measures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
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
# Who takes minutes for a function of that many variables, because it stores all points.
STORES, MANY = "numdifftools", 1_000
# Operations of the shorter of two training runs, whatever the net; and operations per update that
# add a second to its budget, so that it has several.
WORK, HEAVY = 2e11, 2e10

Options = dict[str, Any]
ON_GPU: Options = {"device": "cuda", "threaded": False}
# The textbook's gradient, and the most of them in a repeat.
GRADIENT: Options = {"sizes": (784, 100, 10), "batch": 20, "dtype": "float64", "many": 1_000}
# What all cases of a group have in common; their data are the digits if it names no others.
COMMON: dict[str, Options] = {
    "training": {"do": "steps", "few": 2_000, "many": 6_000, "budget": 1.5},
    "growth": {"do": "steps"},
    "options": {"do": "steps", "few": 2_000, "many": 6_000, "budget": 1.5},
    "doors": {"many": 10_000, "budget": 0.3},
    "gradient": GRADIENT | {"data": "5k", "budget": 0.5},
    "scaling": {"data": "5k", "dtype": "float64", "many": 1_000, "budget": 0.3},
    "black-box": {"data": "5k", "dtype": "float64", "many": 1_000, "threaded": False},
    "digits": {"data": "5k", "threaded": False},
    "numerical-training": {"do": "by_differences", "dtype": "float64", "many": 1_000},
    "predict": {"do": "predict", "batch": 10_000, "many": 1_000, "budget": 0.5},
    "prepare": {"many": 100},
    "handwritten-loop": {"do": "steps", "many": 10_000, "budget": 5.0},
    "whole-run": {"do": "whole", "budget": 60.0},
    "first-call": {"data": "5k", "do": "steps", "budget": 60.0, "threaded": False},
    "to-98": {"do": "reach", "budget": 60.0},
    "estimator": {"batch": 200, "activation": "relu", "optimizer": "adam"},
    "load": {"budget": 2.0},
    "gpu-gradient": GRADIENT | ON_GPU | {"data": "5k", "budget": 0.5},
    "gpu-whole-run": ON_GPU | {"do": "whole", "budget": 60.0},
    "gpu-training": ON_GPU | {"do": "steps"},
}
GROUPS = tuple(COMMON)
GPU_GROUPS = tuple(group for group in GROUPS if group.startswith("gpu-"))
"""Groups that need a CUDA device."""

# Training cases, by what they change in the first.
VARIANTS: dict[str, Options] = {
    HEADLINE: {"budget": 3.0},
    "hidden 100": {"sizes": (784, 100, 10)},
    "784-256-128-10": {"sizes": (784, 256, 128, 10)},
    "batch 32": {"batch": 32},
    "batch 1,000": {"batch": 1_000},
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


def _relu(sizes: tuple[int, ...], batch: int) -> Options:
    """Return training with relu on dense data, whose runs are the shorter, the wider its net is."""
    net: Options = {"sizes": sizes, "batch": batch, "activation": "relu"}
    work = Case("", "", **net).products()
    few = max(1, min(2_000, int(WORK / work)))
    dense: Options = {"data": "gaussian", "optimizer": "slow sgd"}
    return net | dense | {"few": few, "many": 3 * few, "budget": 1.0 + work / HEAVY}


def _on_digits(data: str) -> Options:
    return _relu(*WIDE[0]) | {"data": data, "optimizer": "sgd"}


def _net(sizes: tuple[int, ...], batch: int) -> str:
    return f"{'-'.join(map(str, sizes))}, batch {batch:,}"


def _all(data: str, *, full: bool) -> Iterator[tuple[str, str, Options]]:
    """Yield the group and the name of all cases, and what they have of their own."""
    yield from _training(data, full=full)
    yield "options", _net((784, 50, 10), 100), {}
    yield "options", f"{_net(*WIDE[0])}, relu", _on_digits(data)
    for h, n in product((16, 128, 1024, 4096), (1, 32, 512, 4096)):
        yield "growth", f"hidden {h:,}, batch {n:,}", _relu((784, h, 10), n)
    for call, n in product(("gradient", "loss", "predict"), (1, 20, 100, 1_000, 10_000)):
        yield "doors", f"net.{call}, {n:,} sample{'s' * (n > 1)}", {"do": call, "batch": n}
    yield from _gradients(full=full)
    yield "digits", "37 functions", {}
    yield "numerical-training", "784-50-10, batch 100, float64", {}
    yield "predict", "10,000 images", {}
    yield "prepare", "the training images", {}
    yield "handwritten-loop", "784-50-10, batch 100, float32", {}
    yield "whole-run", "10,000 iterations", {}
    yield "first-call", "one step", {}
    if data == "mnist":
        # The shipped images are too few to learn that much.
        own: Options = {"sizes": (784, 256, 10), "activation": "relu", "optimizer": "adam"}
        yield "to-98", "784-256-10, relu, Adam, batch 100", own
    yield "estimator", "MNIST" if data == "mnist" else "5,000 of MNIST", {"sizes": (784, 100, 10)}
    small: Options = {"sizes": (64, 100, 10), "data": "8x8"}
    yield "estimator", "digits of 8 x 8 pixels", small
    # As many as scikit-learn's at most, by default.
    yield "estimator", "digits of 8 x 8 pixels, 200 epochs", small | {"epochs": 200}
    for dtype in ("float32", "float64"):
        own = {"sizes": (50, 100, 4), "data": "table", "dtype": dtype}
        yield "estimator", f"75,000 samples of 50, {dtype}", own
    for loaded in (False, True):
        steps: Options = {"loaded": loaded, "few": 2_000, "many": 20_000}
        ours: Options = {"loaded": loaded, "contestants": (OURS,)}
        yield "load", "training, one call", {"do": "steps"} | steps
        yield "load", "fit with a callback after every update", {"do": "callback"} | steps | ours
        own = GRADIENT | ours | {"do": "differences", "many": 300}
        yield "load", "numerical gradient, 784-100-10, 20 samples", own
    yield "gpu-gradient", "784-100-10, 20 samples", {}
    yield "gpu-whole-run", "10,000 iterations", {}
    # There are not enough shipped images for one batch of 10,000.
    batches = (100, 1_000, 10_000) if data == "mnist" else (100, 1_000)
    for sizes, n in (*product([(784, 50, 10)], batches), ((784, 256, 128, 10), 100)):
        amounts = {"few": GPU_SAMPLES // n, "many": 3 * (GPU_SAMPLES // n)}
        yield "gpu-training", _net(sizes, n), {"sizes": sizes, "batch": n} | amounts


def _training(data: str, *, full: bool) -> Iterator[tuple[str, str, Options]]:
    if not full:
        yield "training", HEADLINE, {"few": 400, "many": 1_200, "budget": 1.0}
        return
    for name, own in VARIANTS.items():
        yield "training", name, own
    yield "training", f"{_net(*WIDE[0])}, relu, MNIST", _on_digits(data)
    for net in WIDE:
        yield "training", f"{_net(*net)}, relu, dense", _relu(*net)


def _gradients(*, full: bool) -> Iterator[tuple[str, str, Options]]:
    """Yield gradients of nets, of nets and batches of several sizes, and of functions."""
    names = tuple(name for name in CONTESTANTS["gradient"] if full or name not in SLOW)
    yield "gradient", "784-100-10, 20 samples", {"contestants": names}
    short: Options = {"contestants": tuple(CONTESTANTS["scaling"])[:3], "threaded": False}
    for h in (50, 100, 200, 400, 800) if full else (50, 200, 800):
        own: Options = {"sizes": (784, h, 10), "batch": 20}
        yield "scaling", f"hidden {h}", own if full else own | short
    for n in (50, 100, 200, 500, 1000) if full else ():
        yield "scaling", f"batch {n:,}", {"batch": n}
    for function, n in (("rosenbrock", 50), ("rosenbrock", 5_000), ("few", 10_000)):
        names = tuple(name for name in CONTESTANTS["black-box"] if n < MANY or name != STORES)
        own = {"do": function, "sizes": (n,), "contestants": names}
        yield "black-box", f"{function} of {n:,} variables", own


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
    cases = []
    for group, name, own in _all(data, full=full):
        usual: Options = {"data": data, "contestants": tuple(CONTESTANTS[group])}
        case = Case(group, name, isa=isa, **usual | COMMON[group] | own)
        if isa == "avx2" and case.device == "cpu":
            # XLA computes products with AVX-512 whatever its option for that says: with JAX 0.10.2
            # one core did 249 GFLOP/s in float32 that can do 141 with AVX2.
            names = tuple(name for name in case.contestants if not name.startswith("JAX"))
            case = replace(case, contestants=names)
        if group in wanted:
            cases.append(case)
    return cases
