"""What the tests of the command line have in common."""

import sys
from pathlib import Path

import pytest

# The tests of one command share a module.
sys.path.insert(0, str(Path(__file__).parent))

from check_gradient_command import SOURCE


def pytest_addoption(parser):
    parser.addoption(
        "--commands",
        type=int,
        metavar="N",
        help="How many random commands are run, 200 by default.",
    )


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the folder at hand."""
    (tmp_path / "helper.py").write_text("three = 3.0\n")
    (tmp_path / "handwritten.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield "handwritten"
    for name in ("handwritten", "helper"):
        sys.modules.pop(name, None)
