"""A registry that each test leaves as it was, fresh interpreters, backends with fused engines."""

import importlib.util
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn.backends import _registry
from accelnn.errors import BackendUnavailableError
from accelnn.losses import LOSSES

# Modules that tests share, and the kernels of the CuPy backend on the CPU. Not this folder itself,
# in which ``import cupy`` would find the tests of that name.
sys.path.insert(0, str(Path(__file__).parent / "helpers"))
sys.path.insert(0, str(Path(__file__).parent / "cupy"))

from ways import ENGINES


@pytest.fixture(autouse=True)
def registry_as_it_was(monkeypatch):
    for name in ("_registered", "_announced", "_instances"):
        monkeypatch.setattr(_registry, name, dict(getattr(_registry, name)))


@pytest.fixture
def listed():
    """Return ``listed(name)``: the row of a backend, among those of whatever packages announce."""
    return lambda name: {row.name: row for row in accelnn.list_backends()}[name]


@pytest.fixture(scope="session", autouse=True)
def numba_for_all_tests():
    """Make the backend before any test has registries of its own, which would end with it."""
    with suppress(BackendUnavailableError):
        accelnn.get_backend("numba")


@pytest.fixture(scope="session")
def compiled(usable):
    """Return the Numba backend, or skip."""
    return usable("numba")


