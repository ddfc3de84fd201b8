"""Small runs on the shipped images, and a report whose numbers are known."""

import pytest

from accelnn.bench import Case, Measurement, Problem, Report
from accelnn.bench._plan import GPU_HEADLINE, HEADLINE


@pytest.fixture
def training_case():
    names = ("accelnn numba", "accelnn numpy", "NumPy loop")
    net = {"sizes": (784, 8, 10), "batch": 20}
    return Case("training", "small", names, "steps", few=4, many=12, budget=0.2, **net)


@pytest.fixture
def gradient_case():
    names = ("accelnn numba", "accelnn numpy", "NumPy loop", "NumPy analytic")
    net = {"sizes": (784, 2, 10), "batch": 3, "dtype": "float64"}
    return Case("gradient", "small", names, many=2, budget=0.1, threaded=False, **net)


HEADLINE_CASE = Case("training", HEADLINE, do="steps")


def measurement(contestant, threads, seconds, case=HEADLINE_CASE, **facts):
    return Measurement(case, contestant, threads, seconds, facts)


@pytest.fixture
def report():
    """Two threads help accelnn and hurt the loop; JAX is skipped, torch has failed once."""
    ours = {"loss": 0.36, "accuracy": 0.9062, "peak_mb": 101.4}
    wide = Case("training", "hidden 100", do="steps", sizes=(784, 100, 10))
    scaling = [
        measurement(name, 1, [s * h], Case("scaling", f"hidden {h}", sizes=(784, h, 10), batch=20))
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
            measurement("accelnn numba", 2, [100e-6], wide),
            measurement("NumPy loop", 1, [0.5e-3], wide),
            *scaling,
        ],
        [
            Problem(HEADLINE_CASE, "JAX scan", 1, "No module named 'jax'", skipped=True),
            Problem(HEADLINE_CASE, "JAX scan", 2, "No module named 'jax'", skipped=True),
            Problem(wide, "torch eager", 2, "died:\n  code -9", skipped=False),
        ],
    )


@pytest.fixture
def gpu_report():
    """Our step takes 5 µs, that of the best peer four times as long; a wide net is slower."""
    first = Case("gpu-training", GPU_HEADLINE, device="cuda")
    wide = Case(
        "gpu-training", "784-256-128-10, batch 100", sizes=(784, 256, 128, 10), device="cuda"
    )
    step, deep = {"case": first, "loss": 0.3602}, {"case": wide}
    gradient = Case(
        "gpu-gradient",
        "784-100-10, 20 samples",
        sizes=(784, 100, 10),
        batch=20,
        dtype="float64",
        device="cuda",
    )
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
                gradient,
                deviation=1.3e-10,
                **events,
            ),
        ],
        [],
    )
