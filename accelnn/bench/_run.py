"""Runs of a plan, in which all contestants of a case take turns."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from accelnn._processors import most_threads, usable_processors
from accelnn.bench._case import Case
from accelnn.bench._machine import describe_machine
from accelnn.bench._plan import OURS
from accelnn.bench._results import Measurement, Problem, Report
from accelnn.bench._tables import duration
from accelnn.bench._worker import (
    MissingPeer,
    Worker,
    WorkerError,
    facts,
    prepare,
    process_environment,
    repeat,
    start,
)

__all__ = ["busy_cores", "run", "turns"]

# How many times longer a peer takes than with another number of threads if it is measured no more.
MUCH = 1.5
# Seconds between two contestants, in which the threads of the last one stop spinning.
PAUSE = 0.1

Progress = Callable[[int, str], object]


def run(
    cases: Sequence[Case],
    *,
    repeats: int = 5,
    threads: int | None = None,
    timeout: float = 600.0,
    progress: Progress = lambda _n, _note: None,
    keep: Callable[[Report], object] = lambda _report: None,
) -> Report:
    """Measure cases, one after the other.

    Each contestant runs on one thread, and on `threads`, by default one for each usable processor;
    a peer that is much faster with either is measured once with the other.
    One that does not respond for `timeout` seconds is terminated. ``progress(n, note)`` is called
    when `n` more of the `turns` are done; ``keep(report)`` after every case, and after an
    interruption, with all times so far. Who was skipped or failed is a `Problem` of the report.
    Workers are spawned: a script calls this under ``if __name__ == "__main__"``.

    Raises
    ------
    accelnn.errors.BackendUnavailableError
        If a case needs a CUDA device, and none can be used.
    ValueError
        If `threads` is negative, or far more than the processors could run.
    """
    most = threads or usable_processors()
    if not 1 <= most <= most_threads():
        msg = (
            f"threads must be 1 to {most_threads()} on {usable_processors()} usable processors, "
            f"got {most}; leave it out for one thread on each processor"
        )
        raise ValueError(msg)
    machine = describe_machine(
        [case.data for case in cases], gpu=any(case.device == "cuda" for case in cases)
    )
    report = Report(machine, {"repeats": repeats, "threads": most})
    for _, together in groupby(cases, key=lambda case: (case.group, case.isa, case.device)):
        with _Pool(timeout) as pool:
            for case in together:
                try:
                    _measure(case, pool, report, most, repeats, progress)
                finally:
                    keep(report)
    return report


def turns(cases: Sequence[Case], repeats: int, threads: int | None = None) -> int:
    """Return the number of turns of a run: per contestant one to prepare and one per repeat."""
    most = threads or usable_processors()
    return sum(len(case.contestants) * len(_counts(case, most)) * (1 + repeats) for case in cases)


class _Pool(ExitStack):
    """Processes, of which each has a contestant's packages and settings.

    They go from case to case, because importing and compiling takes longer than measuring.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._workers: dict[object, Worker] = {}

    def worker(self, m: Measurement) -> Worker:
        """Return a contestant's process."""
        # Some packages have a setting for the dtype.
        key = m.contestant, m.threads, m.case.dtype
        if key not in self._workers or self._workers[key].has_ended:
            new = Worker(m.threads, m.case, timeout=self._timeout)
            self._workers[key] = self.enter_context(new)
        return self._workers[key]


def _measure(
    case: Case, pool: _Pool, report: Report, most: int, repeats: int, progress: Progress
) -> None:
    """Measure a case; contestants that fail leave it, with a problem in the report."""
    entered = [Measurement(case, name, n) for name in case.contestants for n in _counts(case, most)]
    beaten: list[Measurement] = []

    def ask(m: Measurement, what: Any, keep: Any, steps: int = 1) -> None:
        note = _note(m)
        progress(0, note)
        worker = pool.worker(m)
        try:
            answer = worker.ask(what, case, m.contestant, m.threads)
            keep(answer)
            note += f": {duration(answer)}" if what is repeat else ""
        except (MissingPeer, WorkerError) as error:
            worker.end()
            entered.remove(m)
            skipped = isinstance(error, MissingPeer)
            report.problems.append(Problem(case, m.contestant, m.threads, str(error), skipped))
        progress(steps, note)

    try:
        with busy_cores(usable_processors() if case.loaded else 0):
            for m in list(entered):
                ask(m, prepare, m.facts.update)
            for number in range(repeats):
                going = [m for m in entered if m not in beaten]
                begin = number % max(1, len(going))
                for m in going[begin:] + going[:begin]:
                    time.sleep(PAUSE)
                    ask(m, repeat, m.seconds.append)
                if number == 0:
                    beaten = _beaten(entered)
                    for m in beaten:
                        progress(repeats - 1, _note(m))
            for m in list(entered):
                ask(m, facts, m.facts.update, 0)
    except WorkerError as error:
        # Not one of `ask`: without the load the times are those of another case.
        report.problems.extend(
            Problem(case, m.contestant, m.threads, str(error), skipped=False) for m in entered
        )
        entered.clear()
    finally:
        # After an interruption, those that were measured until then.
        report.measurements.extend(m for m in entered if m.seconds)


def _note(m: Measurement) -> str:
    threads = f"{m.threads} thread{'s' * (m.threads > 1)}"
    return f"{m.case.group}, {m.case.name}: {m.contestant}, {threads}"


def _beaten(measured: Sequence[Measurement]) -> list[Measurement]:
    """Return the peers that are much faster with another number of threads."""
    best: dict[str, float] = {}
    for m in measured:
        best[m.contestant] = min(best.get(m.contestant, math.inf), m.median)
    return [m for m in measured if m.contestant != OURS and m.median > MUCH * best[m.contestant]]


@contextmanager
def busy_cores(number: int) -> Iterator[list[int]]:
    """Keep so many processes busy, pinned to nothing, and end them at last; yield their ids.

    Raises
    ------
    WorkerError
        If one of them does not come to its work, or has ended before the block.
    """
    context, processes = get_context("spawn"), list[SpawnProcess]()
    try:
        # Each says when it is busy; the pipe of one that ends before that has no more writers.
        pipes = []
        for _ in range(number):
            pipe, theirs = context.Pipe(duplex=False)
            pipes.append(pipe)
            process = context.Process(target=_spin, args=(theirs,))
            with theirs:
                start(process, process_environment())
            processes.append(process)
        for process, pipe in zip(processes, pipes, strict=True):
            with pipe:
                try:
                    pipe.recv()
                except EOFError:
                    # It is ending, which takes a moment.
                    process.join()
        _check_busy(processes)
        yield [process.pid or 0 for process in processes]
        _check_busy(processes)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _check_busy(processes: Sequence[SpawnProcess]) -> None:
    """Raise WorkerError if a process is not there any more."""
    ended = [process for process in processes if not process.is_alive()]
    if ended:
        msg = (
            f"{len(ended)} of {len(processes)} processes that keep the cores busy ended with code "
            f"{ended[0].exitcode}: there was no such load"
        )
        raise WorkerError(msg)


def _spin(pipe: Connection) -> None:
    """Be busy until whoever started this process has ended."""
    pipe.send(None)
    caller = parent_process()
    while caller is not None and caller.is_alive():
        for _ in range(100_000):
            pass


def _counts(case: Case, most: int) -> list[int]:
    return sorted({1, most}) if case.threaded else [most]
