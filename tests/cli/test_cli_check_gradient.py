"""``accelnn check-gradient``: right is 0, wrong is 1 and says where."""

import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from accelnn.backends._engine import Engine
from accelnn.cli import app


def run(*arguments):
    return CliRunner().invoke(app, ["check-gradient", *map(str, arguments)])


def rows(output):
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return {
        cells[0]: cells[1:]
        for cells in ([cell.strip() for cell in line.strip("│").split("│")] for line in lines)
    }


def test_a_right_net_passes():
    result = run()
    assert result.exit_code == 0, result.output
    table = rows(result.output)
    assert list(table) == ["W1", "b1", "W2", "b2"]
    assert {cells[0] for cells in table.values()} == {"right"}
    assert [cells[-1] for cells in table.values()] == ["100", "50", "100", "10"]
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
    assert result.exit_code == 0, result.output
    assert list(rows(result.output)) == ["W1", "b1", "W2", "b2", "W3", "b3"]


def test_full_mode_compares_everything():
    result = run("--hidden", 2, "--images", 2, "--mode", "full")
    assert result.exit_code == 0
    compared = [cells[-1] for cells in rows(result.output).values()]
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
    assert {name: cells[0] for name, cells in table.items()} == {
        "W1": "right",
        "b1": "right",
        "W2": "right",
        "b2": "WRONG",
    }
    _, index, analytic, numerical, *_ = table["b2"]
    assert index == "[7]"
    assert float(analytic) == pytest.approx(1.01 * float(numerical), rel=1e-6)
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
    assert rows(result.output)["W1"][0] == "WRONG"


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--images", 0), "0 is not in the range", 2),
        (("--mode", "partial"), "'partial' is not one of", 2),
        (("--dtype", "float16"), "'float16' is not one of", 2),
        (("--backend", "nope"), "unknown backend 'nope'; known backends are", 1),
        (("--data", "nofolder"), "neither '5k' nor 'mnist' nor a folder", 1),
    ],
)
def test_mistakes_are_one_line(arguments, message, code):
    result = run(*arguments)
    assert result.exit_code == code
    assert re.search(message, result.stderr.strip().splitlines()[-1])
    assert "Traceback" not in result.output


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the folder at hand."""
    (tmp_path / "handwritten.py").write_text(
        "import numpy as np\n"
        "def cubes(x): return np.sum(x**3)\n"
        "def cubes_grad(x): return 3.0 * x**2\n"
        "def wrong(x): return 3.0 * x**2 + (np.arange(x.size) == 1).reshape(x.shape)\n"
        "def far_off(x): return np.float32(1e9) + np.sum(x**2)\n"
        "def far_off_grad(x): return 2 * x\n"
        "def divides(x): return 1.0 / (int(x[0]) - 1)\n"
        "def divides_grad(x): return x\n"
        "limit = 3.0\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "handwritten"
    sys.modules.pop("handwritten", None)


def test_a_function_and_its_gradient_from_a_module(module):
    result = run(f"{module}:cubes", "--at", "1,2.5,-3", "--mode", "full")
    assert result.exit_code == 0, result.output
    assert rows(result.output)["x"][0] == "right"
    assert rows(result.output)["x"][-1] == "3"
    result = run(f"{module}:cubes", "--shape", "4,5", "--mode", "full", "--backend", "numpy")
    assert rows(result.output)["x"][-1] == "20"


def test_a_wrong_gradient_is_found_and_placed(module):
    result = run(f"{module}:cubes", "--gradient", "wrong", "--at", "1,2.5,-3")
    assert result.exit_code == 1
    assert rows(result.output)["x"][:2] == ["WRONG", "[1]"]
    assert rows(result.output)["x"][2:4] == ["19.75", "18.75"]


def test_noise_that_hides_the_gradient_is_said(module):
    result = run(f"{module}:far_off", "--at", "1,2.5,-3", "--dtype", "float32")
    assert result.exit_code == 0
    assert rows(result.output)["x"][0] == "inconclusive"
    assert "Try --dtype float64" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["handwritten"], "FUNCTION must be MODULE:NAME, got 'handwritten'"),
        (["handwritten:none", "--at", "1"], "module 'handwritten' has no 'none'"),
        (["nowhere_at_all:f", "--at", "1"], "No module named 'nowhere_at_all'"),
        (["handwritten:limit", "--at", "1"], "module 'handwritten' has no 'limit_grad'"),
        (["handwritten:cubes"], "say where to check"),
        (["handwritten:cubes", "--at", "1", "--shape", "2"], "say where to check"),
        (["handwritten:cubes", "--at", "1,x"], "take numbers with commas between"),
        (["handwritten:cubes", "--at", "1,,2"], "take numbers with commas between"),
        (["handwritten:cubes", "--at", ""], "take numbers with commas between"),
        (["--at", "1"], "belong to a FUNCTION"),
        (["handwritten:divides", "--at", "1"], "division by zero ("),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_asked_wrongly_says_what_to_do(arguments, message):
    result = run(*arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
