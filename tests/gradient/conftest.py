"""What the tests of derivatives have in common."""

import sys
from collections import Counter
from pathlib import Path

# Worker processes import what they are sent by its module's name.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser):
    parser.addoption(
        "--functions",
        type=int,
        metavar="N",
        help="How many random functions are differentiated and checked, 300 by default.",
    )


def pytest_terminal_summary(terminalreporter, config):
    """Show what became of many random functions."""
    if not config.getoption("--functions", None):
        return
    from random_trials import table

    tables: dict[str, dict[str, Counter]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for (what, column), counts in (
                (name, value) for name, value in report.user_properties if isinstance(name, tuple)
            ):
                columns = tables.setdefault(what, {})
                columns[column] = columns.get(column, Counter()) + Counter(counts)
    for what, columns in sorted(tables.items()):
        terminalreporter.section(what)
        terminalreporter.write_line(table(columns))
