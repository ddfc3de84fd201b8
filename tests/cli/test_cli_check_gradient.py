"""``accelnn check-gradient`` of functions, and of what it is asked wrongly."""

import re

import pytest
from check_gradient_command import rows, run

from accelnn.cli import _check_gradient


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
        (["handwritten:limit", "--at", "1"], "handwritten:limit is not a function, but 3.0"),
        (
            ["handwritten:wrong", "--at", "1"],
            "handwritten has no 'wrong_grad': name the gradient with --gradient, or pass",
        ),
        (["handwritten:cubes"], "say where to check"),
        (["handwritten:cubes", "--at", "1", "--shape", "2"], "say where to check"),
        (["handwritten:cubes", "--at", "1,x"], "take comma-separated numbers"),
        (["handwritten:cubes", "--at", "1,,2"], "take comma-separated numbers"),
        (["handwritten:cubes", "--at", ""], "take comma-separated numbers"),
        (["handwritten:cubes", "--at", "gone.npy"], "No such file or directory: 'gone.npy'"),
        (
            ["handwritten:cubes", "--at", "1", "--rtol", "-1"],
            "'--rtol': -1.0 is not in the range x>=0",
        ),
        (["handwritten:cubes", "--at", "1", "--workers", "0"], "workers must be"),
        (["--at", "1"], "need a FUNCTION"),
        (["--value-and-gradient"], "need a FUNCTION"),
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
        (["handwritten:Unmade.f", "--at", "1"], "Unmade is instantiated without arguments"),
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
