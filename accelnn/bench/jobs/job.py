"""The base class of jobs, and the loop that times them."""

import math
from typing import Any

from accelnn.bench._task import Task
from accelnn.bench.jobs.clocks import WALL

__all__ = ["Job", "amounts", "seconds_per_unit"]


class Job:
    """A contestant's way to do a task. Making one loads and places whatever it needs.

    Attributes
    ----------
    granule : int
        Amounts of work are whole multiples of this.
    scale : float
        How many times longer a whole unit takes than the part of it that is done.
    clock : Clock
        What its runs are timed with.
    """

    granule = 1
    scale = 1.0
    clock = WALL

    def __init__(self, task: Task, threads: int) -> None:
        self.task = task
        self.threads = threads

    def ready(self, amount: int) -> None:
        """Get ready for runs of up to `amount`; this is not timed."""

    def run(self, amount: int) -> None:
        """Do `amount` units of work, and return when the last is done."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return results other than the time, such as the accuracy."""
        return {}


def seconds_per_unit(job: Job, few: int, many: int) -> float:
    """Return the slope between a run of `few` units and one of `many`.

    What a run costs once, however long it is, is not in it. With ``few = 0`` this is the mean over
    `many`.
    """
    short = _seconds(job, few) if few else 0.0
    return job.scale * (_seconds(job, many) - short) / (many - few)


def amounts(job: Job, few: int, many: int, budget: float) -> tuple[int, int]:
    """Warm up, and return amounts such that a repeat takes about `budget` seconds at most.

    Proportions are kept; `few` and `many` become whole multiples of the job's granule.
    """
    first = max(job.granule, few // 10)
    job.ready(first)
    job.run(first)
    share = 1.0
    if many > first:
        # The faster of two, so that a disturbance does not shorten all repeats.
        seconds = max(min(_seconds(job, first) for _ in range(2)), 1e-9)
        share = min(1.0, budget / seconds * first / (few + many))
    low, high = (_whole(n * share, job.granule) for n in (few, many))
    high = max(high, low + job.granule)
    job.ready(high)
    return low, high


def _seconds(job: Job, amount: int) -> float:
    return job.clock.seconds(lambda: job.run(amount))


def _whole(n: float, granule: int) -> int:
    return granule * math.ceil(n / granule)
