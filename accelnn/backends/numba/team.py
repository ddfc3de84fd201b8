"""A thread pool that runs one compiled function on several threads at once.

A kernel is serial code that releases the GIL. A team calls it on several threads, each with its own
number; they synchronise at barriers inside it, see `accelnn.backends.numba.kernels.meeting`. Its
threads replace Numba's threading layers and their limits. Kernels divide their work such that
results do not depend on the number of threads.
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
from accelnn.backends.numba.pace import Paces

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

# Elements of 8 bytes in two cache lines, which the hardware fetches in pairs. Each counter in the
# shared array has its own pair: arrivals, the last open barrier, whether a thread has failed, the
# total time waited, whether one thread continues alone; and from `OWN` on, the barriers that each
# thread has reached.
LINE = 16
ARRIVED, OPENED, ABANDONED, WAITED, ALONE, OWN = range(0, 6 * LINE, LINE)

# How long calls run on one thread after one whose threads mostly waited for a descheduled thread.
ALONE_SECONDS = 1.0

# The calls that a thread runs, in order; None ends it.
Tasks: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"


class Member(NamedTuple):
    """One thread of a call of a kernel.

    Attributes
    ----------
    number : int
        The index of the thread, from 0.
    size : int
        Number of threads in this call.
    meeting : numpy.ndarray of int64
        The counters of the barriers.
    """

    number: int
    size: int
    meeting: np.ndarray


class Team:
    """Up to `size` threads, including the caller's.

    One call at a time uses the team. A call that finds it busy, is of a kind that gains nothing by
    it, or comes soon after other programs occupied the CPUs, runs on the caller's thread alone; its
    result is the same.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._busy = threading.Lock()
        self._tasks: list[Tasks] = []
        self._alone_until = 0.0
        self._paces = Paces()
        _teams.add(self)
        # Not at exit, because atexit functions may still call kernels.
        weakref.finalize(self, _dismiss, self._tasks).atexit = False

    def forget_threads(self) -> None:
        """Reset in a forked child, which does not inherit threads."""
        self._busy = threading.Lock()
        self._tasks.clear()

    def run(
        self,
        kernel: Callable[[Member], object],
        size: int | None = None,
        kind: tuple[str, float] | None = None,
    ) -> None:
        """Call ``kernel(member)`` on `size` threads (default: all) and wait for all of them.

        `kind` names the kernel and says how much work the call is, in any unit: calls of one kind
        that take longer on the team are left to one thread.
        """
        size = min(self.size, size or self.size)
        if size == 1 or time.monotonic() < self._alone_until:
            self._run(kernel, 1)
            return
        name, amount = kind or ("", 0.0)
        pace = self._paces.of(name, amount) if amount > 0.0 else None
        is_ours, wanted = False, pace is None or pace.wants_team(amount)
        try:
            is_ours = wanted and self._busy.acquire(blocking=False)
            started = time.perf_counter()
            self._run(kernel, 1 + self._hire(size - 1) if is_ours else 1)
            if pace is not None and wanted == is_ours:
                pace.record(amount, time.perf_counter() - started, team=is_ours)
        finally:
            if is_ours:
                self._busy.release()

    def _run(self, kernel: Callable[[Member], object], size: int) -> None:
        meeting = np.zeros(OWN + size * LINE, np.int64)
        # One queue per call, because an interrupted call leaves results in its own.
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
            # Interrupted: release the threads that wait for this one.
            meeting[ABANDONED] = 1
            raise
        if meeting[ALONE]:
            self._alone_until = time.monotonic() + ALONE_SECONDS
        for error in errors:
            if error is not None:
                raise error

    def _hire(self, count: int) -> int:
        """Start missing threads; return how many of `count` are running."""
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
    """Return how many threads to use: NUMBA_NUM_THREADS, or one per CPU of this process."""
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
        # It would keep the arrays of the call alive until the next one.
        del task
