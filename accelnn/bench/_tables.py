"""Tables of a report, for the terminal and for the documentation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from accelnn.bench._case import Case
from accelnn.bench._plan import GPU_GROUPS, HEADLINE, OURS, ours_in
from accelnn.bench._results import Measurement, Report
from accelnn.bench.contestants.training import FLOOR

__all__ = ["TABLES", "Table", "duration", "lead_of", "number"]

# Units of time, the largest first.
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
MISSING = "-"

Row = dict[str, Measurement]  # of a case: the contestants, by name
Builder = Callable[[Report], "Table | None"]


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; after the leading `labels` columns, they are numbers."""

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


def best_peer(row: Row) -> Measurement | None:
    """Return the fastest of a case who is not of accelnn."""
    peers = [m for name, m in row.items() if not name.startswith("accelnn") and name != FLOOR]
    return min(peers, key=lambda m: m.median, default=None)


def lead_of(row: Row) -> float | None:
    """Return the time of the fastest peer divided by ours."""
    peer = best_peer(row)
    return peer.median / row[OURS].median if peer and OURS in row else None


def _described(title: str, machine: str, report: Report) -> Table | None:
    rows = [list(item) for item in getattr(report, machine).items()]
    if machine == "machine":
        rows += [["most threads tried", str(report.settings["threads"])]]
        rows += [["repeats", str(report.settings["repeats"])]]
    return Table(title, ("", ""), rows, labels=2) if rows else None


def _comparison(report: Report, group: str, unit: str, title: str) -> Table | None:
    """Return a table with one row per case and contestant, at its best threads."""
    reference = ours_in(group)
    found = report.best("training", HEADLINE) if group == "headline" else report.best(group)
    measured = [m for m in found if m.contestant != FLOOR]
    several = len({m.case.name for m in measured}) > 1
    ours = {m.case.key: m.median for m in measured if m.contestant == reference}
    facts = [fact for fact in FACTS if any(fact in m.facts for m in measured)]
    columns = ["case"] * several + ["contestant", "threads", unit, "spread", f"÷ {reference}"]
    rows = [
        [
            *[m.case.name] * several,
            m.contestant,
            str(m.threads),
            duration(m.median),
            _spread(m),
            number(m.median / ours[m.case.key]) if m.case.key in ours else MISSING,
            *(FACTS[fact][1](m.facts[fact]) if fact in m.facts else "" for fact in facts),
        ]
        for m in measured
    ]
    where = f", on {report.gpu}" if group in GPU_GROUPS else ""
    columns += [FACTS[fact][0] for fact in facts]
    return Table(f"{title}{where}", columns, rows, labels=1 + several) if rows else None


def _spread(m: Measurement) -> str:
    """Return the fastest and slowest time in the unit of the median."""
    _, name = duration(m.median).split()
    unit = dict(UNITS)[name]
    return " to ".join(number(seconds / unit) for seconds in m.spread)


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


def _ratio(of: str, to: str, row: Row) -> str:
    return number(row[of].median / row[to].median) if of in row and to in row else MISSING


def _spread_of_ours(row: Row) -> str:
    return _spread(row[OURS]) if OURS in row else MISSING


def _lead(row: Row) -> str:
    lead = lead_of(row)
    return MISSING if lead is None else number(lead)


def _floor(row: Row) -> str:
    return duration(row[FLOOR].median) if FLOOR in row else MISSING


def _reached(row: Row) -> str:
    """Return the share of the rate of products that we reach."""
    if OURS not in row or FLOOR not in row:
        return MISSING
    return f"{row[FLOOR].median / row[OURS].median:.0%}"


def _work(row: Row) -> str:
    """Return our time per parameter and sample."""
    if OURS not in row:
        return MISSING
    case = row[OURS].case
    return duration(row[OURS].median / (case.parameters * case.batch))


Cell = Callable[[Row], str]
# Columns of tables with a row for each case, before and after the times: heading and cell.
SIZE: dict[str, Cell] = {
    "parameters": lambda row: f"{_case_of(row).parameters:,}",
    "samples": lambda row: f"{_case_of(row).batch:,}",
    f"{OURS}, per parameter and sample": _work,
}
LEAD: dict[str, Cell] = {
    f"spread of {OURS}": _spread_of_ours,
    f"best peer ÷ {OURS}": _lead,
    f"products at the rate of {FLOOR}": _floor,
    f"share that {OURS} reaches": _reached,
}
HAND = "NumPy by hand"
BY_HAND: dict[str, Cell] = {
    f"{ours} ÷ {HAND}": partial(_ratio, ours, HAND) for ours in ("accelnn numpy", OURS)
}


def _case_of(row: Row) -> Case:
    return next(iter(row.values())).case


