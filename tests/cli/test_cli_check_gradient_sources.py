"""Where ``accelnn check-gradient`` finds functions, gradients and points."""

import sys

import numpy as np
import pytest
from check_gradient_command import process, rows, run


@pytest.mark.parametrize(
    "name",
    [
        "Layer.static",
        "Layer.of_class",
        "Layer.Inner.f",
        "Layer.norm",
        "Unmade.static",
        "Unmade.made",
    ],
)
@pytest.mark.usefixtures("module")
def test_attributes_of_classes(name):
    result = run(f"handwritten.py:{name}", "--at", "1,2")
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("module")
def test_a_method_and_its_gradient_are_those_of_one_object():
    result = run("handwritten.py:Layer.loss", "--at", "1,2")
    assert result.exit_code == 0, result.output
    result = run("handwritten.py:Layer.loss", "--gradient", "Layer.loss_wrong", "--at", "1,2")
    assert result.exit_code == 1, result.output
    for same in ("handwritten.py", "./handwritten.py"):
        result = run(
            "handwritten.py:Layer.loss", "--gradient", f"{same}:Layer.loss_grad", "--at", "1,2"
        )
        assert result.exit_code == 0, result.output


def test_a_gradient_from_another_file(module, tmp_path):
    folder = tmp_path / "other folder"
    folder.mkdir()
    (folder / "neighbour.py").write_text("two = 2.0\n")
    (folder / "more.py").write_text(
        "from neighbour import two\ndef g(x):\n    return two * x**2\n"
        "def late(x):\n    import neighbour\n    return 3.0 * x**2 + 0.0 * neighbour.two\n"
    )
    result = run(f"{module}.py:cubes", "--gradient", f"{folder}/more.py:g", "--at", "1,2")
    assert result.exit_code == 1, result.output
    del sys.modules["neighbour"]
    result = run(f"{module}.py:cubes", "--gradient", f"{folder}/more.py:late", "--at", "1,2")
    assert result.exit_code == 0, result.output
    del sys.modules["neighbour"]


def test_a_file_leaves_nothing_behind(module, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = list(sys.path)
    result = run(f"../{module}.py:cubes", "--at", "1,2")
    assert result.exit_code == 0, result.output
    assert sys.path == before
    assert not sys.dont_write_bytecode
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "elsewhere",
        "handwritten.py",
        "helper.py",
    ]
    assert list(elsewhere.iterdir()) == []


def test_a_file_with_the_name_of_a_module_that_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text(
        "def f(x): return (x**2).sum()\ndef f_grad(x): return 2 * x\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("numpy.py:f", "--at", "1,2")
    assert result.exit_code == 0, result.output
    assert sys.modules["numpy"] is np


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\n\nsys.exit(0)\n", "ended the program (SystemExit: 0)\n  broken.py, line 3,"),
        ("\nx = [][0]\n", "raised IndexError: list index out of range\n  broken.py, line 2,"),
        ("\ndef f(x:\n", "\n  broken.py, line 2,"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'\n  broken.py, line 1,"),
        ("import click\nraise click.exceptions.Exit(0)\n", "raised Exit: 0\n  broken.py, line 2,"),
    ],
)
@pytest.mark.parametrize("where", ["broken", "broken.py"])
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, where, text, message):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = run(f"{where}:f", "--at", "1")
    assert result.exit_code == 2
    assert f"Error: importing {where} " in result.stderr
    assert message in result.stderr
    assert "broken" not in sys.modules


def test_x_from_a_file(module, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    result = run(f"{module}:cubes", "--at", "x.npy", "--gradient", "wrong")
    assert result.exit_code == 1
    assert rows(result.output)["x"]["place"] == "[0, 1]"
    np.save(tmp_path / "z.npy", np.array([1j]))
    result = run(f"{module}:cubes", "--at", "z.npy")
    assert result.exit_code == 2
    assert "z.npy must hold real numbers, but holds complex128" in result.stderr


def test_processes_find_what_cannot_be_pickled(module):
    result = process(f"{module}.py:sines", "--shape", 30, "--workers", 2)
    assert result.returncode == 0, result.stderr
