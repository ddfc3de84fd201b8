"""The results of a run, in memory and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelnn.bench._contestants import GPU_GROUPS
from accelnn.bench._task import Task

__all__ = ["FORMAT", "Measurement", "Problem", "Report"]

FORMAT = 1


@dataclass(frozen=True)
class Measurement:
    """The times of one contestant with one number of threads in one case.

    Attributes
    ----------
    group, case, contestant : str
        What was measured.
    threads : int
        Number of threads of its libraries.
    task : Task
        The net and the data.
    seconds : list of float
        Seconds per unit, one for each repeat.
    facts : dict
        Other results of the contestant: loss, accuracy, deviation, peak memory, amounts.
    """

    group: str
    case: str
    contestant: str
    threads: int
    task: Task
    seconds: list[float]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest repeat."""
        return min(self.seconds), max(self.seconds)


@dataclass(frozen=True)
class Problem:
    """A contestant without times, and the reason.

    Attributes
    ----------
    group, case, contestant : str
        What was to be measured; an empty case means all.
    threads : int
        0 means any number.
    reason : str
        The reason, in one line.
    skipped : bool
        True if a package is missing, False if something failed.
    """

    group: str
    case: str
    contestant: str
    threads: int
    reason: str
    skipped: bool


@dataclass(frozen=True)
class Report:
    """The results of a run.

    Attributes
    ----------
    machine : dict
        Processor, system, versions, threads, data.
    settings : dict
        The options of the run.
    measurements : list of Measurement
        In the order of the plan.
    problems : list of Problem
        Contestants that were skipped or failed.
    gpu_machine : dict
        As `machine`, for GPU groups measured on another machine.
    """

    machine: dict[str, str]
    settings: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    gpu_machine: dict[str, str] = field(default_factory=dict)

    @property
    def gpu(self) -> str | None:
        """The name of the GPU, if there is one."""
        return self.machine.get("GPU") or self.gpu_machine.get("GPU")

    def of(self, group: str, case: str | None = None) -> list[Measurement]:
        """Return the measurements of a group, or of one case of it."""
        return [m for m in self.measurements if m.group == group and case in (None, m.case)]

    def best(self, group: str, case: str | None = None) -> list[Measurement]:
        """Return the measurements with the faster number of threads of each contestant."""
        chosen: dict[tuple[str, str], Measurement] = {}
        for m in self.of(group, case):
            key = (m.case, m.contestant)
            if key not in chosen or m.median < chosen[key].median:
                chosen[key] = m
        return list(chosen.values())

    def write(self, path: Path) -> None:
        """Write everything as JSON, with medians and spreads beside the times."""
        content = {"format": FORMAT, **asdict(self)}
        if not self.gpu_machine:
            del content["gpu_machine"]
        for entry, m in zip(content["measurements"], self.measurements, strict=True):
            entry |= {"median": m.median, "spread": m.spread}
        # Atomically, so that an interruption does not destroy an existing report.
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def merged(cls, reports: Sequence[Report]) -> Report:
        """Merge the reports of several runs.

        Raises
        ------
        ValueError
            If machines or settings differ, or if the same was measured twice.
        """
        first = reports[0]
        machine = dict(first.machine)
        for report in reports[1:]:
            differing = [
                name
                for name in machine
                if name != "data" and report.machine.get(name) != machine[name]
            ]
            if differing or report.settings != first.settings:
                msg = f"these runs cannot be merged: they differ in {differing or 'settings'}"
                raise ValueError(msg)
            known = machine["data"].split("; ")
            more = [part for part in report.machine["data"].split("; ") if part not in known]
            machine["data"] = "; ".join(known + more)
        measurements = [m for report in reports for m in report.measurements]
        keys = [(m.group, m.case, m.contestant, m.threads) for m in measurements]
        if len(set(keys)) < len(keys):
            msg = "these runs cannot be merged: some times were taken in two of them"
            raise ValueError(msg)
        problems = [problem for report in reports for problem in report.problems]
        on_gpu = next((report.gpu_machine for report in reports if report.gpu_machine), {})
        return cls(machine, first.settings, measurements, problems, on_gpu)

    def with_gpu(self, other: Report) -> Report:
        """Return this run with its GPU groups replaced by those of another run."""
        described = dict(other.machine)
        described["most threads tried"] = str(other.settings["threads"])
        described["repeats"] = str(other.settings["repeats"])
        kept = [entry for entry in self.measurements if entry.group not in GPU_GROUPS]
        taken = [entry for entry in other.measurements if entry.group in GPU_GROUPS]
        problems = [entry for entry in self.problems if entry.group not in GPU_GROUPS]
        problems += [entry for entry in other.problems if entry.group in GPU_GROUPS]
        return Report(self.machine, self.settings, kept + taken, problems, described)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a report that `write` has written.

        Raises
        ------
        ValueError
            If the file is not a report, or of another format.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            msg = f"{path} is not a report of accelnn bench of format {FORMAT}"
            raise ValueError(msg)
        measurements = []
        for entry in content["measurements"]:
            del entry["median"], entry["spread"]
            task = Task(**entry.pop("task"))
            measurements.append(Measurement(**entry, task=task))
        problems = [Problem(**entry) for entry in content["problems"]]
        machines = content["machine"], content.get("gpu_machine", {})
        return cls(machines[0], content["settings"], measurements, problems, machines[1])
