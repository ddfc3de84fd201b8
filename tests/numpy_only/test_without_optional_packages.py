"""Run where accelnn and NumPy are all there is: `.ci/run` makes such an environment.

What needs nothing else works, and everything else fails with the command that installs it.
"""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import accelnn
from accelnn import plotting
from accelnn.errors import BackendUnavailableError, MissingDependencyError

OPTIONAL = (
    "numba",
    "cupy",
    "matplotlib",
    "rich",
    "click",
    "pooch",
    "safetensors",
    "onnx",
    "scipy",
    "pandas",
    "sklearn",
)


@pytest.fixture
def history():
    curve = [0.1, 0.9]
    return accelnn.History(
        1, loss=[1.0], evaluated_at=[0, 1], train_accuracy=curve, test_accuracy=curve
    )


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    monkeypatch.delenv("ACCELNN_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_nothing_optional_is_installed():
    assert [name for name in OPTIONAL if importlib.util.find_spec(name)] == []


def test_training_on_the_shipped_digits_needs_numpy_alone():
    (x, t), test = accelnn.load_mnist(subset="5k")
    net = accelnn.TwoLayerNet(784, 50, 10, rng=0, backend="auto")
    assert net.backend.name == "numpy"
    history = accelnn.fit(net, x, t, validation=test, optimizer=accelnn.SGD(0.5), epochs=20, rng=0)
    assert history.test_accuracy[-1] > 0.92


def test_gradients_need_numpy_alone():
    net = accelnn.SimpleNet(dtype="float64", rng=0)
    x, t = np.array([0.6, 0.9]), np.array([0, 0, 1])
    numerical = accelnn.numerical_gradient(lambda _: net.loss(x, t), net.W)
    np.testing.assert_allclose(numerical, net.gradient(x, t)["W"], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "command"),
    [("numba", "pip install 'accelnn[numba]'"), ("cupy", "pip install 'accelnn[cuda")],
)
def test_backends_name_their_command(name, command):
    with pytest.raises(BackendUnavailableError) as raised:
        accelnn.get_backend(name)
    assert raised.value.reason == "not installed"
    assert command in str(raised.value)
    row = next(info for info in accelnn.list_backends() if info.name == name)
    assert not row.available
    assert command in row.reason


def test_plots_name_their_command(history):
    for draw in (
        lambda: plotting.plot_loss(history),
        lambda: plotting.plot_accuracy(history),
        lambda: plotting.plot_training(history),
        lambda: plotting.plot_tangent(np.square, 1.0),
        lambda: plotting.plot_surface(lambda x: x[0]),
        lambda: plotting.plot_gradient_field(lambda x: x[0]),
        lambda: plotting.plot_descent(lambda x: x[0], np.zeros((2, 2))),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[plot\]'"):
            draw()


def test_saving_and_loading_need_numpy_alone(tmp_path):
    net = accelnn.MLP([3, 2], rng=0)
    net.save(tmp_path / "net.safetensors")
    assert accelnn.load(tmp_path / "net.safetensors").flat.tobytes() == net.flat.tobytes()


def test_onnx_names_its_command(tmp_path):
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[onnx\]'"):
        accelnn.MLP([3, 2], rng=0).to_onnx(tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_tables_name_their_command_and_files_need_none(history, tmp_path):
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[pandas\]'"):
        history.to_pandas()
    log = accelnn.callbacks.CSVLog(tmp_path / "log.csv")
    x, t = np.eye(3), np.arange(3)
    net = accelnn.MLP([3, 3], rng=0)
    trained = accelnn.fit(net, x, t, validation=(x, t), epochs=2, callbacks=[log])
    trained.to_csv(tmp_path / "history.csv")
    assert log.path.read_text() == (tmp_path / "history.csv").read_text()


def test_estimators_name_their_command():
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[sklearn\]'"):
        _ = accelnn.estimator


@pytest.mark.usefixtures("no_data")
def test_the_download_names_its_command():
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[data\]'"):
        accelnn.load_mnist()


def test_progress_bars_name_their_command():
    net = accelnn.MLP([3, 2], rng=0)
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[cli\]'"):
        accelnn.fit(net, np.zeros((4, 3)), np.zeros(4, int), epochs=1, progress=True)
    with pytest.raises(MissingDependencyError, match=r"pip install 'accelnn\[cli\]'"):
        accelnn.numerical_gradient(np.sum, np.zeros(3), progress=True)


def test_the_command_line_names_its_command():
    run = subprocess.run(
        [sys.executable, "-m", "accelnn", "train"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "pip install 'accelnn[cli]'" in run.stderr
    assert "Traceback" not in run.stderr