def _matrix(
    report: Report, group: str, title: str, before: dict[str, Cell], after: dict[str, Cell]
) -> Table | None:
    """Return a table with a row for each case, a column for each contestant, and others."""
    cases = _rows_of(report, group)
    if not cases:
        return None
    names = list(dict.fromkeys(name for row in cases for name in row if name != FLOOR))
    cells = [
        [
            _case_of(row).name,
            *(cell(row) for cell in before.values()),
            *(duration(row[name].median) if name in row else MISSING for name in names),
            *(cell(row) for cell in after.values()),
        ]
        for row in cases
    ]
    columns = ["case", *before, *names, *after]
    shown = [i for i in range(len(columns)) if any(row[i] != MISSING for row in cells)]
    rows = [[row[i] for i in shown] for row in cells]
    return Table(title, [columns[i] for i in shown], rows)


def _rows_of(report: Report, group: str) -> list[Row]:
    """Return the cases of a group, with the rate of products at as many threads as ours."""
    rows = report.by_case(group)
    for m in report.of(group):
        ours = rows[m.case].get(OURS)
        if m.contestant == FLOOR and ours is not None and m.threads == ours.threads:
            rows[m.case][FLOOR] = m
    return list(rows.values())


def _growth(report: Report) -> Table | None:
    """Show a row for each width, a column for each batch."""
    cells = {
        (case.sizes[1], case.batch): row
        for row in _rows_of(report, "growth")
        if OURS in row and (case := _case_of(row))
    }
    if not cells:
        return None
    batches = sorted({batch for _, batch in cells})

    def cell(row: Row | None) -> str:
        if row is None:
            return MISSING
        peer = best_peer(row)
        against = "" if peer is None else f", {_lead(row)} {peer.contestant}"
        reached = "" if FLOOR not in row else f", {_reached(row)}"
        return f"{duration(row[OURS].median)}{against}{reached}"

    rows = [
        [f"{hidden:,}", *(cell(cells.get((hidden, batch))) for batch in batches)]
        for hidden in sorted({hidden for hidden, _ in cells})
    ]
    title = (
        f"Training step of 784-h-10, relu, dense data: {OURS}, its best peer's time ÷ ours, and the"
        f" share of the rate of {FLOOR}"
    )
    return Table(title, ["hidden", *(f"batch {batch:,}" for batch in batches)], rows)


def _load(report: Report) -> Table | None:
    """Show the slow-down of each contestant while other processes are busy."""
    measured = report.of("load")
    loaded = {(m.case.name, m.contestant, m.threads): m for m in measured if m.case.loaded}
    rows = []
    for m in measured:
        busy = loaded.get((m.case.name, m.contestant, m.threads))
        if busy is not None and not m.case.loaded:
            who = [m.case.name, m.contestant, str(m.threads)]
            times = [duration(m.median), duration(busy.median)]
            rows.append([*who, *times, number(busy.median / m.median)])
    columns = ["case", "contestant", "threads", "alone", "cores busy", "times slower"]
    title = "Time per unit, alone and with another busy process per core"
    return Table(title, columns, rows, labels=2) if rows else None


def _black_box(report: Report) -> Table | None:
    """Show a row for each contestant, with the time of each function and per evaluation."""
    measured = report.best("black-box")
    if not measured:
        return None
    cases = {m.case.name: m.case.sizes[0] for m in measured}
    times = {(m.contestant, m.case.name): m.median for m in measured}
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
    name, first = next((name, facts["digits"]) for name, facts in measured.items())
    wins = [
        sum(first.get(case, 0.0) >= facts["digits"].get(case, 0.0) for case in cases)
        for facts in measured.values()
    ]
    rows += [
        [f"at least as many digits: {name}", *(f"{won} of {len(cases)}" for won in wins)],
        ["estimates of the error that held", *(f.get("held", MISSING) for f in measured.values())],
    ]
    return Table("Digits of known derivatives, and evaluations", ["function", *measured], rows)


def _threads(report: Report) -> Table | None:
    """Show the speedup of accelnn by threads."""
    ours = {(m.case, m.threads): m for m in report.measurements if m.contestant == OURS}
    most = report.settings["threads"]
    rows = []
    for (case, threads), one in ours.items():
        more = ours.get((case, most))
        if threads == 1 and more is not None and most > 1 and not case.loaded:
            ratio = number(one.median / more.median)
            times = [duration(one.median), duration(more.median)]
            rows.append([case.group, case.name, *times, ratio])
    columns = ["group", "case", "1 thread", f"{most} threads", "times faster"]
    return Table(f"{OURS} on one thread and on {most}", columns, rows, labels=2) if rows else None


def _memory(report: Report) -> Table | None:
    """Show the peak memory of workers after preparation."""
    groups = {
        "training, 784-50-10": report.of("training", HEADLINE),
        "gradient, 784-100-10": report.of("gradient"),
        "whole run": report.of("whole-run"),
    }
    columns = {name: measured for name, measured in groups.items() if measured}
    peaks: dict[str, dict[str, float]] = {}
    for column, measured in columns.items():
        for m in measured:
            of_one = peaks.setdefault(m.contestant, {})
            of_one[column] = max(m.facts.get("peak_mb", 0.0), of_one.get(column, 0.0))
    peaks.pop(FLOOR, None)
    rows = [
        [name, *(f"{of_one[c]:,.0f}" if of_one.get(c) else MISSING for c in columns)]
        for name, of_one in peaks.items()
    ]
    title = "Peak memory of the process at work, in MB, the packages and the data included"
    return Table(title, ["contestant", *columns], rows) if rows else None


