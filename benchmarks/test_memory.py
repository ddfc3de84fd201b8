"""The memory of a process that trains or takes numerical gradients: ``peak_mb`` in the results."""

from typing import Any

import pytest

from accelnn.bench._task import Task
from accelnn.bench.jobs.data import digits

TASKS = {
    "training": Task(data=digits()),
    "gradient": Task(sizes=(784, 100, 10), batch=20, dtype="float64"),
    "numerical-training": Task(dtype="float64"),
}


@pytest.mark.parametrize("group", TASKS)
@pytest.mark.parametrize("contestant", ["accelnn numba", "accelnn numpy", "NumPy loop"])
def test_memory(benchmark: Any, start: Any, group: str, contestant: str) -> None:
    """Do some work, and ask for the peak."""
    worker = start(group, contestant, TASKS[group])
    amount = 200 if group == "training" else 1
    benchmark.pedantic(worker.ask, ("run",), {"amount": amount}, rounds=1)
    peak = worker.ask("facts").get("peak_mb")
    benchmark.extra_info["peak_mb"] = peak
    print(f"{group}, {contestant}: {peak} MB")
