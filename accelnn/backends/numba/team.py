"""A thread pool that runs one function on several threads at once.

A kernel is serial code that releases the GIL. A team runs it on several threads, each with its own
number; they synchronise at barriers inside it, see `accelnn.backends.numba.kernels.meeting`. Its
threads replace Numba's threading layers and their limits. Kernels divide their work such that
results do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

from accelnn._cached import cached_property
from accelnn._processors import most_threads, usable_processors
from accelnn.backends.numba._jit import entry_of
from accelnn.backends.numba.pace import Paces

__all__ = [
    "ABANDONED",
    "ALONE",
    "ARRIVED",
    "ASLEEP",
    "CALLED",
    "CODE",
    "ENGAGED",
    "FASTER",
    "FINISHED",
    "HELD_UP",
    "OPENED",
    "PERIOD",
    "PERIODS",
    "READY",
    "TOO_MUCH",
    "WAITED",
    "Member",
    "Team",
    "own_of",
    "state_of",
    "usable_threads",
]

logger = logging.getLogger("accelnn")

# Elements of 8 bytes in two cache lines, which the hardware fetches in pairs. Each counter in the
# array where a team meets has its own pair: arrivals, the last open barrier, whether a thread has
# failed, the total time waited, why one thread continues alone, how many threads have finished;
# then the current call, which is its code, its arguments and its number of threads. From `OWN` on
# each thread has two: the barriers that it has reached; its state, and its number in that call.
LINE = 16
ARRIVED, OPENED, ABANDONED, WAITED, ALONE, FINISHED, CODE, OWN = range(0, 8 * LINE, LINE)
# Why one thread continues alone: other programs hold the others up, or it is faster.
HELD_UP, FASTER = 1, 2
# A thread is asleep, or awake and ready for a call, or part of one that is about to start, or that
# has.
ASLEEP, READY, ENGAGED, CALLED = range(4)

# How long calls run on one thread after one whose threads mostly waited for a descheduled thread;
# twice as long each time in a row, and at most so long.
ALONE_SECONDS, MOST_ALONE_SECONDS = 0.5, 4.0
# A team is held up if its threads have waited more than TOO_MUCH of each of so many periods of at
# least PERIOD nanoseconds. Work that is divided 2 to 1 between two threads makes one of them wait
# half the time. One period tells nothing: for a while after a product, OpenBLAS's threads look for
# more work, in this process or another one; for 60 to 110 ms on an AMD EPYC (Zen 5).
PERIOD, PERIODS = 20_000_000, 3
TOO_MUCH = 0.75
# Nanoseconds that a thread stays awake after a call. Waking it takes about as long, and calls of a
# loop follow each other faster.
AWAKE = 200_000
# Seconds between two looks at whether others have ended, and at whether a long call is interrupted,
# where the system does not end a wait for that.
A_MOMENT, A_WHILE = 0.0005, 0.1

# What a thread runs, in order; None ends it.
Tasks: TypeAlias = "queue.SimpleQueue[Callable[[], object] | None]"


class Member(NamedTuple):
    """One thread of a call.

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


def own_of(number: int) -> int:
    """Return where a member counts the barriers that it has reached."""
    return OWN + 2 * LINE * number


def state_of(thread: int) -> int:
    """Return where a thread's state is, and after it its number in the current call."""
    return OWN + 2 * LINE * thread + LINE


