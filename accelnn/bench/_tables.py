"""Tables of a report, for the terminal and for the documentation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelnn.bench._case import Case
from accelnn.bench._plan import GPU_GROUPS, HEADLINE, OURS, ours_in
from accelnn.bench._results import Measurement, Report
from accelnn.bench.contestants.options import OPTIONS
from accelnn.bench.contestants.training import FLOOR

__all__ = ["TABLES", "Table", "duration", "lead_of", "number"]

# Units of time, the largest first.
UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
MISSING = "-"

Row = dict[str, Measurement]  # of a case: the contestants, by name
Column = tuple[str, Callable[[Any], str]]  # its heading, and what it shows of a row


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; after the leading `labels` columns, they are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1


def _table(title: str, columns: Sequence[Column], rows: Iterable[Any], labels: int = 1) -> Table:
    """Return a table of what each column shows of each row, without columns that show nothing."""

    def text(cell: Callable[[Any], str], row: Any) -> str:
        try:
            return cell(row)
        except KeyError:
            # It is about something that was not measured.
            return MISSING

    cells = [[text(cell, row) for _, cell in columns] for row in rows]
    shown = [i for i in range(len(columns)) if {row[i] for row in cells} - {"", MISSING}]
    headings = [columns[i][0] for i in shown]
    return Table(title, headings, [[row[i] for i in shown] for row in cells], labels)


def duration(seconds: float) -> str:
    """Return a time to three digits with its unit."""
    rounded = float(f"{seconds:.3g}")
    unit = next((name for name, size in UNITS.items() if abs(rounded) >= size), "ns")
    return f"{number(rounded / UNITS[unit])} {unit}"


def number(value: float) -> str:
    """Return a number to three digits, without an exponent."""
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 1000:  # noqa: PLR2004 - four digits before the point
        return f"{rounded:,.0f}"
    return f"{value:#.3g}".rstrip(".")


# Columns of tables with a row for each measurement.


def _time(m: Measurement) -> str:
    return duration(m.median)


def _spread(m: Measurement) -> str:
    """Return the fastest and slowest time in the unit of the median."""
    unit = UNITS[_time(m).split()[1]]
    return " to ".join(number(seconds / unit) for seconds in m.spread)


def _fact(name: str, text: Callable[..., str], m: Measurement) -> str:
    return text(m.facts[name]) if name in m.facts else ""


GROUP: Column = ("group", lambda m: m.case.group)
CASE: Column = ("case", lambda m: m.case.name)
WHO: Column = ("contestant", lambda m: m.contestant)
COUNT: Column = ("threads", lambda m: str(m.threads))
# Other results of contestants.
FACTS: list[Column] = [
    ("epochs", partial(_fact, "epochs", "{:g}".format)),
    ("training loss", partial(_fact, "loss", "{:.4f}".format)),
    ("test accuracy", partial(_fact, "accuracy", "{:.4f}".format)),
    ("largest deviation", partial(_fact, "deviation", "{:.1e}".format)),
    ("measured", partial(_fact, "measured", str)),
    ("samples", partial(_fact, "samples", "{:,}".format)),
    ("timed with", partial(_fact, "clock", str)),
]


def _comparison(group: str, unit: str, title: str, report: Report) -> Table:
    """Return a table with one row per case and contestant, at its best threads."""
    reference = ours_in(group)
    found = report.best("training", HEADLINE) if group == "headline" else report.best(group)
    measured = [m for m in found if m.contestant != FLOOR]
    several = len({m.case.name for m in measured}) > 1
    ours = {m.case: m.median for m in measured if m.contestant == reference}
    ratio: Column = (f"÷ {reference}", lambda m: number(m.median / ours[m.case]))
    columns = [*[CASE] * several, WHO, COUNT, (unit, _time), ("spread", _spread), ratio, *FACTS]
    where = f", on {report.gpu}" if group in GPU_GROUPS else ""
    return _table(f"{title}{where}", columns, measured, labels=1 + several)


def _load(report: Report) -> Table:
    """Show the slow-down of each contestant while other processes are busy."""

    def same(m: Measurement) -> tuple[str, str, int]:
        return m.case.name, m.contestant, m.threads

    measured = report.of("load")
    busy = {same(m): m.median for m in measured if m.case.loaded}
    columns: list[Column] = [
        *(CASE, WHO, COUNT, ("alone", _time)),
        ("cores busy", lambda m: duration(busy[same(m)])),
        ("times slower", lambda m: number(busy[same(m)] / m.median)),
    ]
    both = [m for m in measured if not m.case.loaded and same(m) in busy]
    title = "Time per unit, alone and with another busy process per core"
    return _table(title, columns, both, labels=2)


def _threads(report: Report) -> Table:
    """Show the speedup of accelnn by threads."""
    most = report.settings["threads"]
    ours = [m for m in report.measurements if m.contestant == OURS and not m.case.loaded]
    on_most = {m.case: m.median for m in ours if m.threads == most > 1}
    columns: list[Column] = [
        *(GROUP, CASE, ("1 thread", _time)),
        (f"{most} threads", lambda m: duration(on_most[m.case])),
        ("times faster", lambda m: number(m.median / on_most[m.case])),
    ]
    on_one = [m for m in ours if m.threads == 1 and m.case in on_most]
    return _table(f"{OURS} on one thread and on {most}", columns, on_one, labels=2)


def _engines(report: Report) -> Table:
    """Show how engines that have several ways compute an update."""
    engine: Column = ("engine", lambda m: " ".join(m.facts["engine"].split()))
    told = [m for m in report.measurements if "engine" in m.facts]
    title = "How the engines compute a training step"
    return _table(title, [GROUP, CASE, WHO, engine], told, labels=4)


# Columns of tables with a row for each case.


def best_peer(row: Row) -> Measurement | None:
    """Return the fastest of a case who is not of accelnn."""
    peers = [m for name, m in row.items() if not name.startswith("accelnn") and name != FLOOR]
    return min(peers, key=lambda m: m.median, default=None)


def lead_of(row: Row) -> float | None:
    """Return the time of the fastest peer divided by ours."""
    peer = best_peer(row)
    return peer.median / row[OURS].median if peer and OURS in row else None


def _lead(row: Row) -> str:
    lead = lead_of(row)
    return MISSING if lead is None else number(lead)


def _reached(row: Row) -> str:
    """Return the share of the rate of products that we reach."""
    return f"{row[FLOOR].median / row[OURS].median:.0%}"


def _case(row: Row) -> Case:
    return next(iter(row.values())).case


def _work(row: Row) -> str:
    """Return our time per parameter and sample."""
    case = _case(row)
    return duration(row[OURS].median / (case.parameters * case.batch))


def _time_of(name: str, row: Row) -> str:
    return _time(row[name])


def _with_and_without(name: str, row: Row) -> str:
    return number(row[name].facts["ratio"])


def _ratio(name: str, reference: str) -> Column:
    return (
        f"{name} ÷ {reference}",
        lambda row: number(row[name].median / row[reference].median),
    )


# What stands before and after the times.
SIZE: list[Column] = [
    ("parameters", lambda row: f"{_case(row).parameters:,}"),
    ("samples", lambda row: f"{_case(row).batch:,}"),
    (f"{OURS}, per parameter and sample", _work),
]
SPREAD: list[Column] = [(f"spread of {OURS}", lambda row: _spread(row[OURS]))]
LEAD: list[Column] = [
    (f"best peer ÷ {OURS}", _lead),
    (f"products at the rate of {FLOOR}", partial(_time_of, FLOOR)),
    (f"share that {OURS} reaches", _reached),
]
BY_HAND = [_ratio(name, "NumPy by hand") for name in ("accelnn numpy", OURS)]
WITHOUT: list[Column] = [
    (f"{name} ÷ without", partial(_with_and_without, name)) for name in OPTIONS
]


def _rows(report: Report, group: str) -> list[Row]:
    """Return the cases of a group, with the rate of products at as many threads as ours."""
    rows = report.by_case(group)
    for m in report.of(group):
        ours = rows[m.case].get(OURS)
        if m.contestant == FLOOR and ours is not None and m.threads == ours.threads:
            rows[m.case][FLOOR] = m
    return list(rows.values())


def _matrix(
    group: str, title: str, before: list[Column], after: list[Column], report: Report
) -> Table:
    """Return a table with a row for each case, a column for each contestant, and others."""
    rows = _rows(report, group)
    names = dict.fromkeys(name for row in rows for name in row if name != FLOOR)
    times: list[Column] = [(name, partial(_time_of, name)) for name in names]
    case: Column = ("case", lambda row: _case(row).name)
    return _table(title, [case, *before, *times, *after], rows)


def _growth(report: Report) -> Table:
    """Show a row for each width, a column for each batch."""
    rows = [row for row in _rows(report, "growth") if OURS in row]
    cells = {(_case(row).sizes[1], _case(row).batch): row for row in rows}

    def cell(batch: int, hidden: int) -> str:
        row = cells[hidden, batch]
        peer = best_peer(row)
        against = "" if peer is None else f", {_lead(row)} {peer.contestant}"
        reached = "" if FLOOR not in row else f", {_reached(row)}"
        return f"{_time(row[OURS])}{against}{reached}"

    batches = sorted({batch for _, batch in cells})
    columns: list[Column] = [("hidden", "{:,}".format)]
    columns += [(f"batch {batch:,}", partial(cell, batch)) for batch in batches]
    title = (
        f"Training step of 784-h-10, relu, dense data: {OURS}, its best peer's time ÷ ours, and the"
        f" share of the rate of {FLOOR}"
    )
    return _table(title, columns, sorted({hidden for hidden, _ in cells}))


# Tables with a row for each contestant or function.


def _black_box(report: Report) -> Table:
    """Show a row for each contestant, with the time of each function and per evaluation."""

    def per(row: Row, evaluations: int, name: str) -> str:
        return duration(row[name].median / evaluations)

    rows = report.by_case("black-box")
    columns: list[Column] = [("contestant", str)]
    for case, row in rows.items():
        columns.append((case.name, partial(per, row, 1)))
        columns.append(("per evaluation", partial(per, row, 2 * case.sizes[0])))
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return _table("Gradients by central differences, 2n evaluations", columns, names)


def _digits(report: Report) -> Table:
    """Show digits and evaluations of each function, and totals."""

    def cell(facts: dict[str, Any], name: str) -> str:
        return f"{facts['digits'][name]:.1f} ({facts['evaluations'][name]:.0f})"

    measured = report.of("digits")
    columns: list[Column] = [("function", str)]
    columns += [(m.contestant, partial(cell, m.facts)) for m in measured]
    digits = [m.facts["digits"] for m in measured]
    names = list(dict.fromkeys(name for found in digits for name in found))
    table = _table("Digits of known derivatives, and evaluations", columns, names)
    if not measured:
        return table
    wins = [sum(digits[0].get(n, 0.0) >= found.get(n, 0.0) for n in names) for found in digits]
    won = [f"at least as many digits: {measured[0].contestant}"]
    won += [f"{n} of {len(names)}" for n in wins]
    held = ["estimates of the error that held", *(m.facts.get("held", MISSING) for m in measured)]
    return replace(table, rows=[*table.rows, won, held])


def _memory(report: Report) -> Table:
    """Show the peak memory of workers after preparation."""

    def peak(measured: list[Measurement], name: str) -> str:
        known = [m.facts.get("peak_mb", 0.0) for m in measured if m.contestant == name]
        return f"{max(known):,.0f}" if any(known) else MISSING

    groups = {
        "training, 784-50-10": report.of("training", HEADLINE),
        "gradient, 784-100-10": report.of("gradient"),
        "whole run": report.of("whole-run"),
    }
    columns: list[Column] = [("contestant", str)]
    columns += [(group, partial(peak, measured)) for group, measured in groups.items()]
    names = dict.fromkeys(m.contestant for measured in groups.values() for m in measured)
    title = "Peak memory of the process at work, in MB, the packages and the data included"
    is_known = any("peak_mb" in m.facts for measured in groups.values() for m in measured)
    return _table(title, columns, [name for name in names if name != FLOOR and is_known])


def _problems(report: Report) -> Table:
    """Show the contestants without times, each reason once."""
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for problem in report.problems:
        verdict = "skipped" if problem.skipped else "failed"
        reason = " ".join(f"{verdict}: {problem.reason}".split())
        places = seen.setdefault((problem.contestant, reason), {})
        if not problem.skipped:
            places[f"{problem.case.group}, {problem.case.name}"] = None
    rows = [
        [contestant, reason + (f" ({'; '.join(places)})" if places else "")]
        for (contestant, reason), places in seen.items()
    ]
    return Table("Without times", ("contestant", "why"), rows, labels=2)


def _machine(report: Report) -> Table:
    return Table("Measured on", ("", ""), list(report.described.items()), labels=2)


def _gpu_machine(report: Report) -> Table:
    return Table("Measured on, with a GPU", ("", ""), list(report.gpu_machine.items()), labels=2)


STEP = "Time per training step"
GATHER = "the gather of the batch included"
LOOP = "An iteration of a handwritten loop: minibatch, gradient, update of every parameter"
BY_DIFFERENCES = "Training of 784-50-10, batch 100, float64, by numerical gradients alone"
TO_98 = "MNIST to 98.0 % of the test images, medians of seeds: 784-256-10, relu, Adam"
GRADIENT = "radient of TwoLayerNet(784, 100, 10) on 20 samples, in float64"
ESTIMATOR = "Fit of `MLPClassifier`, 10 epochs unless stated: 100 units, relu, Adam, batch 200"
WHOLE_RUN = "10,000 iterations of 784-50-10, with both accuracies after every epoch"
# Groups whose tables have a row for each contestant: the unit, and the title.
COMPARISONS = {
    "headline": ("step", f"{STEP} of {HEADLINE}, {GATHER}"),
    "handwritten-loop": ("iteration", LOOP),
    "gradient": ("gradient", f"G{GRADIENT}"),
    "numerical-training": ("step", BY_DIFFERENCES),
    "predict": ("call", "Predictions of 784-50-10 for 10,000 images"),
    "prepare": ("call", "Preparation of the training images"),
    "whole-run": ("run", WHOLE_RUN),
    "to-98": ("run", TO_98),
    "estimator": ("fit", ESTIMATOR),
    "first-call": ("process", "From the start of a process to the end of its first step"),
    "gpu-training": ("step", f"{STEP} in float32 with sigmoid and SGD, {GATHER}"),
    "gpu-gradient": ("gradient", f"Numerical g{GRADIENT}"),
    "gpu-whole-run": ("run", WHOLE_RUN),
}
# Groups whose tables have a row for each case: title, and what stands before and after the times.
MATRICES: dict[str, tuple[str, list[Column], list[Column]]] = {
    "training": (f"{STEP}; the cases differ from the first in what they name", [], SPREAD + LEAD),
    "options": (f"{STEP} on MNIST, with options of `engine.train`", [], WITHOUT),
    "doors": ("One call of 784-50-10 in float32, on MNIST", [], BY_HAND),
    "scaling": ("Gradients of 784-h-10 in float64 against their size", SIZE, SPREAD),
}
Builder = Callable[[Report], Table]
BUILDERS: dict[str, Builder] = {
    **{group: partial(_comparison, group, *told) for group, told in COMPARISONS.items()},
    **{group: partial(_matrix, group, *told) for group, told in MATRICES.items()},
    "growth": _growth,
    "load": _load,
    "black-box": _black_box,
    "digits": _digits,
    "engines": _engines,
    "threads": _threads,
    "memory": _memory,
}


def _built(build: Builder, isa: str, report: Report) -> Table | None:
    """Return a table of what was measured with some vector instructions, which its title names."""
    table = build(report.only(lambda case: isa in (case.isa, "")))
    title = f"{table.title}, AVX2 alone" if isa == "avx2" else table.title
    return replace(table, title=title) if table.rows else None


TABLES: dict[str, Callable[[Report], Table | None]] = {
    "machine": partial(_built, _machine, ""),
    "gpu-machine": partial(_built, _gpu_machine, ""),
    **{name: partial(_built, build, "native") for name, build in BUILDERS.items()},
    **{f"{name}-avx2": partial(_built, build, "avx2") for name, build in BUILDERS.items()},
    "problems": partial(_built, _problems, ""),
}
"""Builders of the tables by name; each returns None if it has nothing to show."""
