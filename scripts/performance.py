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

A table of another machine names the file of its run, which is beside the main one::

    <!-- table: training of performance-zen4.json -->
    <!-- end -->
"""

import argparse
import functools
import re
import sys
from pathlib import Path

from accelnn.bench import TABLES, Report, Table
from accelnn.bench._plot import draw_growth

ROOT = Path(__file__).parents[1]
RUN = ROOT / "docs" / "performance.json"
DOCUMENTS = (RUN.with_name("performance.md"), RUN.with_name("derivatives.md"), ROOT / "README.md")
MARKED = re.compile(
    r"(?P<mark><!-- table: (?P<name>[\w-]+)(?: of (?P<run>[\w.-]+))? -->\n).*?(?=<!-- end -->)",
    re.DOTALL,
)
read = functools.cache(Report.read)


def fill(text: str, run: Path) -> str:
    """Return a document with its tables written anew; one that does not exist ends the script."""

    def written(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            sys.exit(f"no table {name!r}: known are {', '.join(TABLES)}")
        table = TABLES[name](read(run_of(match, run)))
        # Nobody without times is a table without rows.
        missing = "" if name == "problems" else "\nNot measured yet.\n\n"
        written = f"\n{markdown(table)}\n" if table else missing
        if table and name == "growth":
            picture = picture_of(match)
            written += f"![Best peer's time divided by ours, by width and batch]({picture})\n\n"
        return match["mark"] + written

    return MARKED.sub(written, text)


def run_of(match: re.Match[str], run: Path) -> Path:
    """Return the run of a marked table."""
    return run.with_name(match["run"] or run.name)


def picture_of(match: re.Match[str]) -> str:
    """Return the picture of a marked table of growth, named like its run."""
    return f"images/{Path(match['run'] or 'growth').stem}.png"


def draw(document: Path, text: str, run: Path) -> None:
    """Draw the pictures of a document."""
    for match in MARKED.finditer(text):
        if match["name"] == "growth" and picture_of(match) in text:
            picture = document.parent / picture_of(match)
            picture.parent.mkdir(exist_ok=True)
            native = read(run_of(match, run)).only(lambda case: case.isa == "native")
            draw_growth(native).savefig(picture, dpi=150)


def markdown(table: Table) -> str:
    """Return a table under its title in bold."""
    marks = ["---" if i < table.labels else "---:" for i in range(len(table.columns))]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    rows.insert(1, marks)
    return f"**{table.title}**\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


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
            Report.merged([Report.read(part) for part in options.merge]).write(options.json)
        except ValueError as error:
            sys.exit(f"--merge: {error}")
    stale = []
    for document in options.documents:
        text = document.read_text(encoding="utf-8")
        filled = fill(text, options.json)
        if filled == text:
            continue
        stale.append(document.name)
        if not options.check:
            document.write_text(filled, encoding="utf-8")
            draw(document, filled, options.json)
    if options.check and stale:
        sys.exit(f"not what {options.json.name} says: {', '.join(stale)}")
    print(f"{'written' if stale else 'unchanged'}: {', '.join(stale) or 'all tables'}")


if __name__ == "__main__":
    main()
