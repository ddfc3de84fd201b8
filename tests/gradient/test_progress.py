"""The progress bar of `numerical_gradient`."""

import os
import subprocess
import sys

import numpy as np
import pytest

import accelnn

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

PROGRAM = """
import time
import numpy as np
import accelnn

def f(x):
    time.sleep(0.02)
    return np.sum(x**2)

print(accelnn.numerical_gradient(f, np.ones(8), progress=True).round(6).tolist())
"""


def _read(fd):
    """Read a terminal to its end."""
    seen = b""
    while True:
        try:
            piece = os.read(fd, 4096)
        except OSError:
            return seen
        if not piece:
            return seen
        seen += piece


def test_a_bar_is_drawn_on_standard_error_and_nothing_on_standard_output():
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        bar = _read(ours).decode()
        output = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0, bar
    assert output == f"{[2.0] * 8}\n"
    assert "Numerical gradient" in bar
    assert "coordinates" in bar
    assert "8/8" in bar


@pytest.mark.parametrize("batched", [False, True])
def test_a_bar_changes_no_number(batched, capsys):
    def f(x):
        return np.sum(np.sin(x), axis=-1)

    x = np.linspace(0.0, 1.0, 5)
    options = {"batched": batched, "chunk_size": 2 if batched else None}
    np.testing.assert_array_equal(
        accelnn.numerical_gradient(f, x, progress=True, **options),
        accelnn.numerical_gradient(f, x, **options),
    )
    assert capsys.readouterr().out == ""
