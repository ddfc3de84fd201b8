"""What importing costs, and what it makes public."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import accelnn

HEAVY = (
    "numba", "cupy", "scipy", "matplotlib", "sklearn", "rich", "click", "pooch", "safetensors",
    "onnx", "pandas", "requests", "llvmlite", "array_api_strict", "pytest", "importlib.metadata",
    "asyncio", "multiprocessing", "concurrent.futures",
)  # fmt: skip
TRAIN = """
import numpy as np
(x, t), test = accelnn.load_mnist(subset="5k")
net = accelnn.MLP([784, 5, 10], rng=0)
accelnn.fit(net, x, t, validation=test, iters=3)
net.numerical_gradient(x[:2, :], t[:2])
accelnn.numerical_gradient(lambda x: np.sum(x**2), np.ones(2))
accelnn.check_gradient(lambda x: np.sum(x**2), lambda x: 2 * x, np.ones(2))
accelnn.gradient_descent(lambda x: np.sum(x**2), np.ones(2), step_num=3)
"""


def _python(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ACCELNN_")}
    environment["PYTHONPATH"] = str(Path(accelnn.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _public_classes_and_functions():
    for name in accelnn.__all__:
        value = getattr(accelnn, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value


@pytest.mark.parametrize(
    "after", ["", TRAIN, "from accelnn import *"], ids=["import", "training", "star"]
)
def test_nothing_heavy_is_imported(after):
    code = f"import accelnn, sys\n{after}\nprint(*[n for n in {HEAVY} if n in sys.modules])"
    assert _python("-c", code) == ""


def test_all_is_what_is_public():
    names = accelnn.__all__
    assert len(set(names)) == len(names)
    ours = {
        name
        for name, value in vars(accelnn).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("accelnn.")
    }
    on_first_use = set(accelnn._ON_FIRST_USE)
    assert set(names) - on_first_use == ours - on_first_use | {
        "activations",
        "errors",
        "losses",
        "optimizers",
        "__version__",
    }
    # These import pytest and scikit-learn, which a star import must not.
    assert on_first_use - {"testing", "estimator"} <= set(names)
    assert dir(accelnn) == sorted(names)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'accelnn' has no attribute 'nothing'"):
        _ = accelnn.nothing


def test_names_that_wake_on_first_use_are_the_ones_they_stand_for():
    code = """
import accelnn
from accelnn.nets._files import load
from accelnn.datasets import load_mnist, train_validation_split
import accelnn.datasets as datasets
print(accelnn.load is load, accelnn.load_mnist is load_mnist, accelnn.datasets is datasets,
      accelnn.train_validation_split is train_validation_split)
"""
    assert _python("-c", code) == "True True True True"


@pytest.mark.parametrize(
    "module",
    [
        "backends",
        "callbacks",
        "datasets",
        "errors",
        "gradient",
        "losses",
        "nets",
        "optimizers",
        "schedules",
    ],
)
def test_names_of_submodules_exist(module):
    exported = importlib.import_module(f"accelnn.{module}")
    for name in exported.__all__:
        assert hasattr(exported, name), name


def test_everything_public_is_documented():
    undocumented = []
    for name, value in _public_classes_and_functions():
        members = {name: value}
        if inspect.isclass(value):
            members |= {
                f"{name}.{member}": attribute
                for member, attribute in vars(value).items()
                if not member.startswith("_")
                and (inspect.isfunction(attribute) or isinstance(attribute, property))
            }
        undocumented += [n for n, member in members.items() if not inspect.getdoc(member)]
    assert undocumented == []


def test_every_parameter_of_a_public_function_is_documented():
    for name, value in _public_classes_and_functions():
        text = inspect.getdoc(value)
        if not inspect.isfunction(value) or "Parameters and errors are those of" in text:
            continue
        section = text.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
        lines = [line.partition(" : ")[0] for line in section.splitlines() if line[:1] != " "]
        documented = {parameter for line in lines for parameter in line.split(", ")}
        taken = set(inspect.signature(value).parameters)
        # One short line may say it all where there is nothing to look up.
        assert documented == taken or not section, (name, documented ^ taken)


def test_the_version_on_the_command_line():
    assert _python("-m", "accelnn", "--version") == f"accelnn, version {accelnn.__version__}"
    major, minor, *_ = accelnn.__version__.split(".")
    assert major.isdigit()
    assert minor.isdigit()


def test_the_testing_module_names_the_command_that_brings_pytest():
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pytest":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pytest" else find(name, *rest)
import accelnn
try:
    accelnn.testing
except accelnn.errors.MissingDependencyError as error:
    print(error)
"""
    assert "pip install 'accelnn[test]'" in _python("-c", code)
