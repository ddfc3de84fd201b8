#!/usr/bin/env python3
"""Write the tables of measurements into the documentation, from a run of ``accelnn bench``.

    accelnn bench --full --json docs/performance.json
    python scripts/performance.py            # write the tables
    python scripts/performance.py --check    # fail if a table is not what the run says

A run of hours may be made in parts, of which one report is made::

    accelnn bench --full --only training --json training.json
    accelnn bench --full --only gradient --only scaling --json gradients.json
    python scripts/performance.py --merge training.json gradients.json

Runs of ``--gpu`` may be of another machine, and join the run that is there; what it had of a GPU is
replaced, and the tables name the card::

    python scripts/performance.py --merge docs/performance.json times.json

In the documents, a table stands between two comments, of which the first names it::

    <!-- table: headline -->
    <!-- end -->

The names are those of `accelnn.bench.TABLES`; with ``-avx2`` at their end they are of runs with
``--isa avx2``, which may be merged with others. What was not measured is said to be missing. A
picture of the group ``growth`` is drawn where its table is.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from accelnn.bench import TABLES, Report, Table
from accelnn.bench._plot import draw_growth

ROOT = Path(__file__).parents[1]
RUN = ROOT / "docs" / "performance.json"
DOCUMENTS = (
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "derivatives.md",
    ROOT / "README.md",
)

PICTURE = "images/growth.png"
MARKED = re.compile(r"(?<=<!-- table: )([\w-]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def fill(text: str, report: Report) -> str:
    """Return a document with its tables written anew.

    Raises
    ------
    ValueError
        If it names a table that does not exist.
    """

    def written(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            msg = f"no table {name!r}: known are {', '.join(TABLES)}"
            raise ValueError(msg)
        table = TABLES[name](report)
        # Nobody without times is a table without rows.
        missing = "" if name == "problems" else "\nNot measured yet.\n\n"
        written = f"\n{markdown(table)}\n" if table else missing
        if table and name == "growth":
            written += f"![Best peer's time divided by ours, by width and batch]({PICTURE})\n\n"
        return f"{name}{match[2]}{written}"

    return MARKED.sub(written, text)


def markdown(table: Table) -> str:
    """Return a table under its title in bold."""
    marks = ["---" if i < table.labels else "---:" for i in range(len(table.columns))]
    lines = [_row(table.columns), _row(marks), *map(_row, table.rows)]
    return f"**{table.title}**\n\n" + "".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def merged(parts: Sequence[Report]) -> Report:
    """Return one report of parts; those of a GPU, together, may be of another machine."""
    on_gpu = [part for part in parts if "GPU" in part.machine]
    on_cpu = [part for part in parts if "GPU" not in part.machine]
    if not on_gpu or not on_cpu:
        return Report.merged(parts)
    return Report.merged(on_cpu).with_gpu(Report.merged(on_gpu))


def main() -> None:
    """Read the command line, then write or check."""
    parser = argparse.ArgumentParser(description="Write tables of measurements into documents.")
    parser.add_argument(
        "documents", nargs="*", type=Path, default=DOCUMENTS, help="by default docs and README"
    )
    parser.add_argument("--json", type=Path, default=RUN, help="the run")
    parser.add_argument("--merge", nargs="+", type=Path, help="make the run of these parts first")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    options = parser.parse_args()
    if options.merge:
        try:
            merged([Report.read(part) for part in options.merge]).write(options.json)
        except ValueError as error:
            sys.exit(f"--merge: {error}")
    report = Report.read(options.json)
    stale = []
    for document in options.documents:
        text = document.read_text(encoding="utf-8")
        try:
            filled = fill(text, report)
        except ValueError as error:
            sys.exit(f"{document.name}: {error}")
        if filled == text:
            continue
        stale.append(document.name)
        if not options.check:
            document.write_text(filled, encoding="utf-8")
            if PICTURE in filled:
                picture = document.parent / PICTURE
                picture.parent.mkdir(exist_ok=True)
                native = report.only(lambda case: case.isa == "native")
                draw_growth(native).savefig(picture, dpi=150)
    if options.check and stale:
        sys.exit(f"not what {options.json.name} says: {', '.join(stale)}")
    print(f"{'written' if stale else 'unchanged'}: {', '.join(stale) or 'all tables'}")


if __name__ == "__main__":
    main()
