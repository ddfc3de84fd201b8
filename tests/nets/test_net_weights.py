"""Loss, gradient and accuracy of weighted samples."""

import numpy as np
import pytest

import accelnn
from accelnn.testing._reference import ReferenceNet
from accelnn.testing._rounding import assert_equal_but_for_rounding

N = 17
LOSSES = {"cross_entropy": 3, "binary_cross_entropy": 2, "sum_squared_error": 2}


def data(loss):
    draw = np.random.default_rng(3)
    outputs = LOSSES[loss]
    t = draw.integers(0, outputs, N)
    if loss == "binary_cross_entropy":
        t = draw.integers(0, 2, (N, outputs)).astype(float)
    if loss == "sum_squared_error":
        t = draw.normal(size=(N, outputs))
    return draw.normal(size=(N, 4)), t, draw.uniform(0.0, 3.0, N) * (draw.random(N) < 0.8)


def new_net(loss, backend, dtype="float64"):
    return accelnn.MLP([4, 6, LOSSES[loss]], loss=loss, dtype=dtype, rng=1, backend=backend)


def each(net, method, x, t):
    """Return a method's result for each sample alone."""
    return [getattr(net, method)(x[i : i + 1], t[i : i + 1]) for i in range(N)]


@pytest.mark.parametrize("loss", LOSSES)
def test_they_are_weighted_sums_over_samples(backend, loss):
    x, t, weights = data(loss)
    net, alone = new_net(loss, backend), new_net(loss, "numpy")
    here = backend.asarray(x), backend.asarray(t)
    given = {"sample_weight": backend.asarray(weights)}
    found = [net.loss(*here, **given)]
    found += map(backend.to_numpy, net.gradient(*here, **given).values())

    def sums(move):
        w, moved = move(weights), alone.to("numpy")
        moved.params = {key: move(value) for key, value in alone.params.items()}
        gradients = each(moved, "gradient", move(x), t)
        return [
            w @ each(moved, "loss", move(x), t) / N,
            *(sum(map(np.multiply, w, (g[key] for g in gradients))) / N for key in net.params),
        ]

    assert_equal_but_for_rounding(found, sums)
    if loss != "sum_squared_error":
        hits = each(alone, "accuracy", x, t)
        accuracy = net.accuracy(*here, **given)
        assert_equal_but_for_rounding(
            [accuracy], lambda move: [move(weights) @ hits / move(weights).sum()]
        )


def test_the_gradient_is_that_of_the_reference():
    x, t, _ = data("cross_entropy")
    net = new_net("cross_entropy", "numpy")
    reference = ReferenceNet(net.params, "sigmoid", "cross_entropy")
    # A sample with weight 3 is as three of it.
    counts = np.arange(N) % 4
    repeated = np.repeat(np.arange(N), counts)
    expected = reference.gradient(x[repeated], np.eye(3)[t[repeated]])
    for key, value in net.gradient(x, t, sample_weight=counts).items():
        # Two means of as many terms of order 1, summed in other orders.
        near = len(repeated) * np.finfo(float).eps
        np.testing.assert_allclose(value * N / counts.sum(), expected[key], rtol=0, atol=near)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_one_change_rounding_alone(backend, dtype):
    x, t, _ = data("cross_entropy")
    net, eps = new_net("cross_entropy", backend, dtype), np.finfo(dtype).eps
    here, ones = (backend.asarray(x), backend.asarray(t)), backend.asarray(np.ones(N))
    # Terms of order 1, of which N are summed.
    near = {"rtol": 0, "atol": N * eps}
    for method in ("loss", "accuracy"):
        call = getattr(net, method)
        np.testing.assert_allclose(call(*here, sample_weight=ones), call(*here), **near)
    plain = net.gradient(*here)
    for key, value in net.gradient(*here, sample_weight=ones).items():
        assert value.dtype == plain[key].dtype
        np.testing.assert_allclose(*map(backend.to_numpy, (value, plain[key])), **near)


def test_one_sample():
    net = new_net("cross_entropy", "numpy")
    x, t, _ = data("cross_entropy")
    assert net.loss(x[0], t[0], sample_weight=[2.0]) == pytest.approx(2.0 * net.loss(x[0], t[0]))


def test_no_weight_at_all():
    net = new_net("cross_entropy", "numpy")
    x, t, _ = data("cross_entropy")
    zeros = np.zeros(N)
    assert net.loss(x, t, sample_weight=zeros) == 0.0
    assert not any(g.any() for g in net.gradient(x, t, sample_weight=zeros).values())
    with pytest.raises(ValueError, match="sample_weight is 0 for every sample"):
        net.accuracy(x, t, sample_weight=zeros)


@pytest.mark.parametrize("method", ["loss", "gradient", "accuracy"])
def test_wrong_weights(method):
    net = new_net("cross_entropy", "numpy", "float32")
    x, t, weights = data("cross_entropy")
    for wrong, message in (
        (weights[1:], rf"sample_weight has shape \(16,\); pass one weight for each of the {N}"),
        (weights - 1.0, "sample_weight must not be negative, and its least is -1"),
        (np.full(N, np.nan), "sample_weight"),
        (np.full(N, 1e300), "beyond the range of float32"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(net, method)(x, t, sample_weight=wrong)
    with pytest.raises(TypeError, match="sample_weight must hold real numbers"):
        getattr(net, method)(x, t, sample_weight=["a"] * N)
