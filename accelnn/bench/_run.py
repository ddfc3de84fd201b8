"""Runs of a plan, in which all contestants of a case take turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from accelnn._processors import usable_processors
from accelnn.bench._machine import describe_machine
from accelnn.bench._plan import Case
from accelnn.bench._results import Measurement, Problem, Report
from accelnn.bench._tables import duration
from accelnn.bench._workers import MissingPeer, Worker, WorkerError

__all__ = ["run", "turns"]

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

    Parameters
    ----------
    cases : sequence of Case
        See `accelnn.bench.plan`.
    repeats : int, default 5
        Number of times each contestant is measured.
    threads : int, optional
        The largest number of threads, by default one for each usable processor. Each contestant
        runs on one thread and on that many.
    timeout : float, default 600.0
        Seconds after which a contestant that does not respond is terminated.
    progress : callable
        ``progress(n, note)`` is called when `n` more of the `turns` are done.
    keep : callable
        ``keep(report)`` is called after every case, and after an interruption, with all times
        measured so far.

    Returns
    -------
    Report
        With a `Problem` for every contestant that was skipped or failed.

    Raises
    ------
    accelnn.errors.BackendUnavailableError
        If a case needs a CUDA device, and none can be used.
    """
    most = threads or usable_processors()
    machine = describe_machine(
        [case.task.data for case in cases],
        gpu=any(case.task.device == "cuda" for case in cases),
    )
    report = Report(machine, {"repeats": repeats, "threads": most})
    for case in cases:
        with ExitStack() as stack:
            race = _Race(case, report, _runners(case, most, timeout, stack), progress)
            try:
                race.prepare()
                for number in range(repeats):
                    race.repeat(number)
                race.finish()
            except KeyboardInterrupt:
                race.stop()
                keep(report)
                raise
        keep(report)
    return report


def turns(cases: Sequence[Case], repeats: int, threads: int | None = None) -> int:
    """Return the number of turns of a run: per contestant one to prepare and one per repeat."""
    most = threads or usable_processors()
    return sum(len(case.contestants) * len(_counts(case, most)) * (1 + repeats) for case in cases)


@dataclass
class _Runner:
    """A contestant with some number of threads in one case."""

    contestant: str
    threads: int
    worker: Worker
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


@dataclass
class _Race:
    """A case being measured; contestants that fail leave it, with a problem in the report."""

    case: Case
    report: Report
    runners: list[_Runner]
    progress: Progress

    def prepare(self) -> None:
        """Prepare all contestants, one after the other."""
        case = self.case
        for runner in list(self.runners):
            with self.turn(runner):
                runner.facts = runner.worker.ask(
                    "prepare",
                    group=case.group,
                    contestant=runner.contestant,
                    task=asdict(case.task),
                    threads=runner.threads,
                    few=case.few,
                    many=case.many,
                    budget=case.budget,
                )

    def repeat(self, number: int) -> None:
        """Give every contestant a turn, each time starting with another one."""
        begin = number % max(1, len(self.runners))
        for runner in self.runners[begin:] + self.runners[:begin]:
            with self.turn(runner):
                time.sleep(PAUSE)
                runner.seconds.append(runner.worker.ask("repeat")["seconds"])
            if runner in self.runners:
                self.progress(0, f"{self.note(runner)}: {duration(runner.seconds[-1])}")

    def finish(self) -> None:
        """Report the times and facts of the remaining contestants."""
        while self.runners:
            runner = self.runners[0]
            with self.turn(runner, 0):
                self.take_down(runner, runner.worker.ask("facts"))

    def stop(self) -> None:
        """Report the times so far, without facts, which would take time to compute."""
        for runner in list(self.runners):
            if runner.seconds:
                self.take_down(runner, {})

    def take_down(self, runner: _Runner, facts: dict[str, Any]) -> None:
        """Report the measurement of a contestant, and remove it from the race."""
        case = self.case
        self.runners.remove(runner)
        self.report.measurements.append(
            Measurement(
                case.group,
                case.name,
                runner.contestant,
                runner.threads,
                case.task,
                runner.seconds,
                runner.facts | facts,
            )
        )

    def note(self, runner: _Runner) -> str:
        """Return a description for the progress bar."""
        threads = f"{runner.threads} thread{'s' * (runner.threads > 1)}"
        return f"{self.case.group}, {self.case.name}: {runner.contestant}, {threads}"

    @contextmanager
    def turn(self, runner: _Runner, steps: int = 1) -> Iterator[None]:
        """Announce a turn; if it fails, report a problem of this contestant and go on."""
        case = self.case
        note = self.note(runner)
        self.progress(0, note)
        try:
            yield
        except (MissingPeer, WorkerError) as error:
            runner.worker.end()
            self.runners.remove(runner)
            self.report.problems.append(
                Problem(
                    case.group,
                    case.name,
                    runner.contestant,
                    runner.threads,
                    str(error),
                    isinstance(error, MissingPeer),
                )
            )
        self.progress(steps, note)


def _counts(case: Case, most: int) -> list[int]:
    return sorted({1, most}) if case.threaded else [most]


def _runners(case: Case, most: int, timeout: float, stack: ExitStack) -> list[_Runner]:
    return [
        _Runner(name, n, stack.enter_context(Worker(n, device=case.task.device, timeout=timeout)))
        for name in case.contestants
        for n in _counts(case, most)
    ]
