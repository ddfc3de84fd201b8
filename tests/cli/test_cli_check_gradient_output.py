"""What ``accelnn check-gradient`` prints, for people and for programs, and how it ends."""

import json
import re
import sys
from dataclasses import replace

import pytest
from check_gradient_command import process, rows, run

from accelnn.cli import _check_gradient
from accelnn.gradient import GradientFailure, GradientReport


def test_json_of_a_function(module):
    result = run(f"{module}:cubes", "--gradient", "wrong", "--at", "1,2.5,-3", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    (report,) = document["reports"]
    for part in (document, report):
        assert part["verdict"] == "WRONG"
        assert part["passed"] is False
    assert (report["name"], report["mode"], report["comparisons"]) == ("x", "sampled", 3)
    assert report["failures"] == [report["worst"]]
    worst = report["worst"]
    assert (worst["name"], worst["index"], worst["analytic"]) == ("x", [1], 19.75)
    assert worst["numerical"] == pytest.approx(18.75, rel=1e-8)
    assert worst["error"] == pytest.approx(1.0, rel=1e-6)
    assert worst["relative_error"] == pytest.approx(1.0 / 19.75, rel=1e-6)
    assert 0.0 < worst["noise_floor"] < worst["tolerance"] < 1e-4


def test_json_of_a_net():
    result = run("--json", "--hidden", 3, "--images", 2, "--mode", "directional")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["verdict"], document["passed"]) == ("right", True)
    assert [report["name"] for report in document["reports"]] == ["W1", "b1", "W2", "b2"]
    assert [report["worst"]["name"] for report in document["reports"]] == ["W1", "b1", "W2", "b2"]
    assert {report["worst"]["index"] for report in document["reports"]} == {None}


def test_json_has_no_numbers_that_are_none(module):
    def refuse(word):
        pytest.fail(f"{word} is no JSON")

    result = run(f"{module}:cubes", "--gradient", "nan", "--at", "1,2", "--json")
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout, parse_constant=refuse)["reports"]
    assert report["worst"]["analytic"] == "nan"


def test_json_of_what_cannot_be_checked(module):
    asked = ("--at", "1,2", "--json")
    result = run(f"{module}:far_off", "--dtype", "float32", *asked)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["verdict"] == "inconclusive"
    result = run(f"{module}:divides", *asked)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_python_program_reads_json_too(module):
    result = run(f"{module}:talks", "--at", "1,2", "--json")
    assert json.loads(result.stdout)["verdict"] == "right"
    assert "Python says" in result.stderr


@pytest.mark.parametrize("workers", [None, 2])
def test_what_a_function_prints_is_not_in_the_json(module, workers):
    more = () if workers is None else ("--workers", workers)
    result = process(f"{module}.py:talks", "--shape", 30, "--json", *more)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verdict"] == "right"
    assert "Python says" in result.stderr
    assert "the system says" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["handwritten.py:cubes", "--at", "1,2"], 0),
        (["handwritten.py:cubes", "--gradient", "wrong", "--at", "1,2"], 1),
        (["handwritten.py:leaves", "--at", "1,2"], 2),
        (["handwritten.py:cubes", "--nonsense"], 2),
    ],
)
@pytest.mark.usefixtures("module")
def test_exit_codes_of_the_process(arguments, code):
    result = process(*arguments)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr


def test_help_says_the_exit_codes():
    text = " ".join(run("--help").output.split())
    assert "Exit codes: 0 if the gradient is right, 1 if it is wrong, and 2 if it cannot" in text


LONG = "encoder.layers.11.self_attention.output.dense.weight"


@pytest.mark.parametrize("index", [None, (0,), (1023, 4095, 12, 7, 100, 3)])
@pytest.mark.parametrize("name", ["x", LONG])
@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_numbers_are_never_cut(monkeypatch, capsys, width, name, index):
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    worst = GradientFailure(
        name, index, -1.2345678912e-105, -1.2345678934e-105, 2.23e-114, 1.23e-112, 0.0
    )
    report = GradientReport(
        passed=True, mode="sampled", worst=worst, comparisons=1_234_567_890, is_conclusive=False
    )
    other = replace(report, is_conclusive=True)
    _check_gradient._show({name: report, "b": other}, "float64")
    # Without what makes the header bold in a terminal.
    output = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    table = rows(output)
    assert list(table) == [name, "b"]
    assert "…" not in output
    for row in table.values():
        assert row["analytic"] == "-1.234567891e-105"
        assert row["numerical"] == "-1.234567893e-105"
        assert (row["error"], row["tolerance"]) == ("2.23e-114", "1.23e-112")
        assert row["place"].replace(" ", "") == (
            "adirection" if index is None else str(list(index)).replace(" ", "")
        )
        assert row["compared"] == "1,234,567,890"
    assert [row["verdict"] for row in table.values()] == ["inconclusive", "right"]
    assert "│ inconclusive │" in output
    lengths = [len(line) for line in output.splitlines() if line[0] in "┏┃│├└"]
    assert max(lengths) <= max(80, width or 0)


def test_a_small_difference_hints_at_an_eps(tmp_path, monkeypatch):
    (tmp_path / "entropy.py").write_text(
        "import numpy as np\n"
        "def loss(x): return -np.sum(np.log(x + 1e-5))\n"
        "def loss_grad(x): return -1.0 / x\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("entropy.py:loss", "--at", "0.5,0.25")
    assert result.exit_code == 1
    text = result.output.replace("\n", " ")
    assert "An error this small is typical of an eps inside a logarithm" in text
    assert result.output.endswith("must include it.\n")
