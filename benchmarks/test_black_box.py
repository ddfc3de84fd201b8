"""Gradients of functions that nobody looks into."""

from typing import Any

import pytest

from accelnn.bench._contestants import CONTESTANTS
from accelnn.bench._task import Task

GROUP = "black-box"


@pytest.mark.parametrize("contestant", CONTESTANTS[GROUP])
@pytest.mark.parametrize(
    ("function", "n"), [("rosenbrock", 50), ("rosenbrock", 5_000), ("few", 10_000)]
)
def test_gradient(benchmark: Any, start: Any, contestant: str, function: str, n: int) -> None:
    """Take one gradient by central differences."""
    task = Task(sizes=(n,), dtype="float64", function=function)
    worker = start(GROUP, contestant, task)
    benchmark.pedantic(worker.ask, ("run",), {"amount": 1}, rounds=5, warmup_rounds=1)
    benchmark.extra_info |= worker.ask("facts")
