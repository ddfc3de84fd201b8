"""``accelnn check-gradient``: 0 is right, 1 is wrong and says where, 2 is not checked."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from accelnn.backends._engine import Engine
from accelnn.cli import _check_gradient, app
from accelnn.cli._functions import Source, UsersFunction, importable, raised_by_user
from accelnn.gradient import GradientFailure, GradientReport

PACKAGE = Path(_check_gradient.__file__).parents[1]
# What would hide that compiled files are left, or that output is held back.
UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "COLUMNS")


def run(*arguments):
    return CliRunner().invoke(app, ["check-gradient", *map(str, arguments)])


def process(*arguments):
    """Run the command as a shell does, in the folder at hand."""
    inherited = {k: v for k, v in os.environ.items() if k not in UNWANTED}
    return subprocess.run(
        [sys.executable, "-m", "accelnn", "check-gradient", *map(str, arguments)],
        env={**inherited, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows(output):
    """Return what the table says of each parameter; names may go on in the next line."""
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("┡")) + 1
    found, block = {}, []
    for line in takewhile(lambda line: line[0] in "│├└", lines[start:]):
        if line.startswith("│"):
            block.append([cell.strip() for cell in line.strip("│").split("│")])
            continue
        name, verdict, where, numbers, errors = zip(*block, strict=True)
        place, _, compared = " ".join(filter(None, where)).rpartition(" of ")
        analytic, numerical = filter(None, numbers)
        error, tolerance = filter(None, errors)
        found["".join(name)] = {
            "verdict": "".join(verdict),
            "place": place,
            "compared": compared,
            "analytic": analytic,
            "numerical": numerical,
            "error": error,
            "tolerance": tolerance,
        }
        block = []
    return found


def test_a_right_net_passes():
    result = run()
    assert result.exit_code == 0, result.output
    table = rows(result.output)
    assert list(table) == ["W1", "b1", "W2", "b2"]
    assert {row["verdict"] for row in table.values()} == {"right"}
    assert [row["compared"] for row in table.values()] == ["100", "50", "100", "10"]
    assert "784-50-10, sigmoid, cross_entropy, float64" in result.output
    assert result.output.splitlines()[0].endswith(", 20 images")
    assert "…" not in result.output


@pytest.mark.parametrize("loss", ["cross_entropy", "sum_squared_error"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kind_of_net_is_right(activation, loss, dtype):
    result = run(
        *("--activation", activation, "--loss", loss, "--dtype", dtype, "--hidden", "7,6"),
        *("--images", 4, "--backend", "numpy", "--mode", "directional"),
    )
    table = rows(result.output)
    assert list(table) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    verdicts = {row["verdict"] for row in table.values()}
    if (activation, dtype) == ("relu", "float32"):
        # Kinks within reach of the steps that single precision needs hide slopes.
        assert verdicts - {"inconclusive"} == {"right"}
        assert result.exit_code == (2 if "inconclusive" in verdicts else 0)
    else:
        assert verdicts == {"right"}
        assert result.exit_code == 0, result.output


def test_full_mode_compares_everything():
    result = run("--hidden", 2, "--images", 2, "--mode", "full")
    assert result.exit_code == 0
    compared = [row["compared"] for row in rows(result.output).values()]
    assert compared == ["1,568", "2", "20", "10"]


def test_more_images_than_there_are():
    result = run("--hidden", "", "--images", 10_000, "--mode", "directional")
    assert result.exit_code == 0
    assert ", 4000 images" in result.output


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
def test_a_wrong_net_fails_and_is_shown(monkeypatch, mode):
    backpropagate = Engine.loss_and_gradient

    def wrong(self, params, x, t, out):
        loss = backpropagate(self, params, x, t, out)
        # A single weight of the last bias, one percent off.
        out[-3] *= 1.01
        return loss

    monkeypatch.setattr(Engine, "loss_and_gradient", wrong)
    result = run("--hidden", 3, "--images", 5, "--mode", mode, "--backend", "numpy")
    assert result.exit_code == 1
    table = rows(result.output)
    assert {name: row["verdict"] for name, row in table.items()} == {
        "W1": "right",
        "b1": "right",
        "W2": "right",
        "b2": "WRONG",
    }
    row = table["b2"]
    assert row["place"] == "[7]"
    assert float(row["analytic"]) == pytest.approx(1.01 * float(row["numerical"]), rel=1e-6)
    assert "Traceback" not in result.output


def test_a_gradient_of_nan_is_wrong(monkeypatch):
    backpropagate = Engine.loss_and_gradient

    def wrong(self, params, x, t, out):
        loss = backpropagate(self, params, x, t, out)
        out[0] = np.nan
        return loss

    monkeypatch.setattr(Engine, "loss_and_gradient", wrong)
    result = run("--backend", "numpy", "--hidden", 2, "--images", 2, "--mode", "full")
    assert result.exit_code == 1
    assert rows(result.output)["W1"]["verdict"] == "WRONG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", 0), "0 is not in the range"),
        (("--mode", "partial"), "'partial' is not one of"),
        (("--dtype", "float16"), "'float16' is not one of"),
        (("--backend", "nope"), "unknown backend 'nope'; known backends are"),
        (("--data", "nofolder"), "neither '5k' nor 'mnist' nor a folder"),
        (("--rtol", "-1"), "rtol must be a number from 0 on, or None, got -1.0"),
        (("--atol", "nan"), "atol must be a number from 0 on, or None, got nan"),
        (("--workers", "2"), "belong to a FUNCTION"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr.strip().splitlines()[-1])
    assert "Traceback" not in result.output


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the folder at hand."""
    (tmp_path / "helper.py").write_text("three = 3.0\n")
    (tmp_path / "handwritten.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield "handwritten"
    for name in ("handwritten", "helper"):
        sys.modules.pop(name, None)


SOURCE = """\
import multiprocessing
import os
import sys
from helper import three
import numpy as np

def cubes(x): return np.sum(x**3)
def cubes_grad(x): return three * x**2
def wrong(x): return 3.0 * x**2 + (np.arange(x.size) == 1).reshape(x.shape)
def all_wrong(x): return 2.0 * x**2
def unlike(x): return 3.0 * x**2 * (1.0 + 1e-3 / 3.0)
def nan(x): return np.nan * x
def far_off(x): return np.float32(1e9) + np.sum(x**2)
def far_off_grad(x): return 2 * x
limit = 3.0

def divides(x):
    return 1.0 / (int(x[0]) - 1)
divides_grad = cubes_grad

def inverts(x):
    return np.linalg.inv(np.zeros((2, 2)))
inverts_grad = cubes_grad

def leaves(x):
    sys.exit(0)
leaves_grad = cubes_grad

def interrupts(x):
    raise KeyboardInterrupt
interrupts_grad = cubes_grad

class Far(Exception):
    def __init__(self, how, where): super().__init__(f"{how} {where}")

def in_a_worker(x):
    if multiprocessing.parent_process() is not None:
        raise Far("far", "away")
    return np.sum(x**2)
in_a_worker_grad = cubes_grad

def leaves_a_worker(x):
    return np.sum(x**2) if multiprocessing.parent_process() is None else sys.exit(0)
leaves_a_worker_grad = cubes_grad

def talks(x):
    print("Python says")
    os.write(1, b"the system says\\n")
    return np.sum(x**3)
talks_grad = cubes_grad

def both(x): return np.sum(x**3), 3 * x**2
def half(x): return np.sum(x**3), 6 * x**2
def nothing(x): pass
nothing_grad = cubes_grad

def products(x): return np.array([x[0] * x[1], x[1] ** 2, 5.0])
def products_grad(x): return np.array([[x[1], x[0]], [0, 2 * x[1]], [0, 0]])
def products_wrong(x): return np.array([[x[1], x[0]], [1, 2 * x[1]], [0, 0]])

sines = lambda x: float(np.sum(np.sin(x)))
sines_grad = lambda x: np.cos(x)

class Layer:
    def __init__(self):
        self.norm = lambda x: np.sum(x**2)
        self.norm_grad = lambda x: 2 * x
    def loss(self, x):
        self.kept = x.copy()
        return np.sum(x**3)
    def loss_grad(self, x): return 3 * self.kept**2
    def loss_wrong(self, x): return 2 * self.kept**2
    @staticmethod
    def static(x): return np.sum(x**2)
    @staticmethod
    def static_grad(x): return 2 * x
    @classmethod
    def of_class(cls, x): return np.sum(x**2)
    @classmethod
    def of_class_grad(cls, x): return 2 * x
    class Inner:
        def f(self, x): return np.sum(x**2)
        def f_grad(self, x): return 2 * x

class Unmade:
    def __init__(self, n): self.n = n
    @classmethod
    def made(cls, x): return np.sum(x**2)
    @classmethod
    def made_grad(cls, x): return 2 * x
    def f(self, x): return np.sum(x**2)
    @staticmethod
    def static(x): return np.sum(x**2)
    @staticmethod
    def static_grad(x): return 2 * x
"""


def line_of(text):
    return SOURCE.splitlines().index(text) + 1


def test_a_function_and_its_gradient_from_a_module(module):
    result = run(f"{module}:cubes", "--at", "1,2.5,-3", "--mode", "full")
    assert result.exit_code == 0, result.output
    assert rows(result.output)["x"]["verdict"] == "right"
    assert rows(result.output)["x"]["compared"] == "3"
    result = run(f"{module}:cubes", "--shape", "4,5", "--mode", "full", "--backend", "numpy")
    assert rows(result.output)["x"]["compared"] == "20"


def test_a_wrong_gradient_is_found_and_placed(module):
    result = run(f"{module}:cubes", "--gradient", "wrong", "--at", "1,2.5,-3")
    assert result.exit_code == 1
    row = rows(result.output)["x"]
    assert [row[key] for key in ("verdict", "place", "analytic")] == ["WRONG", "[1]", "19.75"]
    assert float(row["numerical"]) == pytest.approx(18.75)
    assert "is wrong at" not in result.output


def test_all_wrong_coordinates_are_named_up_to_ten(module):
    result = run(f"{module}:cubes", "--gradient", "all_wrong", "--at", "1,3,2")
    assert "x is wrong at [1], [2], [0]\n" in result.output
    result = run(f"{module}:cubes", "--gradient", "all_wrong", "--shape", "14")
    assert re.search(r"x is wrong at (\[\d+\], ){9}\[\d+\] and 4 more\n", result.output)


def test_noise_that_hides_the_gradient_is_no_pass(module):
    result = run(f"{module}:far_off", "--at", "1,2.5,-3", "--dtype", "float32")
    assert result.exit_code == 2
    assert rows(result.output)["x"]["verdict"] == "inconclusive"
    assert "Try --dtype float64" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["handwritten"], "FUNCTION must be MODULE:NAME or FILE.py:NAME, got 'handwritten'"),
        ([":cubes", "--at", "1"], "FUNCTION must be MODULE:NAME or FILE.py:NAME, got ':cubes'"),
        (["handwritten:none", "--at", "1"], "module 'handwritten' has no 'none'"),
        (["nowhere_at_all:f", "--at", "1"], "Error: No module named 'nowhere_at_all'"),
        (["handwritten.sub:f", "--at", "1"], "Error: No module named 'handwritten.sub'"),
        (["nowhere.py:f", "--at", "1"], "there is no file 'nowhere.py'"),
        (["a/nowhere:f", "--at", "1"], "'a/nowhere' is neither a module nor a file"),
        (["handwritten:limit", "--at", "1"], "handwritten:limit is no function, but 3.0"),
        (
            ["handwritten:wrong", "--at", "1"],
            "handwritten has no 'wrong_grad': name the gradient with --gradient, or say",
        ),
        (["handwritten:cubes"], "say where to check"),
        (["handwritten:cubes", "--at", "1", "--shape", "2"], "say where to check"),
        (["handwritten:cubes", "--at", "1,x"], "take numbers with commas between"),
        (["handwritten:cubes", "--at", "1,,2"], "take numbers with commas between"),
        (["handwritten:cubes", "--at", ""], "take numbers with commas between"),
        (["handwritten:cubes", "--at", "gone.npy"], "No such file or directory: 'gone.npy'"),
        (["handwritten:cubes", "--at", "1", "--rtol", "-1"], "rtol must be a number from 0 on"),
        (["handwritten:cubes", "--at", "1", "--workers", "0"], "workers must be"),
        (["--at", "1"], "belong to a FUNCTION"),
        (["--value-and-gradient"], "belong to a FUNCTION"),
        (
            ["handwritten:both", "--at", "1", "--value-and-gradient", "--gradient", "wrong"],
            "exclude each other",
        ),
        (
            ["handwritten:cubes", "--at", "1,2", "--value-and-gradient"],
            "with --value-and-gradient f must return (value, gradient), but",
        ),
        (
            ["handwritten:both", "--gradient", "cubes_grad", "--at", "1,2"],
            "--value-and-gradient takes a value and its gradient",
        ),
        (["handwritten:nothing", "--at", "1"], "f returned nothing: is a return missing?"),
        (["handwritten:Unmade.f", "--at", "1"], "Unmade must be made without arguments"),
        (["handwritten:Layer.none", "--at", "1"], "'Layer' has no 'none'"),
        (["handwritten:Layer.Inner.none", "--at", "1"], "'Layer.Inner' has no 'none'"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_asked_wrongly_says_what_to_do(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert " raised " not in result.stderr
    assert "Traceback" not in result.output


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


def test_an_interrupt_stays_one(module):
    result = run(f"{module}:interrupts", "--at", "1")
    assert "Aborted!" in result.stderr
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


def test_value_and_gradient_from_one_function(module):
    assert run(f"{module}:both", "--value-and-gradient", "--at", "1,2").exit_code == 0
    result = run(f"{module}:half", "--value-and-gradient", "--at", "1,2")
    assert result.exit_code == 1
    assert rows(result.output)["x"]["analytic"] == "24"


def test_jacobians(module):
    result = run(f"{module}:products", "--at", "2,3", "--mode", "full")
    assert result.exit_code == 0, result.output
    result = run(f"{module}:products", "--gradient", "products_wrong", "--at", "2,3")
    assert result.exit_code == 1
    assert rows(result.output)["x"]["place"] == "[1, 0]"


def test_tolerances_and_steps_are_handed_on(module, monkeypatch):
    asked = (f"{module}:cubes", "--gradient", "unlike", "--at", "1,2")
    # The gradient is off by 0.001 and by 0.004, by a three-thousandth of it.
    assert run(*asked).exit_code == 1
    assert run(*asked, "--rtol", "1e-3").exit_code == 0
    assert run(*asked, "--rtol", "1e-4").exit_code == 1
    assert run(*asked, "--atol", "0.005").exit_code == 0
    assert run(*asked, "--atol", "1e-4").exit_code == 1
    steps = []
    check = _check_gradient.check

    def listening(*args, **kwargs):
        steps.append(kwargs["step"])
        return check(*args, **kwargs)

    monkeypatch.setattr(_check_gradient, "check", listening)
    run(f"{module}:cubes", "--at", "1,2", "--step", "1e-4")
    run("--step", "1e-5", "--hidden", "", "--images", 1, "--mode", "directional")
    assert steps == [1e-4, 1e-5, 1e-5]


def test_x_from_a_file(module, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    result = run(f"{module}:cubes", "--at", "x.npy", "--gradient", "wrong")
    assert result.exit_code == 1
    assert rows(result.output)["x"]["place"] == "[0, 1]"
    np.save(tmp_path / "z.npy", np.array([1j]))
    result = run(f"{module}:cubes", "--at", "z.npy")
    assert result.exit_code == 2
    assert "z.npy must hold real numbers, but holds complex128" in result.stderr


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


def test_processes_find_what_cannot_be_pickled(module):
    result = process(f"{module}.py:sines", "--shape", 30, "--workers", 2)
    assert result.returncode == 0, result.stderr


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
    assert "A difference that small is what an eps in a logarithm makes" in text
    assert result.output.endswith("must know of it.\n")
