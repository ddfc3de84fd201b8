"""Contestants as fixtures: each works in a process of its own, and who is missing is skipped."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import pytest

from accelnn._processors import usable_processors
from accelnn.bench._task import Task
from accelnn.bench._workers import MissingPeer, Worker

Start = Callable[..., Worker]


@pytest.fixture
def start(benchmark: Any) -> Iterator[Start]:
    """Return a function that starts a contestant of a group on a task and warms it up."""
    with ExitStack() as stack:

        def started(group: str, contestant: str, task: Task, threads: int | None = None) -> Worker:
            threads = threads or usable_processors()
            worker = stack.enter_context(Worker(threads))
            request = {"group": group, "contestant": contestant, "task": asdict(task)}
            try:
                worker.ask("prepare", **request, threads=threads, few=0, many=1, budget=1.0)
            except MissingPeer as error:
                pytest.skip(f"{contestant}: {error}")
            benchmark.extra_info["threads"] = threads
            return worker

        yield started
