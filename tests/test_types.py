"""What a type checker tells users of their scripts."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import accelnn
from accelnn import _typing
from accelnn._differences import METHODS
from accelnn.backends import DIFFERENCES
from accelnn.formulas import _table
from accelnn.gradient import _options

SCRIPTS = Path(__file__).parent / "typing"
PACKAGE = Path(accelnn.__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the lines of each script that mypy has something to say about."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("mypy")
    # Of the package, its types alone are looked at: `mypy` itself checks it.
    settings = "[mypy]\nstrict = true\n[mypy-accelnn.*]\nfollow_imports = silent\n"
    (folder / "mypy.ini").write_text(settings, encoding="utf-8")
    scripts = [str(path) for path in sorted(SCRIPTS.glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", *scripts]
    # mypy finds what is installed by itself, and refuses to be told.
    is_installed = "site-packages" in PACKAGE.parts
    environment = {} if is_installed else {"MYPYPATH": str(PACKAGE.parent)}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    lines = {Path(script).name: {} for script in scripts}
    for name, line, message in re.findall(r"(\w+\.py):(\d+): error: (.*)", run.stdout):
        lines[name].setdefault(int(line), message)
    return lines


def test_mistakes_are_found_where_they_are(found):
    lines = (SCRIPTS / "mistakes.py").read_text(encoding="utf-8").splitlines()
    planted = {i for i, line in enumerate(lines, start=1) if "# mistake: " in line}
    assert len(planted) == 16
    assert found["mistakes.py"].keys() == planted


def test_a_right_script_has_no_errors(found):
    assert found["right.py"] == {}


def test_the_right_script_is_right(tmp_path):
    """What type checkers let pass does run."""
    command = [sys.executable, str(SCRIPTS / "right.py")]
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize(
    ("literal", "names"),
    [
        (_table.ActivationName, _table.ACTIVATIONS),
        (_table.LossName, _table.LOSSES),
        (_typing.MethodName, METHODS),
        (_typing.NetMethodName, DIFFERENCES),
    ],
)
def test_names_for_type_checkers_are_those_of_the_tables(literal, names):
    assert list(get_args(literal)) == list(names)


@pytest.mark.parametrize(
    ("door", "options", "own"),
    [
        ("numerical_gradient", _options.Options, set()),
        ("numerical_diff", _options.Steps, {"order"}),
        ("numerical_jacobian", _options.Options, {"sparsity"}),
        ("numerical_jvp", _options.Evaluation, {"step"}),
        ("numerical_hessian", _options.Options, {"diagonal"}),
    ],
)
def test_options_for_type_checkers_are_those_of_the_functions(door, options, own):
    parameters = inspect.signature(getattr(accelnn, door)).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords == options.__annotations__.keys() | own | {"full_output"}
