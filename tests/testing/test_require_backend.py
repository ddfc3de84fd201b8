"""The option that turns the skip of a backend into a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

import accelnn

PROJECT = Path(__file__).parents[2]


def run_pytest(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    any(info.available for info in accelnn.list_backends() if info.name == "cupy"),
    reason="cupy can be used here, so there is no skip to turn into a failure",
)
def test_a_required_backend_that_cannot_be_used_fails():
    one = ["tests/testing/test_conformance.py", "-k", "TestCupy and synchronize"]
    assert run_pytest(*one).returncode == 0
    required = run_pytest(*one, "--require-backend", "cupy")
    assert required.returncode == 1
    assert "--require-backend cupy: " in required.stdout
    assert "1 error" in required.stdout


def test_a_required_backend_that_can_be_used_is_tested():
    one = ["tests/testing/test_conformance.py", "-k", "TestNumpy and synchronize"]
    done = run_pytest(*one, "--require-backend", "numpy")
    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_an_unknown_name_is_a_usage_error():
    done = run_pytest("tests/testing/test_conformance.py", "--require-backend", "nope")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "known backends are numpy, numba, cupy" in done.stderr
