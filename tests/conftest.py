"""Options and fixtures for all tests."""

import os
import signal

import pytest

import accelnn
from accelnn._processors import usable_processors
from accelnn.backends import _registry
from accelnn.errors import BackendUnavailableError
from accelnn.testing import StrictBackend

pytest_plugins = ["accelnn.testing.pytest_plugin"]

# Each process compiles kernels for itself where none of the others has yet: more do not pay.
MOST_PROCESSES = 4


def pytest_addoption(parser):
    parser.addoption(
        "--require-cuda-compilers",
        action="store_true",
        help="Fail, instead of skipping, where the CUDA kernels cannot be compiled.",
    )
    parser.addoption(
        "--require-workers",
        action="store_true",
        help="Fail, instead of skipping, where Dask, joblib or MPI is missing.",
    )
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="Combine every engine, activation, loss, dtype and update rule, not only every two.",
    )


def pytest_configure(config):
    tests = config.getoption("numprocesses", None)
    if tests:
        # They inherit this, and load NumPy after it. As many threads of BLAS as processors in each
        # of them would wait for each other.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, usable_processors() // tests)))


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked `exhaustive` unless it is asked for."""
    if config.getoption("--exhaustive"):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    """Fail where a test leaves a method in an engine, which all nets of its kind share.

    Older releases of pytest put back into an object what `monkeypatch` found there, which is a
    bound method of the class; a patch of the class then has no effect in later tests.
    """
    result = yield
    engines = [e for backend in _registry._instances.values() for e in backend._engines.values()]
    left = [
        (engine, name)
        for engine in engines
        for name, value in vars(engine).items()
        if callable(value) and hasattr(type(engine), name)
    ]
    for engine, name in left:
        delattr(engine, name)
    assert not left, f"patch type(net.engine), not net.engine: {sorted({name for _, name in left})}"
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Say what ``-n auto`` is."""
    return min(MOST_PROCESSES, usable_processors())


@pytest.fixture(autouse=True)
def no_backend_chosen(monkeypatch):
    """Start every test with nothing chosen, and leave nothing chosen behind."""
    monkeypatch.delenv("ACCELNN_BACKEND", raising=False)
    # Examples in docstrings register theirs for as long as the process runs.
    monkeypatch.setattr(_registry, "_registered", {})
    accelnn.set_backend(None)
    yield
    accelnn.set_backend(None)


@pytest.fixture(scope="session")
def usable(request):
    """Return ``usable(name)``, which returns that backend, or skips."""

    def usable(name):
        try:
            return accelnn.get_backend(name)
        except BackendUnavailableError as error:
            if name in request.config.getoption("--require-backend"):
                pytest.fail(f"--require-backend {name}: {error}", pytrace=False)
            pytest.skip(f"{name}: {error.reason}")

    return usable


@pytest.fixture(params=["numpy", "numba", "strict"])
def backend(request, usable):
    """Return each backend that runs on the host, or skip where it is not installed."""
    if request.param != "strict":
        return usable(request.param)
    pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return StrictBackend()


@pytest.fixture
def listens_to_ctrl_c():
    """What a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