@pytest.fixture(params=[np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


@pytest.fixture
def lanes(dtype, compiled):
    """Return how many numbers of the dtype a vector of the compiled kernels has."""
    assert compiled.name == "numba"
    from accelnn.backends.numba.vectors import LANES

    return LANES[dtype]


@pytest.fixture
def always_fused(compiled, monkeypatch):
    """Let the fused engine use all its threads, also for what is too little for them."""
    assert compiled.name == "numba"
    from accelnn.backends.numba import engine, forms
    from accelnn.backends.numba.pace import Pace

    monkeypatch.setattr(engine, "THREAD_WORK", 1)
    monkeypatch.setattr(forms, "SHARED", 0)
    monkeypatch.setattr(Pace, "wants_team", lambda self, work: True)  # noqa: ARG005


@pytest.fixture(autouse=True)
def needed_compiler(request):
    """Skip, or with ``--require-cuda-compilers`` fail, where what a marker needs is missing."""
    missing = []
    if marker := request.node.get_closest_marker("nvrtc"):
        from machine_code import nvdisasm

        modules = {"cupy": "cupy-cuda13x", "nvidia.cu13": "nvidia-cuda-nvrtc"}
        missing += [package for module, package in modules.items() if not _is_installed(module)]
        if "nvdisasm" in marker.args and nvdisasm() is None:
            missing.append("nvidia-cuda-nvdisasm")
    if request.node.get_closest_marker("cuda_on_cpu") and shutil.which("g++") is None:
        missing.append("g++")
    if missing:
        reason = f"{' and '.join(missing)} not installed"
        require = request.config.getoption("--require-cuda-compilers")
        (pytest.fail if require else pytest.skip)(reason)


def _is_installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """Return a stand-in for CuPy, whose kernels are built once for all processes of a run."""
    from stand_in import StandIn

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return StandIn(folder / "stand-in")


@pytest.fixture
def cupy(stand_in, monkeypatch):
    """Let ``import cupy`` find the stand-in, with two devices that have everything."""
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    stand_in.forget()
    return stand_in


@pytest.fixture
def device(cupy):
    """Return a backend on the stand-in."""
    assert cupy.__version__ == "0"
    from accelnn.backends.cupy import CupyBackend

    return CupyBackend()


@pytest.fixture(
    params=[
        "numba",
        pytest.param("cupy on cpu", marks=pytest.mark.cuda_on_cpu),
        pytest.param("cupy", marks=pytest.mark.gpu),
    ]
)
def fused_backend(request):
    """Return a backend with a fused engine, which computes all that it can."""
    return _with_fused_engine(request, request.param)


@pytest.fixture(params=ENGINES)
def training_backend(request, monkeypatch):
    """Return a backend with a fused engine, and one of the engine's ways of training."""
    name, way = request.param
    backend = _with_fused_engine(request, name)
    if name != "numba":
        _choose(way, monkeypatch)
    return backend


def _with_fused_engine(request, name):
    if name == "numba":
        request.getfixturevalue("always_fused")
    if name == "cupy on cpu":
        # Without a second thread there is nothing to wait for, hundreds of launches long.
        request.getfixturevalue("cupy").grid = 1, 1
    return request.getfixturevalue("usable")(name.partition(" ")[0])


def _choose(way, monkeypatch):
    """Let the CuPy engine take one of its ways of training, whatever the size."""
    from accelnn.backends.cupy import engine, launch, training

    # So few that short runs replay them.
    monkeypatch.setattr(training, "CAPTURED", 4)
    monkeypatch.setattr(engine, "LARGE_NET", 1 << 60)
    monkeypatch.setattr(engine, "LARGE_BATCH", 0 if way == "products" else 1 << 60)
    for name in ("PRODUCTS", "PRODUCTS_NOT_TILES"):
        monkeypatch.setattr(engine, name, 0 if way == "products" else 1 << 60)
    for name in ("TILED", "TRAINED_IN_TILES"):
        monkeypatch.setattr(engine, name, 0 if way == "tiles" else 1 << 60)
    attributes = launch.device_attributes.__wrapped__

    def chosen(backend):
        found = attributes(backend) | {"CooperativeLaunch": int(way not in ("graph", "products"))}
        return found if way == "resident" else found | {"MaxSharedMemoryPerBlockOptin": 0}

    monkeypatch.setattr(engine, "device_attributes", chosen)


@pytest.fixture
def is_exhaustive(request):
    """Return whether every combination is wanted, however long that takes."""
    return request.config.getoption("--exhaustive")


@pytest.fixture
def on_device(usable):
    """Return the backend of a real CUDA device, or skip."""
    return usable("cupy")


@pytest.fixture
def python(tmp_path):
    """Return ``run(code, *folders, **environment)``: what a new interpreter prints.

    The folders come first on its import path, accelnn after them.
    """
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(code, *folders, **environment):
        root = Path(accelnn.__file__).parents[1]
        inherited = {k: v for k, v in os.environ.items() if k != "ACCELNN_BACKEND"}
        path = os.pathsep.join(map(str, [*folders, root]))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=inherited | {"PYTHONPATH": path} | environment,
            cwd=empty,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def exercise():
    """Return ``exercise(backend)``, which runs everything that computes, on small arrays."""
    return _exercise


def _exercise(b):
    draw = np.random.default_rng(0)
    x, labels, soft = draw.normal(size=(12, 4)), np.arange(12) % 3, draw.uniform(size=(12, 3))
    _call_functions(b, x, labels, soft)
    for activation in ("sigmoid", "relu", "tanh"):
        for loss in LOSSES:
            net = accelnn.MLP([4, 5, 4, 3], activation=activation, loss=loss, rng=0, backend=b)
            _use_net(net, x, labels, soft)
    for optimizer in ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"):
        rule = getattr(accelnn, optimizer)()
        accelnn.fit(accelnn.SimpleNet(4, 3, backend=b), x, labels, optimizer=rule, epochs=1)
    _differentiate(b)


def _call_functions(b, x, labels, soft):
    for op in ("sigmoid", "sigmoid_grad", "relu", "relu_grad", "tanh", "tanh_grad", "identity"):
        getattr(accelnn, op)(b.asarray(x), backend=b)
    for op in ("softmax", "log_softmax"):
        getattr(accelnn, op)(b.asarray([1, 2, 3]), backend=b)
    one_hot = b.asarray(labels[:, None] == np.arange(3))
    accelnn.sum_squared_error(b.asarray(soft), one_hot, backend=b)
    accelnn.cross_entropy_error(b.asarray(soft), b.asarray(labels), backend=b)


def _use_net(net, x, labels, soft):
    b = net.backend
    for t in (labels, soft):
        here = b.asarray(x), b.asarray(t)
        net.loss(*here)
        net.gradient(*here)
        net.numerical_gradient(*here)
        net.numerical_gradient(*here, step=3.0)
        net.numerical_gradient(*here, structured=False, method="forward")
        for gradient in ("analytic", "numerical"):
            accelnn.fit(
                net, x, t, validation=(x, t), epochs=1, batch_size=5, rng=1, gradient=gradient
            )
    net.predict(b.asarray(x[0]))
    net.params["W1"] *= 2.0
    net.params["b1"] = net.params["b1"] + 1.0
    net.to("numpy")


def _differentiate(b):
    def f(x):
        return b.xp.sum(x * x)

    def many(x):
        return b.xp.sum(x * x, axis=1)

    x = b.zeros(2, "float64")
    x[...] = b.asarray([1.0, 2.0])
    for method in ("central", "forward", "backward"):
        accelnn.numerical_gradient(f, x, method=method, backend=b)
        accelnn.numerical_gradient(many, x, method=method, batched=True, backend=b)
        accelnn.numerical_diff(b.tanh, x, method=method, backend=b)
    accelnn.numerical_gradient(f, b.asarray([1, 2]), backend=b)
    for mode in ("directional", "sampled", "full"):
        accelnn.check_gradient(f, lambda x: 2.0 * x, x, mode=mode, backend=b)
    accelnn.gradient_descent(f, x, step_num=3, full_output=True, backend=b)
