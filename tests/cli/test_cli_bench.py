"""``accelnn bench``: tables, JSON, picture, and mistakes before anything is measured."""

import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console

from accelnn.bench import TABLES, Report
from accelnn.bench._tables import Table
from accelnn.cli import _bench, app
from accelnn.cli._options import NARROW


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


@pytest.fixture
def small_plan(monkeypatch):
    """Leave the plan its shape, and make its work small."""
    from dataclasses import replace

    from accelnn.bench import _plan
    from accelnn.cli import _bench

    def small(**options):
        cases = _plan.plan(**options)
        return [
            replace(
                case,
                sizes=(784, width, 10),
                batch=5,
                data="5k",
                contestants=("accelnn numba", "accelnn numpy"),
                few=case.few and 2,
                many=6,
                budget=0.01,
                threaded=False,
            )
            for width, case in zip((2, 4, 8, 16, 32), cases, strict=False)
        ]

    monkeypatch.setattr(_bench, "plan", small)


@pytest.mark.usefixtures("small_plan")
def test_tables_json_and_picture(tmp_path):
    run_file, picture = tmp_path / "run.json", tmp_path / "run.png"
    result = run(
        "--only", "scaling", "--repeats", 2, "--threads", 1, "--json", run_file, "--plot", picture
    )
    assert result.exit_code == 0, result.output
    for title in ("Measured on", "Gradients of 784-h-10"):
        assert title in result.stdout
    for row in ("processor", "system", "python", "numba", "BLAS of NumPy", "threads", "hidden 800"):
        assert f"│ {row} " in result.stdout
    assert "Without times" not in result.stdout
    assert "\x1b" not in result.stdout
    report = Report.read(run_file)
    assert {m.case.group for m in report.measurements} == {"scaling"}
    assert {m.contestant for m in report.measurements} == {"accelnn numba", "accelnn numpy"}
    assert all(len(m.seconds) == 2 and m.threads == 1 for m in report.measurements)
    assert json.loads(run_file.read_text())["settings"] == {"repeats": 2, "threads": 1}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("small_plan")
def test_without_any_times_the_exit_code_tells():
    result = run("--only", "predict", "--repeats", 1, "--threads", 1, "--timeout", 1e-3)
    assert result.exit_code == 1
    assert "no answer to 'prepare' within 0.001 s; ended" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "missing/run.json"], "'--json': cannot write 'missing/run.json'"),
        (["--plot", "missing/run.png"], "'--plot': cannot write 'missing/run.png'"),
        (["--json", "runs/"], "'--json': cannot write 'runs/': it does not end with the name of"),
        (["--plot", "runs/"], "'--plot': cannot write 'runs/': it does not end with the name of"),
        (["--json", os.devnull], "'--json': cannot write"),
        # It would fit, but not what is written until the run is complete.
        (["--json", "n" * 250], "'--json': File name too long"),
        (["--plot", "n" * 300], "'--plot': File name too long"),
        (["--json", "run.png", "--plot", "run.png"], "--json and --plot both name 'run.png'"),
        (["--plot", "run.nonsense"], "cannot draw into 'run.nonsense': known suffixes are"),
        (["--only", "predict", "--plot", "run.png"], "--plot draws the group 'scaling', which"),
        (["--only", "nonsense"], "'nonsense' is not one of"),
        (["--repeats", "0"], "0 is not in the range"),
        (["--threads", "0"], "0 is not in the range"),
        (["--repeats", "99999999999999999999999"], "'--repeats': 99999999999999999999999 is not"),
        (["--threads", "99999999999999999999999"], "'--threads': 99999999999999999999999 is not"),
        (["--timeout", "inf"], "'--timeout': inf is not in the range"),
        (["--timeout", "nan"], "'--timeout': nan is not a finite number"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_cannot_be_drawn_fails_before_the_measurement(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = run("--only", "scaling", "--plot", tmp_path / "run.pgf")
    assert result.exit_code == 1
    assert "'xelatex' not found" in result.stderr
    assert result.stdout == ""


RUNS = ("performance.json", "growth-zen4.json")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not installed")
@pytest.mark.parametrize("columns", [40, 80, 100, 300])
@pytest.mark.parametrize("name", RUNS)
def test_every_number_is_whole_on_its_line(name, columns, monkeypatch):
    out = Console(file=io.StringIO(), width=max(columns, NARROW), color_system=None, markup=False)
    monkeypatch.setattr(_bench, "console", lambda: out)
    report = Report.read(DOCS / name)
    _bench.show(report)
    printed = out.file.getvalue()
    assert max(map(cell_len, printed.splitlines())) <= out.width
    assert ("continued" in printed) == (columns < 300)
    shown = [
        Counter(cell.strip() for cell in line.strip("│").split("│"))
        for line in printed.splitlines()
        if line.startswith("│")
    ]
    there = sum(shown, Counter())
    tables = [table for build in TABLES.values() if (table := build(report))]
    wanted = Counter(cell for table in tables for row in table.rows for cell in row[table.labels :])
    assert not {cell: n for cell, n in wanted.items() if there[cell] < n}
    # Words of labels are whole, too, but for the longest of what is no number.
    for table in tables:
        for row in table.rows:
            for word in " ".join(row[: table.labels]).split():
                assert len(word) > 40 or word in printed


def test_labels_are_repeated_and_wrapped_where_a_number_needs_their_room():
    rows = [["a case of many words", "1" * 30, "2" * 30, "3" * 70], ["b", "4", "5", "6"]]
    table = Table("title", ("case", "first of two", "second", "third"), rows)
    out = Console(file=io.StringIO(), width=80, color_system=None)
    parts = list(_bench._drawn(table, 80))
    for part in parts:
        out.print(part)
    assert [part.title for part in parts] == ["title", "title, continued"]
    assert [len(part.columns) for part in parts] == [3, 2]
    for row in rows:
        assert all(number in out.file.getvalue() for number in row[1:])


def test_help_names_every_group():
    output = run("--help").output
    for name in ("training", "gradient", "scaling", "predict", "whole-run", "first-call"):
        assert name in output
