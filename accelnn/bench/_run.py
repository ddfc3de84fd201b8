"""Runs of a plan, in which all contestants of a case take turns."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from accelnn._processors import usable_processors
from accelnn.bench._case import Case
from accelnn.bench._machine import describe_machine
from accelnn.bench._plan import OURS
from accelnn.bench._results import Measurement, Problem, Report
from accelnn.bench._tables import duration
from accelnn.bench._worker import MissingPeer, Worker, WorkerError, facts, prepare, repeat

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
    """
    most = threads or usable_processors()
    machine = describe_machine(
        [case.data for case in cases], gpu=any(case.device == "cuda" for case in cases)
    )
    report = Report(machine, {"repeats": repeats, "threads": most})
    with _Pool(timeout) as pool:
        for case in cases:
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
    """The processes of a group, of which each has a contestant's packages and settings.

    They go from case to case, because importing and compiling takes longer than measuring.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._group: object = None
        self._workers: dict[object, Worker] = {}

    def worker(self, case: Case, contestant: str, threads: int) -> Worker:
        """Return a contestant's process; those of other groups end."""
        group = case.group, case.isa, case.device
        if group != self._group:
            self.close()
            self._group, self._workers = group, {}
        # Some packages have a setting for the dtype.
        key = contestant, threads, case.dtype
        if key not in self._workers or self._workers[key].has_ended:
            new = Worker(threads, case, timeout=self._timeout)
            self._workers[key] = self.enter_context(new)
        return self._workers[key]


def _measure(
    case: Case, pool: _Pool, report: Report, most: int, repeats: int, progress: Progress
) -> None:
    """Measure a case; contestants that fail leave it, with a problem in the report."""
    with busy_cores(usable_processors() if case.loaded else 0):
        workers = [
            (Measurement(case, name, n), pool.worker(case, name, n))
            for name in case.contestants
            for n in _counts(case, most)
        ]

        def ask(m: Measurement, worker: Worker, what: Any, keep: Any, steps: int = 1) -> None:
            note = f"{case.group}, {case.name}: {m.contestant}, {m.threads} thread"
            note += "s" * (m.threads > 1)
            progress(0, note)
            time.sleep(PAUSE if what is repeat else 0.0)
            try:
                answer = worker.ask(what, case, m.contestant, m.threads)
                keep(answer)
                note += f": {duration(answer)}" if what is repeat else ""
            except (MissingPeer, WorkerError) as error:
                worker.end()
                workers.remove((m, worker))
                skipped = isinstance(error, MissingPeer)
                report.problems.append(Problem(case, m.contestant, m.threads, str(error), skipped))
            progress(steps, note)

        try:
            for m, worker in list(workers):
                ask(m, worker, prepare, m.facts.update)
            for number in range(repeats):
                begin = number % max(1, len(workers))
                for m, worker in workers[begin:] + workers[:begin]:
                    ask(m, worker, repeat, m.seconds.append)
                for m, worker in _beaten(workers) if number == 0 else ():
                    workers.remove((m, worker))
                    report.measurements.append(m)
                    progress(repeats - 1, f"{case.group}, {case.name}: {m.contestant}")
            for m, worker in list(workers):
                ask(m, worker, facts, m.facts.update, 0)
                if (m, worker) in workers:
                    report.measurements.append(m)
            # Those that were measured once came first.
            order = {name: i for i, name in enumerate(case.contestants)}
            start = sum(m.case != case for m in report.measurements)
            own = sorted(
                report.measurements[start:], key=lambda m: (order[m.contestant], m.threads)
            )
            report.measurements[start:] = own
        except KeyboardInterrupt:
            # Their facts would take time to compute.
            left = [m for m, _ in workers if m.seconds and m not in report.measurements]
            report.measurements.extend(left)
            raise


def _beaten(workers: Sequence[tuple[Measurement, Worker]]) -> list[tuple[Measurement, Worker]]:
    """Return the peers that are much faster with another number of threads."""
    best: dict[str, float] = {}
    for m, _ in workers:
        best[m.contestant] = min(best.get(m.contestant, math.inf), m.median)
    return [
        (m, worker)
        for m, worker in workers
        if m.contestant != OURS and m.median > MUCH * best[m.contestant]
    ]


@contextmanager
def busy_cores(number: int) -> Iterator[list[int]]:
    """Keep so many processes busy, pinned to nothing, and end them at last; yield their ids."""
    processes = [get_context("spawn").Process(target=_spin) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield [process.pid or 0 for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    """Be busy until whoever started this process has ended."""
    caller = parent_process()
    while caller is not None and caller.is_alive():
        for _ in range(100_000):
            pass


def _counts(case: Case, most: int) -> list[int]:
    return sorted({1, most}) if case.threaded else [most]
