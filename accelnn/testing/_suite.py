"""The conformance suite on the backends that pytest's options name."""

import pytest

from accelnn.testing import BackendConformance
from accelnn.testing.pytest_plugin import backends_named


class TestBackend(BackendConformance):
    """The suite, once per backend."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test on each backend."""
    metafunc.parametrize("b", backends_named(metafunc.config), indirect=True, scope="class")
