"""Numerical and analytic gradients. Who measures a sample of the parameters says so."""

from typing import Any

import pytest

from accelnn.bench._contestants import CONTESTANTS
from accelnn.bench._task import Task

GROUP = "gradient"


@pytest.mark.parametrize("contestant", CONTESTANTS[GROUP])
@pytest.mark.parametrize("samples", [20, 100])
@pytest.mark.parametrize("hidden", [50, 100, 400])
def test_gradient(benchmark: Any, start: Any, contestant: str, hidden: int, samples: int) -> None:
    """Take the gradient of 784-h-10."""
    task = Task(sizes=(784, hidden, 10), batch=samples, dtype="float64")
    worker = start(GROUP, contestant, task)
    benchmark.pedantic(worker.ask, ("run",), {"amount": 1}, rounds=5, warmup_rounds=1)
    facts = worker.ask("facts")
    if "measured" in facts:
        # The time is that of a part, which the name must say.
        benchmark.name += f" ({facts['measured']})"
    benchmark.extra_info |= facts
