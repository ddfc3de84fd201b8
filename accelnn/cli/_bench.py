"""``accelnn bench``."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich.cells import cell_len
from rich.table import Table as RichTable

from accelnn._atomic import check_replaceable
from accelnn._progress import progress_bar
from accelnn.bench import GPU_GROUPS, GROUPS, TABLES, Report, plan, run, turns
from accelnn.bench._tables import Table
from accelnn.cli._options import (
    FiniteRange,
    OutputFile,
    check_distinct,
    check_picture,
    console,
    friendly_errors,
    is_terminal,
    save_picture,
    wrong_value,
)

__all__ = ["bench"]

REPEATS = {False: 3, True: 5}
# What a table has beside the text of a column, and at its edge.
BESIDE, EDGE = len("│  "), len("│")


@click.command(short_help="Measure accelnn and its peers side by side.")
@click.option(
    "--quick/--full",
    "quick",
    default=True,
    show_default="quick",
    help="The main comparisons in a few minutes, or all of them in a few hours.",
)
@click.option(
    "--only",
    type=click.Choice(GROUPS),
    multiple=True,
    help="Measure this group only; may be repeated.",
)
@click.option(
    "--gpu",
    is_flag=True,
    help=f"Measure on a CUDA device: as --only with each of {', '.join(GPU_GROUPS)}.",
)
@click.option(
    "--isa",
    type=click.Choice(("native", "avx2")),
    default="native",
    show_default=True,
    help="Let all contestants use the vectors that the processor has, or AVX2 alone (x86).",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1, max=10_000),
    help=f"Number of repeats.  [default: {REPEATS[False]}, with --full {REPEATS[True]}]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1, max=10_000),
    help="Try each contestant on 1 and on this many threads.  [default: the usable cores]",
)
@click.option(
    "--timeout",
    type=FiniteRange(min=0.0, max=86_400.0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds after which a contestant that does not respond is terminated.",
)
@click.option(
    "--json",
    "json_path",
    type=OutputFile(),
    help="Write all results to this file; until the run is complete, to unfinished-FILE.",
)
@click.option(
    "--plot",
    type=OutputFile(),
    help="Plot time against size to this file.",
)
def bench(
    *,
    quick: bool,
    only: tuple[str, ...],
    gpu: bool,
    isa: str,
    repeats: int | None,
    threads: int | None,
    timeout: float,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Measure accelnn and its peers side by side, and show their times.

    Each contestant runs in its own process, and all take turns. Those whose package is not
    installed are skipped; pip install 'accelnn[bench]' installs them all.
    """
    from accelnn.bench._machine import check_vectors
    from accelnn.bench._plot import SIZED, draw
    from accelnn.bench.contestants.data import digits

    with friendly_errors():
        # Checked before the measurement.
        for option, path in {"--json": json_path, "--plot": plot}.items():
            with wrong_value(option):
                if path is not None and path.exists() and not os.access(path, os.W_OK):
                    msg = f"cannot write {str(path)!r}: the file is read-only"
                    raise ValueError(msg)
        if json_path is not None:
            with wrong_value("--json"):
                # The longest of the names under which it is written.
                check_replaceable(json_path.with_name(f"unfinished-{json_path.name}.partial"))
        check_distinct({"--json": json_path, "--plot": plot})
        if plot is not None:
            check_picture(plot)
        check_vectors(isa)
        groups = (*only, *(GPU_GROUPS if gpu else ()))
        cases = plan(full=not quick, only=groups, data=digits(), isa=isa)
        if plot is not None and all(case.group != SIZED for case in cases):
            msg = f"--plot draws the group {SIZED!r}, which is not among those to measure"
            raise click.UsageError(msg)
        repeats = repeats or REPEATS[not quick]
        total = turns(cases, repeats, threads)
        unfinished = json_path and json_path.with_name(f"unfinished-{json_path.name}")
        with progress_bar("Measuring", total, enabled=is_terminal(sys.stderr)) as advance:
            report = run(
                cases,
                repeats=repeats,
                threads=threads,
                timeout=timeout,
                progress=advance,
                keep=lambda report: report.write(unfinished) if unfinished else None,
            )
        show(report)
        if json_path is not None and unfinished is not None:
            report.write(json_path)
            unfinished.unlink(missing_ok=True)
            click.echo(f"times: {json_path}")
        if plot is not None:
            save_picture(draw(report), plot)
            click.echo(f"picture: {plot}")
    if not report.measurements:
        sys.exit(1)


def show(report: Report) -> None:
    """Print the tables of a report."""
    out = console()
    for table in filter(None, (build(report) for build in TABLES.values())):
        for drawn in _drawn(table, out.width):
            out.print(drawn)


def _drawn(table: Table, width: int) -> Iterator[RichTable]:
    """Yield a table in parts that are no wider, with its labels in each and no number cut."""
    cells = list(zip(*table.rows, strict=True))
    least = [
        BESIDE + max(map(cell_len, (*heading.split(), *column)))
        for heading, column in zip(table.columns, cells, strict=True)
    ]
    labels, numbers = range(table.labels), range(table.labels, len(table.columns))
    # Labels are wrapped only where a single column would not fit beside them.
    room = max(width - EDGE - sum(least[: table.labels]), *least[table.labels :], 0)
    parts: list[list[int]] = [[]]
    for i in numbers:
        if parts[-1] and sum(least[k] for k in (*parts[-1], i)) > room:
            parts.append([])
        parts[-1].append(i)
    for place, part in enumerate(parts):
        drawn = RichTable(
            title=table.title + ", continued" * (place > 0),
            title_justify="left",
        )
        shown = [*labels, *part]
        headings = {i: BESIDE + cell_len(table.columns[i]) for i in shown}
        is_roomy = EDGE + sum(max(least[i], headings[i]) for i in shown) <= width
        for i in labels:
            drawn.add_column(table.columns[i], overflow="fold")
        for i in part:
            # Headings are wrapped to the width of their numbers.
            fixed = None if is_roomy else least[i] - BESIDE
            drawn.add_column(table.columns[i], justify="right", width=fixed)
        for row in table.rows:
            drawn.add_row(*(row[i] for i in shown))
        yield drawn
