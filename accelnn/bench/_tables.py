"""Tables of a report, for the terminal and for the documentation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelnn.bench._case import Case
from accelnn.bench._plan import GPU_GROUPS, HEADLINE, OURS, ours_in
from accelnn.bench._results import Measurement, Report
from accelnn.bench.contestants.training import FLOOR

__all__ = ["TABLES", "Table", "duration", "lead_of", "number"]

# Units of time, the largest first.
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
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
    """Return a table of what each column shows of each row."""

    def text(cell: Callable[[Any], str], row: Any) -> str:
        try:
            return cell(row)
        except KeyError:
            # It is about something that was not measured.
            return MISSING

    cells = [[text(cell, row) for _, cell in columns] for row in rows]
    return Table(title, [heading for heading, _ in columns], cells, labels)


def duration(seconds: float) -> str:
    """Return a time to three digits with its unit."""
    name, unit = next((u for u in UNITS if abs(seconds) >= u[1]), UNITS[-1])
    return f"{number(seconds / unit)} {name}"


def number(value: float) -> str:
    """Return a number to three digits, without an exponent."""
    if abs(value) >= 1000:  # noqa: PLR2004 - four digits before the point
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")


def best_peer(row: Row) -> Measurement | None:
    """Return the fastest of a case who is not of accelnn."""
    peers = [m for name, m in row.items() if not name.startswith("accelnn") and name != FLOOR]
    return min(peers, key=lambda m: m.median, default=None)


def lead_of(row: Row) -> float | None:
    """Return the time of the fastest peer divided by ours."""
    peer = best_peer(row)
    return peer.median / row[OURS].median if peer and OURS in row else None


def _machine(title: str, attribute: str, report: Report) -> Table:
    return Table(title, ("", ""), list(getattr(report, attribute).items()), labels=2)


def _spread(m: Measurement) -> str:
    """Return the fastest and slowest time in the unit of the median."""
    _, name = duration(m.median).split()
    unit = dict(UNITS)[name]
    return " to ".join(number(seconds / unit) for seconds in m.spread)


def _time(m: Measurement) -> str:
    return duration(m.median)


# Columns of tables with a row for each measurement.
GROUP: Column = ("group", lambda m: m.case.group)
CASE: Column = ("case", lambda m: m.case.name)
WHO: Column = ("contestant", lambda m: m.contestant)
COUNT: Column = ("threads", lambda m: str(m.threads))
# Other results of contestants: heading and format.
FACTS: dict[str, tuple[str, Callable[..., str]]] = {
    "epochs": ("epochs", "{:g}".format),
    "loss": ("training loss", "{:.4f}".format),
    "accuracy": ("test accuracy", "{:.4f}".format),
    "deviation": ("largest deviation", "{:.1e}".format),
    "measured": ("measured", str),
    "samples": ("samples", "{:,}".format),
    "clock": ("timed with", str),
}


def _comparison(group: str, unit: str, title: str, report: Report) -> Table:
    """Return a table with one row per case and contestant, at its best threads."""
    reference = ours_in(group)
    found = report.best("training", HEADLINE) if group == "headline" else report.best(group)
    measured = [m for m in found if m.contestant != FLOOR]
    several = len({m.case.name for m in measured}) > 1
    ours = {m.case.key: m.median for m in measured if m.contestant == reference}

    def fact(name: str, m: Measurement) -> str:
        return FACTS[name][1](m.facts[name]) if name in m.facts else ""

    ratio: Column = (f"÷ {reference}", lambda m: number(m.median / ours[m.case.key]))
    columns = [*[CASE] * several, WHO, COUNT, (unit, _time), ("spread", _spread), ratio]
    told = [name for name in FACTS if any(name in m.facts for m in measured)]
    columns += [(FACTS[name][0], partial(fact, name)) for name in told]
    where = f", on {report.gpu}" if group in GPU_GROUPS else ""
    return _table(f"{title}{where}", columns, measured, labels=1 + several)


def _case_of(row: Row) -> Case:
    return next(iter(row.values())).case


def _time_of(name: str, row: Row) -> str:
    return duration(row[name].median)


def _ratio(of: str, to: str, row: Row) -> str:
    return number(row[of].median / row[to].median)


def _work(row: Row) -> str:
    """Return our time per parameter and sample."""
    case = row[OURS].case
    return duration(row[OURS].median / (case.parameters * case.batch))


def _lead(row: Row) -> str:
    lead = lead_of(row)
    return MISSING if lead is None else number(lead)


def _reached(row: Row) -> str:
    """Return the share of the rate of products that we reach."""
    return f"{row[FLOOR].median / row[OURS].median:.0%}"


HAND = "NumPy by hand"
# Columns of tables with a row for each case, before and after the times.
SIZE: list[Column] = [
    ("parameters", lambda row: f"{_case_of(row).parameters:,}"),
    ("samples", lambda row: f"{_case_of(row).batch:,}"),
    (f"{OURS}, per parameter and sample", _work),
]
SPREAD: list[Column] = [(f"spread of {OURS}", lambda row: _spread(row[OURS]))]
LEAD: list[Column] = [
    (f"best peer ÷ {OURS}", _lead),
    (f"products at the rate of {FLOOR}", partial(_time_of, FLOOR)),
    (f"share that {OURS} reaches", _reached),
]
BY_HAND: list[Column] = [
    (f"{ours} ÷ {HAND}", partial(_ratio, ours, HAND)) for ours in ("accelnn numpy", OURS)
]


def _matrix(
    group: str, title: str, before: list[Column], after: list[Column], report: Report
) -> Table:
    """Return a table with a row for each case, a column for each contestant, and others."""
    rows = _rows_of(report, group)
    names = dict.fromkeys(name for row in rows for name in row if name != FLOOR)
    times: list[Column] = [(name, partial(_time_of, name)) for name in names]
    names_of: Column = ("case", lambda row: _case_of(row).name)
    columns: list[Column] = [names_of, *before, *times, *after]
    cells = _table(title, columns, rows).rows
    shown = [c for i, c in enumerate(columns) if any(row[i] != MISSING for row in cells)]
    return _table(title, shown, rows)


def _rows_of(report: Report, group: str) -> list[Row]:
    """Return the cases of a group, with the rate of products at as many threads as ours."""
    rows = report.by_case(group)
    for m in report.of(group):
        ours = rows[m.case].get(OURS)
        if m.contestant == FLOOR and ours is not None and m.threads == ours.threads:
            rows[m.case][FLOOR] = m
    return list(rows.values())


def _growth(report: Report) -> Table:
    """Show a row for each width, a column for each batch."""
    rows = [row for row in _rows_of(report, "growth") if OURS in row]
    cells = {(_case_of(row).sizes[1], _case_of(row).batch): row for row in rows}

    def cell(batch: int, hidden: int) -> str:
        row = cells[hidden, batch]
        peer = best_peer(row)
        against = "" if peer is None else f", {_lead(row)} {peer.contestant}"
        reached = "" if FLOOR not in row else f", {_reached(row)}"
        return f"{_time_of(OURS, row)}{against}{reached}"

    batches = sorted({batch for _, batch in cells})
    columns: list[Column] = [
        ("hidden", "{:,}".format),
        *((f"batch {batch:,}", partial(cell, batch)) for batch in batches),
    ]
    title = (
        f"Training step of 784-h-10, relu, dense data: {OURS}, its best peer's time ÷ ours, and the"
        f" share of the rate of {FLOOR}"
    )
    return _table(title, columns, sorted({hidden for hidden, _ in cells}))


def _load(report: Report) -> Table:
    """Show the slow-down of each contestant while other processes are busy."""
    measured = report.of("load")
    busy = {_of_load(m): m.median for m in measured if m.case.loaded}
    columns: list[Column] = [
        *(CASE, WHO, COUNT, ("alone", _time)),
        ("cores busy", lambda m: duration(busy[_of_load(m)])),
        ("times slower", lambda m: number(busy[_of_load(m)] / m.median)),
    ]
    both = [m for m in measured if not m.case.loaded and _of_load(m) in busy]
    title = "Time per unit, alone and with another busy process per core"
    return _table(title, columns, both, labels=2)


def _of_load(m: Measurement) -> tuple[str, str, int]:
    """Return what is the same with busy cores."""
    return m.case.name, m.contestant, m.threads


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
    measured = {m.contestant: m.facts for m in report.of("digits")}
    if not measured:
        return _table("", [], [])
    first = next(iter(measured))

    def cell(facts: dict[str, Any], case: str) -> str:
        return f"{facts['digits'][case]:.1f} ({facts['evaluations'][case]:.0f})"

    columns: list[Column] = [("function", str)]
    columns += [(name, partial(cell, facts)) for name, facts in measured.items()]
    digits = [facts["digits"] for facts in measured.values()]
    cases = list(dict.fromkeys(case for of_one in digits for case in of_one))
    wins = [sum(digits[0].get(c, 0.0) >= of_one.get(c, 0.0) for c in cases) for of_one in digits]
    held = [facts.get("held", MISSING) for facts in measured.values()]
    table = _table("Digits of known derivatives, and evaluations", columns, cases)
    won = [f"at least as many digits: {first}", *(f"{n} of {len(cases)}" for n in wins)]
    return replace(table, rows=[*table.rows, won, ["estimates of the error that held", *held]])


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


def _memory(report: Report) -> Table:
    """Show the peak memory of workers after preparation."""
    groups = {
        "training, 784-50-10": report.of("training", HEADLINE),
        "gradient, 784-100-10": report.of("gradient"),
        "whole run": report.of("whole-run"),
    }

    def peak(measured: list[Measurement], name: str) -> str:
        known = [m.facts.get("peak_mb", 0.0) for m in measured if m.contestant == name]
        return f"{max(known):,.0f}" if any(known) else MISSING

    peaks = ((name, partial(peak, measured)) for name, measured in groups.items() if measured)
    names = dict.fromkeys(m.contestant for measured in groups.values() for m in measured)
    names.pop(FLOOR, None)
    title = "Peak memory of the process at work, in MB, the packages and the data included"
    return _table(title, [("contestant", str), *peaks], names)


def _engines(report: Report) -> Table:
    """Show how engines that have several ways compute an update."""
    engine: Column = ("engine", lambda m: " ".join(m.facts["engine"].split()))
    told = [m for m in report.measurements if "engine" in m.facts]
    title = "How the engines compute a training step"
    return _table(title, [GROUP, CASE, WHO, engine], told, labels=4)


def _problems(report: Report) -> Table:
    """Show the contestants without times, each reason once."""
    seen: dict[tuple[str, str], list[str]] = {}
    for problem in report.problems:
        verdict = "skipped" if problem.skipped else "failed"
        reason = " ".join(f"{verdict}: {problem.reason}".split())
        places = seen.setdefault((problem.contestant, reason), [])
        place = f"{problem.case.group}, {problem.case.name}"
        if not problem.skipped and place not in places:
            places.append(place)
    rows = [
        [contestant, reason + (f" ({'; '.join(places)})" if places else "")]
        for (contestant, reason), places in seen.items()
    ]
    return Table("Without times", ("contestant", "why"), rows, labels=2)


STEP = "Time per training step"
GATHER = "the gather of the batch included"
LOOP = "An iteration of a handwritten loop: minibatch, gradient, update of every parameter"
BY_DIFFERENCES = "Training of 784-50-10, batch 100, float64, by numerical gradients alone"
TO_98 = "MNIST to 98.0 % of the test images, medians of seeds: 784-256-10, relu, Adam"
GRADIENT = "radient of TwoLayerNet(784, 100, 10) on 20 samples, in float64"
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
    "first-call": ("process", "From the start of a process to the end of its first step"),
    "gpu-training": ("step", f"{STEP} in float32 with sigmoid and SGD, {GATHER}"),
    "gpu-gradient": ("gradient", f"Numerical g{GRADIENT}"),
    "gpu-whole-run": ("run", WHOLE_RUN),
}
# Groups whose tables have a row for each case: title, and what stands before and after the times.
MATRICES: dict[str, tuple[str, list[Column], list[Column]]] = {
    "training": (f"{STEP}; the cases differ from the first in what they name", [], SPREAD + LEAD),
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


MACHINE: Builder = partial(_machine, "Measured on", "described")
GPU_MACHINE: Builder = partial(_machine, "Measured on, with a GPU", "gpu_machine")
TABLES: dict[str, Callable[[Report], Table | None]] = {
    "machine": partial(_built, MACHINE, ""),
    "gpu-machine": partial(_built, GPU_MACHINE, ""),
    **{name: partial(_built, build, "native") for name, build in BUILDERS.items()},
    **{f"{name}-avx2": partial(_built, build, "avx2") for name, build in BUILDERS.items()},
    "problems": partial(_built, _problems, ""),
}
"""Builders of the tables by name; each returns None if it has nothing to show."""
