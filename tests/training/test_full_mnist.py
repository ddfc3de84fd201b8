"""The full MNIST: what the library exists for, at its real size."""

import os

import numpy as np
import pytest

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = [
    pytest.mark.mnist,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("ACCELNN_DATA_DIR"),
        reason="ACCELNN_DATA_DIR is not set: the full MNIST is not at hand",
    ),
]

BACKENDS = ("numpy", "numba")


@pytest.fixture(scope="module")
def mnist():
    return accelnn.load_mnist()


def train(
    mnist, backend, iters, *, dtype="float32", validate=False, move=lambda value: value, **options
):
    (x, t), test = mnist
    net = accelnn.TwoLayerNet(784, 50, 10, rng=0, dtype=dtype, backend=backend)
    net.flat[...] = move(net.flat)
    options = {"batch_size": 100, **options}
    history = accelnn.fit(
        net,
        move(x),
        t,
        validation=test if validate else None,
        optimizer=accelnn.SGD(0.1),
        iters=iters,
        rng=0,
        **options,
    )
    return net, history


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_thousand_iterations_reach_94_percent(mnist, backend):
    net, history = train(mnist, backend, 10_000, validate=True)
    assert history.steps == 10_000
    assert history.test_accuracy[-1] >= 0.94
    _, (x, t) = mnist
    assert history.test_accuracy[-1] == (net.predict(x).argmax(axis=1) == t).mean()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_draw_one_loss_curve(mnist, dtype):
    def run(backend, move=lambda value: value):
        history = train(mnist, backend, 500, dtype=dtype, move=move)[1]
        return [np.array(history.loss, dtype)]

    assert_equal_but_for_rounding(run("numba"), lambda move: run("numpy", move))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_bits(mnist, backend):
    first, second = (train(mnist, backend, 1_000) for _ in range(2))
    assert first[0].flat.tobytes() == second[0].flat.tobytes()
    assert first[1] == second[1]


def test_numerical_training_follows_the_analytic_curve(mnist):
    analytic, numerical = (
        train(mnist, "numpy", 20, dtype="float64", batch_size=10, gradient=gradient)[1].loss
        for gradient in ("analytic", "numerical")
    )
    np.testing.assert_allclose(numerical, analytic, rtol=1e-6)
    assert numerical != analytic, "a finite difference is no derivative"
