"""What is checked at a net's door is not checked again behind it."""

import sys
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn.backends import Engine

PACKAGE = str(Path(accelnn.__file__).parent)
# Calls of Python functions of accelnn. Every call takes about 0.1 µs, of the 100 µs that the
# gradient of a few samples takes.
MOST = {"predict": 18, "loss": 34, "accuracy": 48, "gradient": 41}


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    x = draw.random((100, 784), dtype=np.float32)
    return x, draw.integers(0, 10, 100)


def _calls(function):
    """Return the names of all functions of accelnn that are called."""
    called = []

    def note(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.append(frame.f_code.co_name)

    # What is computed once is there already.
    function()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return called


@pytest.mark.parametrize("name", MOST)
@pytest.mark.parametrize("one_hot", [False, True])
def test_few_calls(batch, name, one_hot):
    x, t = batch
    net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    targets = np.eye(10, dtype=np.float32)[t] if one_hot else t
    arguments = (x,) if name == "predict" else (x, targets)
    called = _calls(lambda: getattr(net, name)(*arguments))
    assert len(called) <= MOST[name]
    # Samples, and targets.
    assert called.count("as_array") == len(arguments)
    assert called.count("check_labels") == (name != "predict" and not one_hot)


@pytest.mark.parametrize("name", ["predict", "loss", "gradient"])
def test_samples_are_converted_once(batch, name, monkeypatch):
    x, t = batch
    net, cast = accelnn.TwoLayerNet(784, 50, 10, rng=0), []
    monkeypatch.setattr(np, "astype", _noting(cast, np.astype))
    getattr(net, name)(x.astype(np.float64), *(() if name == "predict" else (t,)))
    assert [shape for shape in cast if shape == x.shape] == [x.shape]


def _noting(shapes, function):
    def noted(x, *args, **options):
        shapes.append(x.shape)
        return function(x, *args, **options)

    return noted


def test_an_engine_with_a_gradient_of_its_own_is_asked_for_it(batch):
    """Engines of others have `loss_and_gradient` alone."""

    class Doubling(Engine):
        def loss_and_gradient(self, params, x, t, out):
            loss = super().loss_and_gradient(params, x, t, out)
            out *= 2
            return loss

    net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    expected = net.gradient(*batch)
    net.engine = Doubling(net.backend, net.spec, net.dtype)
    for key, value in net.gradient(*batch).items():
        np.testing.assert_array_equal(value, 2 * expected[key])


def test_a_loss_with_doors_of_its_own_is_asked_there(batch):
    """A class that extends a loss may change what is public of it, and only that."""

    class Halved(accelnn.losses.CrossEntropy):
        def grad(self, a, t, *, backend=None):
            return 0.5 * super().grad(a, t, backend=backend)

    net, plain = (
        accelnn.MLP([784, 5, 10], loss=loss, rng=0) for loss in (Halved(), "cross_entropy")
    )
    for key, value in plain.gradient(*batch).items():
        np.testing.assert_array_equal(net.gradient(*batch)[key], 0.5 * value)
    assert net.loss(*batch) == plain.loss(*batch)
