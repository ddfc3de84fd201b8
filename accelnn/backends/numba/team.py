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
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

__all__ = ["ABANDONED", "ARRIVED", "LINE", "OPENED", "OWN", "Member", "Team", "usable_threads"]

# Numbers of 8 bytes in two cache lines, which are fetched together. Places in the array in which
# a team keeps its counts, each on lines of its own: how many came, which meeting is over, whether a
# thread has failed; and from `OWN` on, how many meetings each thread has been to.
LINE = 16
ARRIVED, OPENED, ABANDONED, OWN = 0, LINE, 2 * LINE, 3 * LINE


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

    One call at a time has the team. A call that finds it busy, and one in a thread that cannot
    have others, runs alone, which changes its time but not its result.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._busy = threading.Lock()
        self._tasks: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._process = os.getpid()

    def run(self, kernel: Callable[[Member], object], size: int | None = None) -> None:
        """Call ``kernel(member)`` in `size` threads (default: all) and wait for the last."""
        size = min(self.size, size or self.size)
        if self._process != os.getpid():
            # A forked child has this object but none of its threads.
            self.__init__(self.size)  # type: ignore[misc]
        if size == 1 or not self._busy.acquire(blocking=False):
            kernel(Member(0, 1, np.zeros(OWN + LINE, np.int64)))
            return
        try:
            self._run(kernel, 1 + self._hire(size - 1))
        finally:
            self._busy.release()

    def _run(self, kernel: Callable[[Member], object], size: int) -> None:
        meeting = np.zeros(OWN + size * LINE, np.int64)
        # New in every call: one that was interrupted leaves answers behind.
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work(number: int) -> BaseException | None:
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
        for error in errors:
            if error is not None:
                raise error

    def _hire(self, count: int) -> int:
        """Start the threads that are missing; return how many of `count` there are."""
        while len(self._tasks) < count:
            tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
            worker = threading.Thread(target=_serve, args=(tasks,), daemon=True, name="accelnn")
            try:
                worker.start()
            except RuntimeError:
                # No more threads, or the interpreter is shutting down.
                break
            self._tasks.append(tasks)
        return min(count, len(self._tasks))


def usable_threads() -> int:
    """Return how many threads to use: the processors of this process, or NUMBA_NUM_THREADS."""
    config: Any = numba.config
    return int(config.NUMBA_NUM_THREADS)


def _serve(tasks: queue.SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()
