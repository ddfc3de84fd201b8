"""New processes, from their start to the end of their first training step."""

from typing import Any

import pytest

from accelnn.bench._contestants import CONTESTANTS
from accelnn.bench._task import Task

GROUP = "first-call"


@pytest.mark.parametrize("contestant", CONTESTANTS[GROUP])
def test_first_call(benchmark: Any, start: Any, contestant: str) -> None:
    """Start a process and take one step."""
    worker = start(GROUP, contestant, Task())
    benchmark.pedantic(worker.ask, ("run",), {"amount": 1}, rounds=3)
