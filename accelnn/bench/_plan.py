"""The cases that a run measures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from accelnn.bench._contestants import CONTESTANTS, GPU_GROUPS, SLOW
from accelnn.bench._task import Task

__all__ = ["GPU_HEADLINE", "GROUPS", "HEADLINE", "Case", "plan"]

HEADLINE = "784-50-10, batch 100, float32, sigmoid, SGD"
GPU_HEADLINE = "784-50-10, batch 100"
GROUPS = tuple(CONTESTANTS)
# Samples of the shortest training run on a GPU, whatever the batch size.
GPU_SAMPLES = 1_000_000
# Variables of a function for which some contestants take minutes.
MANY = 1_000
SHORT = ("training", "gradient", "scaling", "predict", "first-call")
"""The groups of a short run."""


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes
    ----------
    group, name : str
        Its group, and its name there.
    task : Task
        The net and the data.
    contestants : tuple of str
        Names in `CONTESTANTS[group]`.
    few, many : int
        Units of work in the two runs whose slope is the time; see `accelnn.bench.jobs.job`.
    budget : float
        The approximate time of a repeat in seconds; `few` and `many` are reduced to fit.
    threaded : bool
        Whether contestants also run on one thread.
    """

    group: str
    name: str
    task: Task
    contestants: Sequence[str]
    few: int
    many: int
    budget: float
    threaded: bool = True


def plan(*, full: bool, only: Sequence[str] = (), data: str = "5k") -> list[Case]:
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
    """
    task = Task(data=data)
    on_cpu = [group for group in GROUPS if group not in GPU_GROUPS]
    wanted = tuple(only) or (on_cpu if full else SHORT)
    cases = {
        "training": _training(task, full=full),
        "gradient": _gradient(full=full),
        "scaling": _scaling(full=full),
        "black-box": _black_box(),
        "digits": [replace(_case("digits", "37 functions", task, 0, 1, 1.0), threaded=False)],
        "numerical-training": [
            _case(
                "numerical-training",
                "784-50-10, batch 100, float64",
                replace(task, dtype="float64"),
                0,
                1000,
                2.0,
            )
        ],
        "predict": [_case("predict", "10,000 images", replace(task, batch=10_000), 0, 1000, 0.5)],
        "prepare": [_case("prepare", "the training images", task, 0, 100, 1.0)],
        "whole-run": [_case("whole-run", "10,000 iterations", task, 0, 1, 60.0)],
        "first-call": [
            replace(
                _case("first-call", "one step", replace(task, data="5k"), 0, 1, 60.0),
                threaded=False,
            )
        ],
        **_on_gpu(replace(task, device="cuda")),
    }
    return [case for group in GROUPS if group in wanted for case in cases[group]]


def _training(task: Task, *, full: bool) -> list[Case]:
    headline = _case("training", HEADLINE, task, 2000, 6000, 8.0)
    if not full:
        return [replace(headline, few=400, many=1200, budget=1.0)]
    others = {
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
    return [
        headline,
        *(
            _case("training", name, replace(task, **changes), 2000, 6000, 4.0)  # type: ignore[arg-type]
            for name, changes in others.items()
        ),
    ]


def _gradient(*, full: bool) -> list[Case]:
    task = Task(sizes=(784, 100, 10), batch=20, dtype="float64")
    case = _case("gradient", "784-100-10, 20 samples", task, 0, 1_000, 0.5)
    if full:
        return [case]
    return [replace(case, contestants=[name for name in case.contestants if name not in SLOW])]


def _scaling(*, full: bool) -> list[Case]:
    task = Task(batch=20, dtype="float64")
    widths = (50, 100, 200, 400, 800) if full else (50, 200, 800)
    batches = (50, 100, 200, 500, 1000) if full else ()
    cases = [
        *(
            _case("scaling", f"hidden {h}", replace(task, sizes=(784, h, 10)), 0, 1000, 0.3)
            for h in widths
        ),
        *(_case("scaling", f"batch {n:,}", replace(task, batch=n), 0, 1000, 0.3) for n in batches),
    ]
    if full:
        return cases
    return [replace(case, contestants=case.contestants[:3], threaded=False) for case in cases]


def _black_box() -> list[Case]:
    functions = (("rosenbrock", 50), ("rosenbrock", 5_000), ("few", 10_000))
    cases = []
    for function, n in functions:
        task = Task(sizes=(n,), dtype="float64", function=function)
        case = _case("black-box", f"{function} of {n:,} variables", task, 0, 1000, 1.0)
        # numdifftools takes minutes for thousands of variables, because it stores all points.
        names = [name for name in case.contestants if name != "numdifftools" or n < MANY]
        cases.append(replace(case, contestants=names, threaded=False))
    return cases


def _on_gpu(task: Task) -> dict[str, list[Case]]:
    gradient = Task(sizes=(784, 100, 10), batch=20, dtype="float64", device="cuda")
    groups = {
        "gpu-gradient": [_case("gpu-gradient", "784-100-10, 20 samples", gradient, 0, 1_000, 0.5)],
        "gpu-whole-run": [_case("gpu-whole-run", "10,000 iterations", task, 0, 1, 60.0)],
        "gpu-training": _gpu_training(task),
    }
    return {
        group: [replace(case, threaded=False) for case in cases] for group, cases in groups.items()
    }


def _gpu_training(task: Task) -> list[Case]:
    tasks = {
        GPU_HEADLINE: task,
        "784-50-10, batch 1,000": replace(task, batch=1_000),
        "784-50-10, batch 10,000": replace(task, batch=10_000),
        "784-256-128-10, batch 100": replace(task, sizes=(784, 256, 128, 10)),
    }
    if task.data == "5k":
        # There are not enough training images for one such batch.
        del tasks["784-50-10, batch 10,000"]
    return [
        _case("gpu-training", name, t, GPU_SAMPLES // t.batch, 3 * GPU_SAMPLES // t.batch, 1.0)
        for name, t in tasks.items()
    ]


def _case(group: str, name: str, task: Task, few: int, many: int, budget: float) -> Case:
    return Case(group, name, task, tuple(CONTESTANTS[group]), few, many, budget)
