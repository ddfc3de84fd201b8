"""Formulas with parameters that are not the default, in fused engines."""

import logging

import numpy as np
import pytest

import accelnn
from accelnn.backends import Engine
from accelnn.testing import assert_equal_but_for_rounding

NETS = {
    "leaky_relu": {"activation": accelnn.LeakyReLU(0.2), "loss": "cross_entropy"},
    "elu": {"activation": accelnn.ELU(0.5), "loss": "cross_entropy"},
    "huber": {"activation": "tanh", "loss": accelnn.Huber(0.4)},
    "elu and huber": {"activation": accelnn.ELU(1.5), "loss": accelnn.Huber(2.0)},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_fused_engines_agree_with_numpy(fused_backend, name, dtype):
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(60, 7)).astype(dtype), draw.integers(0, 3, 60)

    def run(backend, move):
        net = accelnn.MLP([7, 19, 6, 3], rng=1, dtype=dtype, backend=backend, **NETS[name])
        assert (type(net.engine) is Engine) == (backend == "numpy")
        b = net.backend
        net.flat[...] = b.asarray(move(np.array(b.to_numpy(net.flat))))
        here = b.asarray(move(x)), b.asarray(labels)
        outputs, gradient = net.predict(here[0]), net.gradient(*here)
        data = accelnn.prepare(*here, backend=b, dtype=dtype)
        losses = [net.loss(*here), net.engine.evaluate(net.flat, data)[0]]
        history = accelnn.fit(net, data, batch_size=7, epochs=3, rng=2)
        losses = np.array([*losses, *history.loss], dtype)
        return [losses, *map(b.to_numpy, (outputs, *gradient.values(), net.flat))]

    assert_equal_but_for_rounding(
        run(fused_backend, lambda value: value), lambda move: run("numpy", move)
    )


@pytest.mark.usefixtures("always_fused")
def test_layers_may_differ_in_a_parameter_alone():
    x, t = np.random.default_rng(0).normal(size=(2, 20, 4))
    activation = [accelnn.LeakyReLU(0.2), accelnn.LeakyReLU(), accelnn.LeakyReLU(-0.7)]
    losses = []
    for backend in ("numba", "numpy"):
        options = {"loss": accelnn.Huber(0.7), "dtype": "float64", "backend": backend}
        net = accelnn.MLP([4, 5, 6, 5, 4], activation=activation, rng=0, **options)
        losses.append(accelnn.fit(net, x, t, batch_size=10, epochs=2, rng=0).loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)


def test_no_other_parameter_waits_for_a_compiler(compiled, caplog):
    x, t = np.random.default_rng(0).normal(size=(2, 20, 4))

    def train(slope, alpha, threshold):
        activation = [accelnn.LeakyReLU(slope), accelnn.ELU(alpha)]
        loss = accelnn.Huber(threshold)
        net = accelnn.MLP([4, 5, 5, 4], activation=activation, loss=loss, rng=0, backend=compiled)
        accelnn.fit(net, x, t, validation=(x, t), epochs=1, rng=0)

    train(0.01, 1.0, 1.0)
    with caplog.at_level(logging.WARNING, "accelnn"):
        train(*np.random.default_rng().uniform(0.1, 2.0, 3).tolist())
    assert not caplog.messages


def test_a_class_that_extends_a_formula_may_compute_something_else(compiled):
    class Doubled(accelnn.LeakyReLU):
        """Not what the kernels have code for."""

        def _value(self, ops, x):
            return 2.0 * super()._value(ops, x)

    for backend in ("numpy", compiled):
        net = accelnn.MLP([2, 3, 2], activation=Doubled(), rng=0, backend=backend)
        assert type(net.engine) is Engine
