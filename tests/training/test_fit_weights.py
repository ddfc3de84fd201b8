"""Weights of samples and clipped gradients in a training run."""

import numpy as np
import pytest

import accelnn
from accelnn.testing._reference import ReferenceNet, batches
from accelnn.testing._rounding import assert_equal_but_for_rounding

SIZES, N, BATCH = (6, 5, 3), 23, 5


def data():
    draw = np.random.default_rng(8)
    labels = draw.integers(0, 3, N)
    return draw.normal(size=(3, 6))[labels] * 2 + draw.normal(size=(N, 6)), labels


def new_net(backend="numpy", **options):
    return accelnn.MLP(SIZES, **{"rng": 5, "dtype": "float64", "backend": backend, **options})


def by_hand(net, steps, weights, clip, move):
    """Return the losses and the parameters of gradient descent around the reference net."""
    (x, labels), weights = data(), move(weights)
    x, rate = move(x), move(0.5)
    params = {key: move(value) for key, value in net.params.items()}
    reference = ReferenceNet(params, "sigmoid", "cross_entropy")
    losses = []
    for index in batches(N, BATCH, steps, 1, "shuffle"):
        total, sums = 0.0, {}
        for sample in index:
            one = x[sample : sample + 1], np.eye(3)[labels[sample : sample + 1]]
            share = weights[sample] / len(index)
            total += share * reference.loss(*one)
            for key, value in reference.gradient(*one).items():
                sums[key] = sums.get(key, 0.0) + share * value
        losses.append(total)
        norm = np.sqrt(sum((g**2).sum() for g in sums.values()))
        factor = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        for key, value in sums.items():
            reference.params[key] -= rate * factor * value
    return [losses, *reference.params.values()]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clip", [None, 0.3, 1e6])
def test_a_run_is_gradient_descent_with_them(backend, weighted, clip):
    weights = np.random.default_rng(2).uniform(0.0, 3.0, N) if weighted else np.ones(N)
    net = new_net(backend)
    history = accelnn.fit(
        net,
        *data(),
        iters=14,
        batch_size=BATCH,
        optimizer=accelnn.SGD(0.5),
        rng=1,
        sample_weight=backend.asarray(weights) if weighted else None,
        clip_norm=clip,
    )
    found = [history.loss, *map(backend.to_numpy, net.params.values())]
    assert_equal_but_for_rounding(found, lambda move: by_hand(new_net(), 14, weights, clip, move))


def test_weights_of_one_change_nothing():
    nets = [new_net(), new_net()]
    for net, weights in zip(nets, (None, [1] * N), strict=True):
        accelnn.fit(net, *data(), epochs=2, rng=1, batch_size=BATCH, sample_weight=weights)
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes()


def test_samples_without_weight_are_as_if_left_out():
    """A class of its own labels is never learned."""
    x, labels = data()
    net = new_net()
    accelnn.fit(net, x, labels, epochs=200, rng=1, sample_weight=labels != 2)
    assert set(np.argmax(net.predict(x), axis=1)) == {0, 1}


def test_evaluations_are_without_weights():
    x, labels = data()
    net = new_net()
    history = accelnn.fit(
        net, x, labels, epochs=1, validation=(x, labels), sample_weight=np.full(N, 7.0)
    )
    assert history.train_loss == history.test_loss
    # The same sum of N terms, in two orders.
    eps = np.finfo(float).eps
    assert history.train_loss[-1] == pytest.approx(net.loss(x, labels), rel=N * eps)


def test_weights_of_a_prepared_data_set():
    nets, (x, labels) = [new_net(), new_net()], data()
    weights = np.arange(N)
    accelnn.fit(nets[0], x, labels, epochs=1, rng=1, sample_weight=weights)
    ready = accelnn.prepare(x, labels, dtype="float64")
    accelnn.fit(nets[1], ready, epochs=1, rng=1, sample_weight=weights)
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes()


def test_numerical_gradients_are_weighted_and_clipped_too():
    nets = [new_net(), new_net()]
    options = {"iters": 6, "rng": 1, "sample_weight": np.arange(N) / 9.0, "clip_norm": 0.2}
    for net, kind in zip(nets, ("analytic", "numerical"), strict=True):
        accelnn.fit(net, *data(), gradient=kind, batch_size=BATCH, **options)
    # Truncation, of the order of the square of the step of 1e-4, in each of 6 updates.
    np.testing.assert_allclose(nets[1].flat, nets[0].flat, rtol=0, atol=6 * 1e-4**2)
    assert np.abs(nets[0].flat - new_net().flat).max() > 1e-3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(N - 1), rf"sample_weight has shape \(22,\); pass one weight for each of the {N}"),
        (np.ones((N, 1)), r"sample_weight has shape \(23, 1\)"),
        (1.0, r"sample_weight has shape \(\)"),
        (-np.ones(N), "sample_weight must not be negative, and its least is -1"),
        (np.full(N, np.nan), "sample_weight"),
        (np.full(N, np.inf), "sample_weight"),
    ],
)
def test_wrong_weights(weights, message):
    net = new_net()
    before = net.flat.tobytes()
    with pytest.raises(ValueError, match=message):
        accelnn.fit(net, *data(), epochs=1, sample_weight=weights)
    assert net.flat.tobytes() == before


def test_weights_beyond_the_range_of_the_net():
    with pytest.raises(ValueError, match="sample_weight holds numbers beyond the range of float32"):
        accelnn.fit(new_net(dtype="float32"), *data(), epochs=1, sample_weight=np.full(N, 1e300))


@pytest.mark.parametrize(
    ("clip", "error"),
    [(0.0, ValueError), (-1.0, ValueError), (np.inf, ValueError), ("1", TypeError)],
)
def test_wrong_norms(clip, error):
    with pytest.raises(error, match="clip_norm must be"):
        accelnn.fit(new_net(), *data(), epochs=1, clip_norm=clip)
