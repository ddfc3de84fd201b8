"""What a run leaves behind, in memory and as JSON."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelnn.bench._task import Task

__all__ = ["FORMAT", "Measurement", "Problem", "Report"]

FORMAT = 1


@dataclass(frozen=True)
class Measurement:
    """The times of one contestant, on one number of threads, in one case.

    Attributes
    ----------
    group, case, contestant : str
        What was measured.
    threads : int
        How many threads its libraries had.
    task : Task
        The net and the data.
    seconds : list of float
        Seconds per unit, one for each repeat.
    facts : dict
        What the contestant reports besides: loss, accuracy, deviation, peak memory, amounts.
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
        """The middle of the repeats."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest repeat."""
        return min(self.seconds), max(self.seconds)


@dataclass(frozen=True)
class Problem:
    """A contestant that has no times, and why.

    Attributes
    ----------
    group, case, contestant : str
        What was to be measured; an empty case stands for all.
    threads : int
        0 stands for any number.
    reason : str
        In one line.
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
    """A whole run.

    Attributes
    ----------
    machine : dict
        Processor, system, versions, threads, data.
    settings : dict
        How the run was asked for.
    measurements : list of Measurement
        In the order of the plan.
    problems : list of Problem
        Who was skipped or failed.
    """

    machine: dict[str, str]
    settings: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def of(self, group: str, case: str | None = None) -> list[Measurement]:
        """Return the measurements of a group, or of one case of it."""
        return [m for m in self.measurements if m.group == group and case in (None, m.case)]

    def best(self, group: str, case: str | None = None) -> list[Measurement]:
        """Return the measurements with only the better number of threads of each contestant."""
        chosen: dict[tuple[str, str], Measurement] = {}
        for m in self.of(group, case):
            key = (m.case, m.contestant)
            if key not in chosen or m.median < chosen[key].median:
                chosen[key] = m
        return list(chosen.values())

    def write(self, path: Path) -> None:
        """Write everything, medians and spread beside the times they come from, as JSON."""
        content = {"format": FORMAT, **asdict(self)}
        for entry, m in zip(content["measurements"], self.measurements, strict=True):
            entry |= {"median": m.median, "spread": m.spread}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read what `write` has written.

        Raises
        ------
        ValueError
            If it is something else, or of another version.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            msg = f"{path} is no report of accelnn bench of format {FORMAT}"
            raise ValueError(msg)
        measurements = []
        for entry in content["measurements"]:
            del entry["median"], entry["spread"]
            task = Task(**entry.pop("task"))
            measurements.append(Measurement(**entry, task=task))
        problems = [Problem(**entry) for entry in content["problems"]]
        return cls(content["machine"], content["settings"], measurements, problems)
