"""Training steps: the time shown is that of 1,000, so that milliseconds are microseconds a step."""

from typing import Any

import pytest

from accelnn.bench._contestants import CONTESTANTS
from accelnn.bench._task import Task
from accelnn.bench.jobs.data import digits

GROUP = "training"
STEPS = 1_000


@pytest.mark.parametrize("contestant", CONTESTANTS[GROUP])
def test_training(benchmark: Any, start: Any, contestant: str) -> None:
    """Train 784-50-10 on batches of 100."""
    worker = start(GROUP, contestant, Task(data=digits()))
    work = {"amount": STEPS}
    benchmark.pedantic(worker.ask, ("run",), work, rounds=3, warmup_rounds=1)
    benchmark.extra_info |= worker.ask("facts")
