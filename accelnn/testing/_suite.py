"""The conformance suite on the backends that pytest was told to test."""

import pytest

from accelnn.testing import BackendConformance
from accelnn.testing.pytest_plugin import backends_named


class TestBackend(BackendConformance):
    """One run of the suite for each of them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test on each backend."""
    metafunc.parametrize("b", backends_named(metafunc.config), indirect=True, scope="class")
