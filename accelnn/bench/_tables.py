"""Tables of a report, for the terminal and for the documentation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelnn.bench._contestants import GPU_GROUPS, OURS, ours_in
from accelnn.bench._plan import HEADLINE
from accelnn.bench._results import Measurement, Report

__all__ = ["TABLES", "Table", "duration"]

# Units of time, the largest first.
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
MISSING = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes
    ----------
    title : str
        The meaning of the numbers.
    columns : sequence of str
        The headings.
    rows : sequence of sequences of str
        The cells.
    labels : int
        The number of leading columns with text; the others have numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1


def duration(seconds: float) -> str:
    """Return a time to three digits with its unit."""
    name, unit = next((u for u in UNITS if abs(seconds) >= u[1]), UNITS[-1])
    return f"{number(seconds / unit)} {name}"


def number(value: float) -> str:
    """Return a number to three digits, without an exponent."""
    if abs(value) >= 1000:  # noqa: PLR2004 - four digits before the point
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def _machine(report: Report) -> Table | None:
    rows = [list(item) for item in report.machine.items()]
    rows += [["most threads tried", str(report.settings["threads"])]]
    rows += [["repeats", str(report.settings["repeats"])]]
    return Table("Measured on", ("", ""), rows, labels=2)


def _gpu_machine(report: Report) -> Table | None:
    rows = [list(item) for item in report.gpu_machine.items()]
    return Table("Measured on, with a GPU", ("", ""), rows, labels=2) if rows else None


def _comparison(
    title: str, group: str, unit: str, case: str | None = None
) -> Callable[[Report], Table | None]:
    """Return a builder of a table with one row per case and contestant, at its best threads."""
    reference = ours_in(group)

    def build(report: Report) -> Table | None:
        measured = report.best(group, case)
        if not measured:
            return None
        several = len({m.case for m in measured}) > 1
        ours = {m.case: m.median for m in measured if m.contestant == reference}
        facts = [fact for fact in _FACTS if any(fact in m.facts for m in measured)]
        columns = ["case"] * several + ["contestant", "threads", unit, "spread", f"÷ {reference}"]
        rows = [
            [
                *[m.case] * several,
                m.contestant,
                str(m.threads),
                duration(m.median),
                _spread(m),
                number(m.median / ours[m.case]) if m.case in ours else MISSING,
                *(_FACTS[fact][1](m.facts[fact]) if fact in m.facts else "" for fact in facts),
            ]
            for m in measured
        ]
        where = f", on {report.gpu}" if group in GPU_GROUPS else ""
        columns += [_FACTS[fact][0] for fact in facts]
        return Table(f"{title}{where}", columns, rows, labels=1 + several)

    return build


def _spread(m: Measurement) -> str:
    """Return the fastest and slowest time in the unit of the median."""
    _, name = duration(m.median).split()
    unit = dict(UNITS)[name]
    return " to ".join(number(seconds / unit) for seconds in m.spread)


def _spread_of_ours(measured: Sequence[Measurement], case: str) -> str:
    spreads = (_spread(m) for m in measured if (m.case, m.contestant) == (case, OURS))
    return next(spreads, MISSING)


# Other results of contestants: heading and format.
_FACTS: dict[str, tuple[str, Callable[..., str]]] = {
    "loss": ("training loss", "{:.4f}".format),
    "accuracy": ("test accuracy", "{:.4f}".format),
    "deviation": ("largest deviation", "{:.1e}".format),
    "measured": ("measured", str),
    "samples": ("samples", "{:,}".format),
    "clock": ("timed with", str),
}


def _training(report: Report) -> Table | None:
    """Show a row for each case, a column for each contestant."""
    measured = report.best("training")
    if not measured:
        return None
    names = list(dict.fromkeys(m.contestant for m in measured))
    rows = []
    for case in dict.fromkeys(m.case for m in measured):
        times = {m.contestant: m.median for m in measured if m.case == case}
        peers = [seconds for name, seconds in times.items() if not name.startswith("accelnn")]
        both = OURS in times and bool(peers)
        rows.append(
            [
                case,
                *(duration(times[name]) if name in times else MISSING for name in names),
                _spread_of_ours(measured, case),
                number(min(peers) / times[OURS]) if both else MISSING,
            ]
        )
    title = "Time per training step; the cases differ from the first in what they name"
    columns = ["case", *names, f"spread of {OURS}", f"best peer ÷ {OURS}"]
    return Table(title, columns, rows)


def _scaling(report: Report) -> Table | None:
    """Show a row for each case, with our time per parameter and sample."""
    measured = report.best("scaling")
    if not measured:
        return None
    names = list(dict.fromkeys(m.contestant for m in measured))
    rows = []
    for case in dict.fromkeys(m.case for m in measured):
        times = {m.contestant: m.median for m in measured if m.case == case}
        task = next(m.task for m in measured if m.case == case)
        work = task.parameters * task.batch
        row = [case, f"{task.parameters:,}", f"{task.batch:,}"]
        row += [duration(times[OURS] / work) if OURS in times else MISSING]
        row += [duration(times[name]) if name in times else MISSING for name in names]
        rows.append([*row, _spread_of_ours(measured, case)])
    each = f"{OURS}, per parameter and sample"
    columns = ["case", "parameters", "samples", each, *names, f"spread of {OURS}"]
    return Table("Gradients of 784-h-10 in float64 against their size", columns, rows)


def _black_box(report: Report) -> Table | None:
    """Show a row for each contestant, with the time of each function and per evaluation."""
    measured = report.best("black-box")
    if not measured:
        return None
    cases = {m.case: m.task.sizes[0] for m in measured}
    times = {(m.contestant, m.case): m.median for m in measured}
    rows = []
    for name in dict.fromkeys(m.contestant for m in measured):
        row = [name]
        for case, n in cases.items():
            seconds = times.get((name, case))
            row += [MISSING, MISSING] if seconds is None else [duration(seconds)]
            if seconds is not None:
                row += [duration(seconds / (2 * n))]
        rows.append(row)
    columns = ["contestant"]
    for case in cases:
        columns += [case, "per evaluation"]
    return Table("Gradients by central differences, 2n evaluations", columns, rows)


def _digits(report: Report) -> Table | None:
    """Show digits and evaluations of each function, and totals."""
    measured = {m.contestant: m.facts for m in report.of("digits")}
    if not measured:
        return None
    cases = dict.fromkeys(case for facts in measured.values() for case in facts["digits"])
    rows = [
        [
            case,
            *(
                f"{facts['digits'][case]:.1f} ({facts['evaluations'][case]:.0f})"
                if case in facts["digits"]
                else MISSING
                for facts in measured.values()
            ),
        ]
        for case in cases
    ]
    first = next(iter(measured.values()))["digits"]
    wins = [
        sum(first.get(case, 0.0) >= facts["digits"].get(case, 0.0) for case in cases)
        for facts in measured.values()
    ]
    name = next(iter(measured))
    rows += [
        [f"at least as many digits: {name}", *(f"{won} of {len(cases)}" for won in wins)],
        ["estimates of the error that held", *(f.get("held", MISSING) for f in measured.values())],
    ]
    return Table("Digits of known derivatives, and evaluations", ["function", *measured], rows)


def _threads(report: Report) -> Table | None:
    """Show the speedup of accelnn by threads."""
    rows = []
    most = report.settings["threads"]
    for one in report.measurements:
        if one.contestant != OURS or one.threads != 1:
            continue
        for more in report.of(one.group, one.case):
            if more.contestant == OURS and more.threads > 1:
                ratio = number(one.median / more.median)
                rows.append(
                    [one.group, one.case, duration(one.median), duration(more.median), ratio]
                )
    columns = ["group", "case", "1 thread", f"{most} threads", "times faster"]
    return Table(f"{OURS} on one thread and on {most}", columns, rows, labels=2) if rows else None


def _memory(report: Report) -> Table | None:
    """Show the peak memory of workers after preparation."""
    columns = {
        "training, 784-50-10": report.of("training", HEADLINE),
        "gradient, 784-100-10": report.of("gradient"),
        "whole run": report.of("whole-run"),
    }
    columns = {name: measured for name, measured in columns.items() if measured}
    if not columns:
        return None
    names = dict.fromkeys(m.contestant for measured in columns.values() for m in measured)
    rows = [[name, *(_peak(name, measured) for measured in columns.values())] for name in names]
    title = "Peak memory of the process at work, in MB, the packages and the data included"
    return Table(title, ["contestant", *columns], rows)


def _peak(contestant: str, measured: Sequence[Measurement]) -> str:
    peaks = [m.facts.get("peak_mb") for m in measured if m.contestant == contestant]
    known = [peak for peak in peaks if peak is not None]
    return f"{max(known):,.0f}" if known else MISSING


def _engines(report: Report) -> Table | None:
    """Show how engines that have several ways compute an update."""
    rows = [
        [m.group, m.case, m.contestant, " ".join(m.facts["engine"].split())]
        for m in report.measurements
        if "engine" in m.facts
    ]
    columns = ("group", "case", "contestant", "engine")
    return (
        Table("How the engines compute a training step", columns, rows, labels=4) if rows else None
    )


def _problems(report: Report) -> Table | None:
    """Show the contestants without times, each reason once."""
    seen: dict[tuple[str, str], list[str]] = {}
    for problem in report.problems:
        verdict = "skipped" if problem.skipped else "failed"
        where = [] if problem.skipped else [f"{problem.group}, {problem.case}"]
        places = seen.setdefault((problem.contestant, f"{verdict}: {problem.reason}"), [])
        places += [place for place in where if place not in places]
    rows = [
        [contestant, " ".join(reason.split()) + (f" ({'; '.join(places)})" if places else "")]
        for (contestant, reason), places in seen.items()
    ]
    return Table("Without times", ("contestant", "why"), rows, labels=2) if rows else None


TABLES: dict[str, Callable[[Report], Table | None]] = {
    "machine": _machine,
    "gpu-machine": _gpu_machine,
    "headline": _comparison(
        f"Time per training step of {HEADLINE}, the gather of the batch included",
        "training",
        "step",
        HEADLINE,
    ),
    "training": _training,
    "gradient": _comparison(
        "Gradient of TwoLayerNet(784, 100, 10) on 20 samples, in float64", "gradient", "gradient"
    ),
    "scaling": _scaling,
    "black-box": _black_box,
    "digits": _digits,
    "numerical-training": _comparison(
        "Training of 784-50-10, batch 100, float64, by numerical gradients alone",
        "numerical-training",
        "step",
    ),
    "predict": _comparison("Predictions of 784-50-10 for 10,000 images", "predict", "call"),
    "prepare": _comparison("Preparation of the training images", "prepare", "call"),
    "whole-run": _comparison(
        "10,000 iterations of 784-50-10, with both accuracies after every epoch",
        "whole-run",
        "run",
    ),
    "first-call": _comparison(
        "From the start of a process to the end of its first step", "first-call", "process"
    ),
    "gpu-training": _comparison(
        "Time per training step in float32 with sigmoid and SGD, the gather of the batch included",
        "gpu-training",
        "step",
    ),
    "gpu-gradient": _comparison(
        "Numerical gradient of TwoLayerNet(784, 100, 10) on 20 samples, in float64",
        "gpu-gradient",
        "gradient",
    ),
    "gpu-whole-run": _comparison(
        "10,000 iterations of 784-50-10, with both accuracies after every epoch",
        "gpu-whole-run",
        "run",
    ),
    "engines": _engines,
    "threads": _threads,
    "memory": _memory,
    "problems": _problems,
}
"""Builders of the tables by name; each returns None if it has nothing to show."""
