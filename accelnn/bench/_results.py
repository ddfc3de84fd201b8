"""The results of a run, in memory and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from accelnn.bench._case import Case

__all__ = ["FORMAT", "Measurement", "Problem", "Report"]

FORMAT = 2


@dataclass(frozen=True)
class Measurement:
    """The times of one contestant with one number of threads in one case.

    Attributes
    ----------
    case : Case
        What was measured.
    contestant : str
        Who was.
    threads : int
        Number of threads of its libraries.
    seconds : list of float
        Seconds per unit, one for each repeat.
    facts : dict
        Other results of the contestant: loss, accuracy, deviation, peak memory, amounts.
    """

    case: Case
    contestant: str
    threads: int
    seconds: list[float] = field(default_factory=list)
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
    """A contestant without times in a case, and the reason; `skipped` if a package is missing."""

    case: Case
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

    @property
    def described(self) -> dict[str, str]:
        """The machine and the settings in words."""
        threads, repeats = str(self.settings["threads"]), ", ".join(map(str, self.repeats))
        return self.machine | {"most threads tried": threads, "repeats": repeats}

    @property
    def repeats(self) -> list[int]:
        """How often contestants were measured: of a merged report, in one part or another."""
        given = self.settings["repeats"]
        return given if isinstance(given, list) else [given]

    def of(self, group: str, case: str | None = None) -> list[Measurement]:
        """Return the measurements of a group, or of one case of it."""
        return [
            m for m in self.measurements if m.case.group == group and case in (None, m.case.name)
        ]

    def by_case(self, group: str, case: str | None = None) -> dict[Case, dict[str, Measurement]]:
        """Return the contestants of each case of a group, with their faster number of threads."""
        found: dict[Case, dict[str, Measurement]] = {}
        for m in self.of(group, case):
            row = found.setdefault(m.case, {})
            # Who was measured once was much slower, or the first time was a disturbed one.
            row[m.contestant] = min(
                row.get(m.contestant, m), m, key=lambda m: (-len(m.seconds), m.median)
            )
        return found

    def best(self, group: str, case: str | None = None) -> list[Measurement]:
        """Return the measurements with the faster number of threads of each contestant."""
        return [m for row in self.by_case(group, case).values() for m in row.values()]

    def only(self, keep: Callable[[Case], bool]) -> Report:
        """Return the part whose cases `keep` holds for."""
        measurements = [m for m in self.measurements if keep(m.case)]
        problems = [problem for problem in self.problems if keep(problem.case)]
        return replace(self, measurements=measurements, problems=problems)

    def write(self, path: Path) -> None:
        """Write everything as JSON, by case, with medians and spreads beside the times."""
        entries: list[Measurement | Problem] = [*self.measurements, *self.problems]
        cases = {e.case: asdict(e.case) | {"times": [], "problems": []} for e in entries}
        for entry in entries:
            content = {name: value for name, value in vars(entry).items() if name != "case"}
            if isinstance(entry, Measurement):
                content |= {"median": entry.median, "spread": entry.spread}
            kind = "problems" if isinstance(entry, Problem) else "times"
            cases[entry.case][kind].append(content)
        whole = {
            "format": FORMAT,
            "machine": self.machine,
            **({"gpu_machine": self.gpu_machine} if self.gpu_machine else {}),
            "settings": self.settings,
            "cases": list(cases.values()),
        }
        # Atomically, so that an interruption does not destroy an existing report.
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a report that `write` has written.

        Raises
        ------
        ValueError
            If the file is not a report, or of another format.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            msg = f"{path} is not a report of accelnn bench of format {FORMAT}"
            raise ValueError(msg)
        cases = content.pop("cases")
        report = cls(**content)
        for entry in cases:
            times, problems = entry.pop("times"), entry.pop("problems")
            # JSON has lists, but no tuples.
            tuples: Any = {name: tuple(entry[name]) for name in ("contestants", "sizes")}
            case = Case(**entry | tuples)
            for measured in times:
                del measured["median"], measured["spread"]
                report.measurements.append(Measurement(case, **measured))
            report.problems.extend(Problem(case, **problem) for problem in problems)
        return report

    @classmethod
    def merged(cls, reports: Sequence[Report]) -> Report:
        """Merge the reports of several runs.

        Those on a GPU may be of another machine, and replace what the others have of one.

        Raises
        ------
        ValueError
            If machines or numbers of threads differ, or if the same was measured twice.
        """
        on_gpu = [report for report in reports if "GPU" in report.machine]
        on_cpu = [report for report in reports if "GPU" not in report.machine]
        if on_gpu and on_cpu:
            of_gpu = cls.merged(on_gpu).only(lambda case: case.device != "cpu")
            kept = cls.merged(on_cpu).only(lambda case: case.device == "cpu")
            kept.measurements.extend(of_gpu.measurements)
            kept.problems.extend(of_gpu.problems)
            return replace(kept, gpu_machine=of_gpu.described)
        first = reports[0]
        fixed = {name: value for name, value in first.machine.items() if name != "data"}
        for report in reports:
            differing = [name for name in fixed if report.machine.get(name) != fixed[name]]
            if report.settings["threads"] != first.settings["threads"]:
                differing.append("threads")
            if differing:
                msg = f"these runs cannot be merged: they differ in {', '.join(differing)}"
                raise ValueError(msg)
        repeats = sorted({number for report in reports for number in report.repeats})
        data = "; ".join(report.machine["data"] for report in reports).split("; ")
        measurements = [m for report in reports for m in report.measurements]
        keys = {(m.case.key, m.contestant, m.threads) for m in measurements}
        if len(keys) < len(measurements):
            msg = "these runs cannot be merged: some times were taken in two of them"
            raise ValueError(msg)
        return cls(
            first.machine | {"data": "; ".join(dict.fromkeys(data))},
            first.settings | {"repeats": repeats[0] if len(repeats) == 1 else repeats},
            measurements,
            [problem for report in reports for problem in report.problems],
            next((report.gpu_machine for report in reports if report.gpu_machine), {}),
        )
