"""The plug-in as those have it who installed accelnn and pytest: in a folder of their own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import accelnn

PROJECT = Path(__file__).parents[2]
PROJECTS_OWN = """
def pytest_addoption(parser):
    parser.addoption("--backend")
    parser.addoption("--require-backend")
"""
UNRELATED = """
import sys

def test_nothing_is_imported(request):
    assert request.config.getoption("--backend") == "theirs"
    assert not {"accelnn", "numpy"} & set(sys.modules)
"""


@pytest.fixture
def run(tmp_path):
    """Return ``run(*arguments)``: pytest in an empty folder, with the plug-in installed."""
    points = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {module}" for name, module in points["pytest11"].items()]
    info = tmp_path / "site" / "as_installed-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: as-installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    folder = tmp_path / "theirs"
    folder.mkdir()

    def run(*arguments, **files):
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        # Where the package is there is the module beside it.
        path = [str(tmp_path / "site"), str(Path(accelnn.__file__).parents[1])]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


SUITE = ("--pyargs", "accelnn.testing", "-k", "owns_is_asked")


def test_the_suite_runs_on_the_backends_that_are_named(run):
    done = run(*SUITE, "--backend", "numpy", "--backend", "numba", "-vv")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("numpy", "numba"):
        test = f"test_owns_is_asked_of_the_class_about_anything[{name}] "
        assert f"_suite.py::TestBackend::{test}" in done.stdout


def test_the_suite_has_all_that_a_subclass_of_it_has(run):
    theirs = """
from accelnn.testing import BackendConformance

class TestBackend(BackendConformance):
    backend = "numpy"
"""
    collected = [
        run(*arguments, "--collect-only", test_theirs__py=theirs).stdout.splitlines()[-1].split()[0]
        for arguments in (["test_theirs.py"], ["--pyargs", "accelnn.testing", "--backend=numpy"])
    ]
    assert collected[0] == collected[1]
    assert int(collected[0]) > 500


def test_it_does_not_depend_on_how_a_project_names_its_tests(run):
    settings = "[pytest]\npython_files = check_*.py\n"
    done = run(*SUITE, "--backend", "numpy", pytest__ini=settings)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_processes_of_xdist_find_it_too(run):
    done = run(*SUITE, "--backend", "numpy", "-n", "2")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(
    any(info.available for info in accelnn.list_backends() if info.name == "cupy"),
    reason="cupy can be used here, so there is no skip to turn into a failure",
)
def test_a_backend_that_cannot_be_used_is_skipped_unless_it_is_required(run):
    done = run(*SUITE, "--backend", "cupy")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    done = run(*SUITE, "--require-backend", "cupy")
    assert done.returncode == 1
    assert "--require-backend cupy: " in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say which backend the suite of accelnn.testing runs on: --backend NAME"),
        (["--backend", "nope"], "--backend nope: known backends are numpy, numba, cupy"),
        (["--require-backend=nope"], "--require-backend nope: known backends are numpy, numba"),
    ],
)
def test_no_name_and_an_unknown_one_are_usage_errors(run, options, message):
    done = run(*SUITE, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr


def test_it_sleeps_in_runs_that_do_not_ask_for_it(run):
    files = {"conftest__py": PROJECTS_OWN, "test_unrelated__py": UNRELATED}
    done = run("-W", "error", "--backend", "theirs", **files)
    assert done.returncode == 0, done.stdout + done.stderr
