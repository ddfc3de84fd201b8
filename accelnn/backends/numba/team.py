"""Threads of our own that call one compiled function together.

A kernel is serial code that releases the GIL. A team calls it in several threads at the same time,
each with its number, and they meet inside it; see `accelnn.backends.numba.kernels.meeting`. No
threading layer of Numba's is involved, so that no layer's limits apply. Kernels divide their work
so that results do not depend on the number of threads.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

from accelnn._processors import usable_processors

__all__ = [
    "ABANDONED",
    "ALONE",
    "ARRIVED",
    "LINE",
    "OPENED",
    "OWN",
    "WAITED",
    "Member",
    "Team",
    "usable_threads",
]

# Numbers of 8 bytes in two cache lines, which are fetched together. Places in the array in which
# a team keeps its counts, each on lines of its own: how many came, which meeting is over, whether a
# thread has failed, how long threads have waited in all, whether one goes on alone; and from `OWN`
# on, how many meetings each thread has been to.
LINE = 16
ARRIVED, OPENED, ABANDONED, WAITED, ALONE, OWN = range(0, 6 * LINE, LINE)

# How long calls run alone after one in which threads mostly waited for one that had no processor.
ALONE_SECONDS = 1.0

# What a thread is handed, one call after another; None ends it.
Tasks: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"


class Member(NamedTuple):
    """What a kernel knows of its team.

    Attributes
    ----------
    number : int
        That of the calling thread, from 0.
    size : int
        Number of threads in this call.
    meeting : numpy.ndarray of int64
        The counts of its meetings.
    """

    number: int
    size: int
    meeting: np.ndarray


class Team:
    """Up to `size` threads, of which the caller's is the first.

    One call at a time has the team. A call that finds it busy, and one soon after other programs
    took the processors away, runs alone, which changes its time but not its result.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._busy = threading.Lock()
        self._tasks: list[Tasks] = []
        self._alone_until = 0.0
        _teams.add(self)
        # Not at exit, when functions that run then may still call.
        weakref.finalize(self, _dismiss, self._tasks).atexit = False

    def forget_threads(self) -> None:
        """Start anew in a forked child, which has none of its parent's threads."""
        self._busy = threading.Lock()
        self._tasks.clear()

    def run(self, kernel: Callable[[Member], object], size: int | None = None) -> None:
        """Call ``kernel(member)`` in `size` threads (default: all) and wait for the last."""
        size = min(self.size, size or self.size)
        is_ours = False
        try:
            if size > 1 and time.monotonic() >= self._alone_until:
                is_ours = self._busy.acquire(blocking=False)
            self._run(kernel, 1 + self._hire(size - 1) if is_ours else 1)
        finally:
            if is_ours:
                self._busy.release()

    def _run(self, kernel: Callable[[Member], object], size: int) -> None:
        meeting = np.zeros(OWN + size * LINE, np.int64)
        # New in every call: one that was interrupted leaves answers behind.
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work(number: int) -> BaseException | None:
            if meeting[ABANDONED]:
                return None
            try:
                kernel(Member(number, size, meeting))
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                meeting[ABANDONED] = 1
                return error
            return None

        try:
            for number in range(1, size):
                self._tasks[number - 1].put(lambda number=number: done.put(work(number)))  # type: ignore[misc]
            errors = [work(0), *(done.get() for _ in range(1, size))]
        except BaseException:
            # Interrupted here: nobody is to wait for a thread that does not come.
            meeting[ABANDONED] = 1
            raise
        if meeting[ALONE]:
            self._alone_until = time.monotonic() + ALONE_SECONDS
        for error in errors:
            if error is not None:
                raise error

    def _hire(self, count: int) -> int:
        """Start the threads that are missing; return how many of `count` there are."""
        while len(self._tasks) < count:
            tasks: Tasks = queue.SimpleQueue()
            worker = threading.Thread(target=_serve, args=(tasks,), daemon=True, name="accelnn")
            try:
                worker.start()
            except RuntimeError:
                # No more threads, or the interpreter is shutting down.
                break
            self._tasks.append(tasks)
        return min(count, len(self._tasks))


def usable_threads() -> int:
    """Return how many threads to use: NUMBA_NUM_THREADS, or what this process may run on."""
    config: Any = numba.config
    threads = int(config.NUMBA_NUM_THREADS)
    return threads if "NUMBA_NUM_THREADS" in os.environ else min(threads, usable_processors())


_teams: weakref.WeakSet[Team] = weakref.WeakSet()


def _forget_all_threads() -> None:
    for team in _teams:
        team.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_threads)


def _dismiss(all_tasks: list[Tasks]) -> None:
    for tasks in all_tasks:
        tasks.put(None)


def _serve(tasks: Tasks) -> None:
    while (task := tasks.get()) is not None:
        task()
        # Or the arrays of a call would live until the next.
        del task
