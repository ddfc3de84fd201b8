"""Small runs on the shipped images, and a report whose numbers are known."""

import pytest

from accelnn.bench import Case, Measurement, Problem, Report
from accelnn.bench._plan import GPU_HEADLINE, HEADLINE
from accelnn.bench._task import Task

SMALL = Task(sizes=(784, 8, 10), batch=20)


@pytest.fixture
def training_case():
    return Case(
        "training", "small", SMALL, ("accelnn numba", "accelnn numpy", "NumPy loop"), 4, 12, 0.2
    )


@pytest.fixture
def gradient_case():
    task = Task(sizes=(784, 2, 10), batch=3, dtype="float64")
    names = ("accelnn numba", "accelnn numpy", "NumPy loop", "NumPy analytic")
    return Case("gradient", "small", task, names, 0, 2, 0.1, threaded=False)


def measurement(
    contestant, threads, seconds, *, group="training", case=HEADLINE, task=None, **facts
):
    return Measurement(group, case, contestant, threads, task or Task(), seconds, facts)


@pytest.fixture
def report():
    """Two threads help accelnn and hurt the loop; JAX is skipped, torch has failed once."""
    ours = {"loss": 0.36, "accuracy": 0.9062, "peak_mb": 101.4}
    wide = {"case": "hidden 100", "task": Task(sizes=(784, 100, 10))}
    scaling = [
        measurement(
            name, 1, [s * h], group="scaling", case=f"hidden {h}", task=Task((784, h, 10), batch=20)
        )
        for h in (50, 200)
        for name, s in (("accelnn numba", 1e-5), ("NumPy loop", 0.1))
    ]
    return Report(
        {"processor": "an abacus, 2 usable cores", "python": "3.11.7", "data": "digits"},
        {"repeats": 3, "threads": 2},
        [
            measurement("accelnn numba", 1, [90e-6, 80e-6, 85e-6], **ours),
            measurement("accelnn numba", 2, [40e-6, 50e-6, 42.5e-6], **ours | {"peak_mb": 99.0}),
            measurement("NumPy loop", 1, [210e-6, 170e-6, 200e-6], loss=0.36, accuracy=0.9062),
            measurement("NumPy loop", 2, [1.0, 2.0, 3.0], loss=0.36, accuracy=0.9062),
            measurement("accelnn numba", 2, [100e-6], **wide),
            measurement("NumPy loop", 1, [0.5e-3], **wide),
            *scaling,
        ],
        [
            Problem("training", HEADLINE, "JAX scan", 1, "No module named 'jax'", skipped=True),
            Problem("training", HEADLINE, "JAX scan", 2, "No module named 'jax'", skipped=True),
            Problem("training", "hidden 100", "torch eager", 2, "died:\n  code -9", skipped=False),
        ],
    )


@pytest.fixture
def gpu_report():
    """Our step takes 5 µs, that of the best peer four times as long; a wide net is slower."""
    task, wide = Task(device="cuda"), Task((784, 256, 128, 10), device="cuda")
    step = {"group": "gpu-training", "case": GPU_HEADLINE, "task": task, "loss": 0.3602}
    deep = {"group": "gpu-training", "case": "784-256-128-10, batch 100", "task": wide}
    gradient = Task((784, 100, 10), batch=20, dtype="float64", device="cuda")
    events, wall = {"clock": "CUDA events"}, {"clock": "wall clock"}
    described = {"engine": "one kernel,\n132 blocks"}
    return Report(
        {"GPU": "A card", "data": "digits"},
        {"repeats": 1, "threads": 2},
        [
            measurement("accelnn cupy", 2, [5e-6], **step, **events, **described),
            measurement("torch CUDA graph", 2, [20e-6], **step, **events),
            measurement("JAX scan", 2, [50e-6], **step, **wall),
            measurement("accelnn cupy", 2, [20e-6], **deep, **events),
            measurement("torch CUDA graph", 2, [30e-6], **deep, **events),
            measurement(
                "accelnn cupy",
                2,
                [2e-4],
                group="gpu-gradient",
                case="784-100-10, 20 samples",
                task=gradient,
                deviation=1.3e-10,
                **events,
            ),
        ],
        [],
    )