def _engines(report: Report) -> Table | None:
    """Show how engines that have several ways compute an update."""
    rows = [
        [m.case.group, m.case.name, m.contestant, " ".join(m.facts["engine"].split())]
        for m in report.measurements
        if "engine" in m.facts
    ]
    columns = ("group", "case", "contestant", "engine")
    title = "How the engines compute a training step"
    return Table(title, columns, rows, labels=4) if rows else None


def _problems(report: Report) -> Table | None:
    """Show the contestants without times, each reason once."""
    seen: dict[tuple[str, str], list[str]] = {}
    for problem in report.problems:
        verdict = "skipped" if problem.skipped else "failed"
        where = [] if problem.skipped else [f"{problem.case.group}, {problem.case.name}"]
        places = seen.setdefault((problem.contestant, f"{verdict}: {problem.reason}"), [])
        places += [place for place in where if place not in places]
    rows = [
        [contestant, " ".join(reason.split()) + (f" ({'; '.join(places)})" if places else "")]
        for (contestant, reason), places in seen.items()
    ]
    return Table("Without times", ("contestant", "why"), rows, labels=2) if rows else None


STEP = "Time per training step"
GATHER = "the gather of the batch included"
LOOP = "An iteration of a handwritten loop: minibatch, gradient, update of every parameter"
FLOAT64 = "784-50-10, batch 100, float64,"
GRADIENT = "Gradient of TwoLayerNet(784, 100, 10) on 20 samples, in float64"
WHOLE_RUN = "10,000 iterations of 784-50-10, with both accuracies after every epoch"
# Tables with a row for each contestant, by group: the unit, and the title.
COMPARISONS = {
    "headline": ("step", f"{STEP} of {HEADLINE}, {GATHER}"),
    "handwritten-loop": ("iteration", LOOP),
    "gradient": ("gradient", GRADIENT),
    "numerical-training": ("step", f"Training of {FLOAT64} by numerical gradients alone"),
    "predict": ("call", "Predictions of 784-50-10 for 10,000 images"),
    "prepare": ("call", "Preparation of the training images"),
    "whole-run": ("run", WHOLE_RUN),
    "to-98": (
        "run",
        "MNIST to 98.0 % of the test images, medians of seeds: 784-256-10, relu, Adam",
    ),
    "first-call": ("process", "From the start of a process to the end of its first step"),
    "gpu-training": ("step", f"{STEP} in float32 with sigmoid and SGD, {GATHER}"),
    "gpu-gradient": ("gradient", f"Numerical g{GRADIENT[1:]}"),
    "gpu-whole-run": ("run", WHOLE_RUN),
}
# Tables with a row for each case: title, and what stands before and after the times.
MATRICES: dict[str, tuple[str, dict[str, Cell], dict[str, Cell]]] = {
    "training": (f"{STEP}; the cases differ from the first in what they name", {}, LEAD),
    "doors": ("One call of 784-50-10 in float32, on MNIST", {}, BY_HAND),
    "scaling": (
        *("Gradients of 784-h-10 in float64 against their size", SIZE),
        {f"spread of {OURS}": _spread_of_ours},
    ),
}
# Others have a builder of their own.
OF_THEIR_OWN: dict[str, Builder] = {
    "growth": _growth,
    "load": _load,
    "black-box": _black_box,
    "digits": _digits,
    "engines": _engines,
    "threads": _threads,
    "memory": _memory,
}
NAMES = (*COMPARISONS, *MATRICES, *OF_THEIR_OWN)


def _built(name: str, isa: str, report: Report) -> Table | None:
    """Return a table of what was measured with some vector instructions, which its title names."""
    part = report.only(lambda case: case.isa == isa)
    if name in COMPARISONS:
        table = _comparison(part, name, *COMPARISONS[name])
    elif name in MATRICES:
        table = _matrix(part, name, *MATRICES[name])
    else:
        table = OF_THEIR_OWN[name](part)
    return replace(table, title=f"{table.title}, AVX2 alone") if table and isa == "avx2" else table


TABLES: dict[str, Builder] = {
    "machine": partial(_described, "Measured on", "machine"),
    "gpu-machine": partial(_described, "Measured on, with a GPU", "gpu_machine"),
    **{name: partial(_built, name, "native") for name in NAMES},
    **{f"{name}-avx2": partial(_built, name, "avx2") for name in NAMES},
    "problems": _problems,
}
"""Builders of the tables by name; each returns None if it has nothing to show."""
