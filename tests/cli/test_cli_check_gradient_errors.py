"""What ``accelnn check-gradient`` shows of what a function raises."""

import numpy as np
import pytest
from check_gradient_command import line_of, process, run

from accelnn.cli import _check_gradient
from accelnn.cli._functions import Source, UsersFunction, importable, raised_by_user


@pytest.mark.parametrize(
    ("name", "raised", "line"),
    [
        ("divides", "ZeroDivisionError: ", "    return 1.0 / (int(x[0]) - 1)"),
        # Raised by NumPy, called there.
        ("inverts", "LinAlgError: Singular", "    return np.linalg.inv(np.zeros((2, 2)))"),
        ("leaves", "SystemExit: 0", "    sys.exit(0)"),
    ],
)
@pytest.mark.parametrize("where", ["handwritten", "handwritten.py"])
@pytest.mark.usefixtures("module")
def test_what_a_function_raises_is_shown_with_its_own_line(where, name, raised, line):
    result = run(f"{where}:{name}", "--at", "1,2")
    assert result.exit_code == 2
    first, second, third = result.stderr.splitlines()
    assert first.startswith(f"Error: {where}:{name} ")
    assert raised in first
    assert second == f"  handwritten.py, line {line_of(line)}, in {name}"
    assert third == f"    {line.strip()}"
    assert result.stdout == ""


def test_an_error_of_the_gradient_is_shown_too(module):
    result = run(f"{module}:cubes", "--gradient", "divides", "--at", "1,2")
    assert result.exit_code == 2
    assert f"{module}:divides raised ZeroDivisionError" in result.stderr


def test_an_error_without_a_message_that_can_be_shown(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(
        "class Odd(Exception):\n"
        "    def __str__(self): raise TypeError('unshown')\n"
        "def f(x): raise Odd\n"
        "f_grad = f\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("odd.py:f", "--at", "1")
    assert result.exit_code == 2
    assert "f raised Odd: (its message cannot be shown)\n  odd.py, line 3, in f" in result.stderr


def test_a_compiled_function_is_shown_where_it_begins(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    (tmp_path / "compiled.py").write_text(
        "import numba\n\n@numba.njit\ndef f(x):\n    y = int(x[0]) - 1\n    return 1.0 / y\n"
        "def f_grad(x): return x\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("compiled.py:f", "--at", "1")
    assert result.exit_code == 2
    assert (
        "f raised ZeroDivisionError: division by zero\n  compiled.py, line 3, in f" in result.stderr
    )


@pytest.mark.parametrize("workers", ["100000", "9" * 20, "9" * 400])
def test_more_workers_than_can_run_are_one_line(module, workers):
    result = run(f"{module}:cubes", "--at", "1,2", "--workers", workers)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: workers must be at most ")
    assert len(line) < 200


def test_an_interrupt_stays_one(module):
    result = run(f"{module}:interrupts", "--at", "1")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert "raised" not in result.stderr


def test_a_fault_of_ours_is_no_verdict(monkeypatch, module):
    def broken(*_, **__):
        raise AttributeError("ours")

    monkeypatch.setattr(_check_gradient, "check", broken)
    result = run(f"{module}:cubes", "--at", "1")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "AttributeError: ours" in result.stderr


@pytest.mark.parametrize(
    ("name", "raised", "line"),
    [
        ("in_a_worker", "raised Far: far away", '        raise Far("far", "away")'),
        (
            "leaves_a_worker",
            "ended the program (SystemExit: 0)",
            "    return np.sum(x**2) if multiprocessing.parent_process() is None else sys.exit(0)",
        ),
    ],
)
def test_errors_in_other_processes(module, tmp_path, name, raised, line):
    result = process(f"{module}.py:{name}", "--shape", 30, "--workers", 2)
    assert result.returncode == 2
    assert f"Error: {module}.py:{name} {raised}\n" in result.stderr
    assert f"\n  {module}.py, line {line_of(line)}, in {name}\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.usefixtures("module")
def test_an_error_that_is_the_cause_of_another_is_the_users():
    source = Source("handwritten.py")
    with importable(source.folder):
        f = UsersFunction(source, "divides")
    try:
        f(np.array([1.0]))
    except ZeroDivisionError as error:
        other = RuntimeError("wrapped")
        other.__cause__ = error
    assert raised_by_user(other).startswith("handwritten.py:divides raised ZeroDivisionError")
    assert raised_by_user(RuntimeError("ours")) is None
