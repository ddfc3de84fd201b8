"""Clocks for work on the host and on devices."""

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["CUPY_EVENTS", "TORCH_EVENTS", "WALL", "Clock"]

Work = Callable[[], object]


class Clock(NamedTuple):
    """A way to measure time.

    Attributes
    ----------
    name : str
        What tables call it.
    seconds : callable
        ``seconds(work)`` calls `work`, which returns when all is done, and returns the time.
    """

    name: str
    seconds: Callable[[Work], float]


def _wall(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _cupy_events(work: Work) -> float:
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end)) / 1e3


def _torch_events(work: Work) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


WALL = Clock("wall clock", _wall)
CUPY_EVENTS = Clock("CUDA events", _cupy_events)
TORCH_EVENTS = Clock("CUDA events", _torch_events)
