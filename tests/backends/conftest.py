"""A registry that each test leaves as it was, fresh interpreters, Numba, a tour of the library."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn.backends import _registry
from accelnn.errors import BackendUnavailableError
from accelnn.losses import LOSSES


@pytest.fixture(autouse=True)
def registry_as_it_was(monkeypatch):
    for name in ("_registered", "_announced", "_instances"):
        monkeypatch.setattr(_registry, name, dict(getattr(_registry, name)))


@pytest.fixture(scope="session")
def compiled():
    """Return the Numba backend, or skip."""
    try:
        return accelnn.get_backend("numba")
    except BackendUnavailableError as error:
        pytest.skip(f"numba: {error.reason}")


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
    """Let the fused engine compute what it would leave to NumPy because the samples are few."""
    assert compiled.name == "numba"
    from accelnn.backends.numba import engine

    monkeypatch.setattr(engine, "FEW", 0)


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