class Team:
    """Up to `size` threads, including the caller's, and up to `most_threads`.

    One call at a time uses the team. A call that finds it busy, is of a kind that gains nothing by
    it, or comes soon after other programs occupied the CPUs, runs on the caller's thread alone; its
    result is the same.
    """

    def __init__(self, size: int) -> None:
        self.size = min(size, most_threads())
        if size > self.size:
            logger.warning(
                "%s threads were asked for, by NUMBA_NUM_THREADS or for a backend; the Numba "
                "engine has %s, the most for %s usable processors",
                f"{size:,}",
                f"{self.size:,}",
                usable_processors(),
            )
        self._tasks: list[Tasks] = []
        self._alone_until, self._alone_seconds = 0.0, ALONE_SECONDS
        self._paces = Paces()
        self.forget_threads()
        _teams.add(self)
        # Not at exit, because atexit functions may still call kernels.
        weakref.finalize(self, _dismiss, self._tasks).atexit = False

    def forget_threads(self) -> None:
        """Reset in a forked child, which does not inherit threads."""
        self._busy = threading.Lock()
        self._meeting = np.zeros(own_of(self.size), np.int64)
        # Of calls on one thread, beside which others may use the team.
        self._alone = np.zeros(own_of(1), np.int64)
        self._tasks.clear()

    def call(
        self,
        kernel: Callable[..., object],
        arguments: tuple[object, ...],
        size: int | None = None,
        kind: tuple[Hashable, float] | None = None,
        *,
        is_long: bool = False,
    ) -> None:
        """Run a kernel that launches itself on `size` threads (default: all), and wait for it.

        `kind` is what the call has in common with others that take as long for as much work, and
        how much work it is, in any unit: calls of a kind that take longer on the team are left to
        one thread. What interrupts a call that `is_long`, such as Ctrl-C, ends it soon, with
        nothing of use in what it writes; others are waited for.
        """
        run = _run_listening if is_long and _hears_signals() else _run_here
        size = min(self.size, size or self.size)
        if size == 1 or time.monotonic() < self._alone_until:
            run(kernel, self._meeting_of_one(is_long=is_long), 1, arguments)
            return
        name, amount = kind or ("", 0.0)
        pace = self._paces.of(name, amount) if amount > 0.0 else None
        is_ours, wanted = False, pace is None or pace.wants_team(amount)
        try:
            is_ours = wanted and self._busy.acquire(blocking=False)
            started = time.perf_counter()
            if is_ours:
                run(kernel, self._meeting, size, arguments, self._wake)
            else:
                run(kernel, self._meeting_of_one(is_long=is_long), 1, arguments)
            seconds = time.perf_counter() - started
            if pace is not None and wanted == is_ours:
                pace.record(amount, seconds, team=is_ours)
            if is_ours:
                self._judge(seconds)
        finally:
            if is_ours:
                self._busy.release()

    def _meeting_of_one(self, *, is_long: bool) -> np.ndarray:
        """Return the counters of a call on one thread, its own if it may be told to end."""
        return np.zeros_like(self._alone) if is_long else self._alone

    def _judge(self, seconds: float) -> None:
        """Leave the next calls to one thread if other programs have held up this one."""
        if self._meeting[ALONE] == HELD_UP:
            self._alone_until = time.monotonic() + self._alone_seconds
            self._alone_seconds = min(2.0 * self._alone_seconds, MOST_ALONE_SECONDS)
        elif seconds > 1e-9 * PERIODS * PERIOD:
            # In less no call can be held up.
            self._alone_seconds = ALONE_SECONDS

    def run(
        self,
        function: Callable[[Member], object],
        size: int | None = None,
        *,
        to_the_end: bool = False,
    ) -> None:
        """Call ``function(member)`` on `size` threads (default: all) and wait for all of them.

        It may raise; members must not wait for each other. After Ctrl-C, or another exception in
        the caller's thread, other members go on for a while, unless all are waited for `to_the_end`
        because nothing else may touch what they write.
        """
        size = min(self.size, size or self.size)
        is_ours = False
        try:
            is_ours = size > 1 and self._busy.acquire(blocking=False)
            self._run(function, 1 + self._hire(size - 1) if is_ours else 1, to_the_end)
        finally:
            if is_ours:
                self._busy.release()

    def _wake(self, size: int) -> int:
        """Make so many threads ready for a call of a kernel; return how many there are."""
        size = 1 + self._hire(size - 1)
        for thread in range(1, size):
            if self._meeting[state_of(thread)] == ASLEEP:
                self._meeting[state_of(thread)] = READY
                serve = functools.partial(self._serve, self._meeting, thread, AWAKE)
                self._tasks[thread - 1].put(serve)
        return size

    @cached_property
    def _serve(self) -> Callable[..., object]:
        """What a thread runs that is awake, compiled before it is."""
        from accelnn.backends.numba.kernels.launch import serve

        return entry_of(serve, (self._meeting, 1, AWAKE))

    def _run(
        self,
        function: Callable[[Member], object],
        size: int,
        to_the_end: bool,  # noqa: FBT001 - private
    ) -> None:
        # One queue per call, because an interrupted call leaves results in its own.
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        failed = threading.Event()

        def work(number: int) -> BaseException | None:
            if failed.is_set():
                return None
            try:
                function(Member(number, size, self._meeting))
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                failed.set()
                return error
            return None

        begun: list[int] = []
        ended: list[int] = []

        def share(number: int) -> None:
            begun.append(number)
            error = work(number)
            ended.append(number)
            done.put(error)

        try:
            for number in range(1, size):
                self._tasks[number - 1].put(functools.partial(share, number))
            errors = [work(0), *(done.get() for _ in range(1, size))]
        except BaseException:
            # Interrupted: what has not begun need not.
            failed.set()
            while to_the_end and len(ended) < len(begun):
                time.sleep(A_MOMENT)
            raise
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


def _run_here(
    kernel: Callable[..., object],
    meeting: np.ndarray,
    size: int,
    arguments: tuple[object, ...],
    wake: Callable[[int], int] | None = None,
) -> None:
    """Run a kernel on `size` threads, or on as many of them as `wake` makes ready."""
    kernel(meeting, wake(size) if wake else size, *arguments)


def _hears_signals() -> bool:
    """Return whether this is the thread in which Python handles signals."""
    return threading.current_thread() is threading.main_thread()


def _run_listening(
    kernel: Callable[..., object],
    meeting: np.ndarray,
    size: int,
    arguments: tuple[object, ...],
    wake: Callable[[int], int] | None = None,
) -> None:
    """Run a kernel on another thread, and tell it to end if this one is interrupted."""
    errors: list[BaseException] = []
    begun, called_off, ended = (threading.Event() for _ in range(3))

    def work() -> None:
        begun.set()
        try:
            if not called_off.is_set():
                # Those that were woken before this thread has begun could be asleep again.
                _run_here(kernel, meeting, size, arguments, wake)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            errors.append(error)
        finally:
            ended.set()

    worker = threading.Thread(target=work, daemon=True, name="accelnn")
    try:
        worker.start()
        while not ended.wait(A_WHILE):
            pass
    except BaseException as error:
        # However often it is interrupted, also while the thread starts: nobody else may have the
        # team before. A thread that has not begun by now will do nothing.
        while not called_off.is_set() or (begun.is_set() and not ended.is_set()):
            with contextlib.suppress(BaseException):
                called_off.set()
                if begun.is_set():
                    _end(meeting, ended)
        if isinstance(error, RuntimeError) and not begun.is_set():
            # No more threads, or the interpreter is shutting down.
            _run_here(kernel, meeting, size, arguments, wake)
            return
        raise
    if errors:
        raise errors[0]


def _end(meeting: np.ndarray, ended: threading.Event) -> None:
    """Tell a kernel to end until it has: one that has only begun clears its counters first."""
    while not ended.is_set():
        meeting[ABANDONED] = 1
        ended.wait(A_MOMENT)


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
