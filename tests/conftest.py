"""Options and fixtures for all tests."""

import pytest

import accelnn
from accelnn.backends._registry import known_names


def pytest_addoption(parser):
    parser.addoption(
        "--require-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="Fail, instead of skipping, if this backend cannot be used; may be repeated.",
    )
    parser.addoption(
        "--require-cuda-compilers",
        action="store_true",
        help="Fail, instead of skipping, where the CUDA kernels cannot be compiled.",
    )


def pytest_configure(config):
    for name in config.getoption("--require-backend"):
        if name not in known_names():
            msg = f"--require-backend {name}: known backends are {', '.join(known_names())}"
            raise pytest.UsageError(msg)


@pytest.fixture(autouse=True)
def no_backend_chosen(monkeypatch):
    """Start every test with nothing chosen, and leave nothing chosen behind."""
    monkeypatch.delenv("ACCELNN_BACKEND", raising=False)
    accelnn.set_backend(None)
    yield
    accelnn.set_backend(None)
