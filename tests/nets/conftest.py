"""What the tests of nets have in common."""

import sys
from pathlib import Path

import pytest

from accelnn.testing import StrictBackend

# Random nets have a module of their own.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser):
    parser.addoption(
        "--nets", type=int, metavar="N", help="How many random nets are compared, 60 by default."
    )


@pytest.fixture(params=["numba", "strict"])
def other_backend(request, usable):
    """Return each backend but NumPy's that runs on the host, or skip where it is missing."""
    if request.param != "strict":
        return usable(request.param)
    pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return StrictBackend()
