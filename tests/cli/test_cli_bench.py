"""``accelnn bench``: tables, JSON, picture, and mistakes before anything is measured."""

import json
import os

import pytest
from click.testing import CliRunner

from accelnn.bench import Report
from accelnn.cli import app


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


def test_help_names_every_group():
    output = run("--help").output
    for name in ("training", "gradient", "scaling", "predict", "whole-run", "first-call"):
        assert name in output
