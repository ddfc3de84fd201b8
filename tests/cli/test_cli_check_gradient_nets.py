"""``accelnn check-gradient`` of nets."""

import re

import numpy as np
import pytest
from check_gradient_command import rows, run

from accelnn.backends._engine import Engine


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
        (("--hidden", "99999999999999999999999"), "'--hidden': 9{23} makes a net of more than"),
        (("--backend", "nope"), "unknown backend 'nope'; known backends are"),
        (("--data", "nofolder"), "neither '5k' nor 'mnist' nor a folder"),
        (("--rtol", "-1"), "'--rtol': -1.0 is not in the range x>=0"),
        (("--atol", "nan"), "'--atol': nan is not a finite number"),
        (("--step", "0"), "'--step': 0.0 is not in the range x>0"),
        (("--step", "inf"), "'--step': inf is not a finite number"),
        (("--workers", "2"), "need a FUNCTION"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr.strip().splitlines()[-1])
    assert "Traceback" not in result.output
