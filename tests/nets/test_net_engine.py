"""The portable engine: structured differences, evaluation in pieces, losses of one's own."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

import accelnn
from accelnn.backends import _engine, _structured
from accelnn.formulas._table import ACTIVATIONS
from accelnn.losses import LOSSES


@pytest.fixture(scope="module")
def digits():
    (x, t), _ = accelnn.load_mnist(subset="5k")
    return x[::797][:5].astype(np.float64), t[::797][:5]


@pytest.fixture(scope="module")
def big_net():
    return accelnn.TwoLayerNet(784, 50, 10, weight_init_std=0.1, dtype="float64", rng=0)


@pytest.fixture
def small():
    net = accelnn.MLP([5, 4, 3], dtype="float64", rng=1)
    draw = np.random.default_rng(2)
    return net, draw.normal(size=(6, 5)), draw.integers(0, 3, 6)


def test_matches_backpropagation_on_digits(big_net, digits):
    numerical, gradient = big_net.numerical_gradient(*digits), big_net.gradient(*digits)
    for key, value in gradient.items():
        assert np.abs(value).max() > 1e-3
        np.testing.assert_allclose(numerical[key], value, rtol=0, atol=1e-7)
        assert (numerical[key] != value).any()


def test_a_large_step_is_visibly_no_derivative(big_net, digits):
    numerical, gradient = big_net.numerical_gradient(*digits, step=0.5), big_net.gradient(*digits)
    for key, value in gradient.items():
        assert np.abs(numerical[key] - value).max() > 1e-3 * np.abs(value).max()


def test_one_coordinate_of_the_large_net_by_hand(big_net, digits):
    x, t = digits
    pixel = int(np.argmax(x[0]))
    numerical = big_net.numerical_gradient(x, t, step=0.5)
    weights = big_net.params["W1"]
    original = weights[pixel, 7]
    losses = []
    for move in (0.5, -0.5):
        weights[pixel, 7] = original + move
        losses.append(big_net.loss(x, t))
    weights[pixel, 7] = original
    assert numerical["W1"][pixel, 7] == pytest.approx(losses[0] - losses[1], rel=1e-11)


@pytest.mark.parametrize("structured", [True, False])
def test_a_step_that_moves_nothing_is_refused(small, structured):
    net, x, t = small
    with pytest.raises(ValueError, match=r"step 1e-50 is too small.*smallest usable step"):
        net.numerical_gradient(x, t, step=1e-50, structured=structured)
    for step in (0.0, -1e-4, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="step must be positive and finite"):
            net.numerical_gradient(x, t, step=step, structured=structured)


@pytest.mark.parametrize("structured", [True, False])
def test_an_unknown_method_names_the_known_ones(small, structured):
    net, x, t = small
    with pytest.raises(ValueError, match=r"'cenral'; known .* 'central', 'forward', 'backward'"):
        net.numerical_gradient(x, t, method="cenral", structured=structured)


@pytest.mark.parametrize("structured", [True, False])
def test_parameters_are_as_before(small, structured):
    net, x, t = small
    before = net.flat.tobytes()
    net.numerical_gradient(x, t, structured=structured)
    assert net.flat.tobytes() == before


def test_a_float32_net_is_differentiated_in_float64(small):
    net, x, t = small
    x = x.astype(np.float32)
    single = accelnn.MLP([5, 4, 3], dtype="float32", rng=1)
    net.params.update(single.params)
    exact = net.gradient(x, t)
    for structured in (True, False):
        numerical = single.numerical_gradient(x, t, structured=structured)
        for key, value in exact.items():
            assert numerical[key].dtype == np.float64
            np.testing.assert_allclose(numerical[key], value, rtol=0, atol=2e-9)


def test_inputs_of_a_float32_net_keep_their_digits(small):
    net, x, _ = small
    t = np.random.default_rng(3).uniform(size=(6, 3))
    single = accelnn.MLP([5, 4, 3], dtype="float32", rng=1)
    net.params.update(single.params)
    expected = net.numerical_gradient(x, t)
    for key, value in single.numerical_gradient(x, t).items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("elements", [1, 20, 100])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pieces_do_not_change_the_difference(monkeypatch, activation, loss, elements):
    net = accelnn.MLP([5, 4, 6, 3], activation=activation, loss=loss, dtype="float64", rng=1)
    draw = np.random.default_rng(2)
    x, t = draw.normal(size=(4, 5)), draw.uniform(size=(4, 3))
    whole = net.numerical_gradient(x, t, step=0.1)
    monkeypatch.setattr(_structured, "CHUNK_ELEMENTS", elements)
    for key, value in net.numerical_gradient(x, t, step=0.1).items():
        np.testing.assert_allclose(value, whole[key], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("rows", [1, 7, 99, 100, 101])
def test_evaluation_in_pieces_equals_one_pass(monkeypatch, rows):
    net = accelnn.MLP([5, 4, 3], dtype="float64", rng=1)
    draw = np.random.default_rng(2)
    x, t = draw.normal(size=(100, 5)), draw.integers(0, 3, 100)
    data = accelnn.prepare(x, t, dtype="float64")
    expected = net.loss(x, t), float((net.predict(x).argmax(axis=1) == t).mean())
    monkeypatch.setattr(_engine, "EVALUATION_ROWS", rows)
    loss, accuracy = net.engine.evaluate(net.flat, data)
    assert loss == pytest.approx(expected[0], rel=1e-13)
    assert accuracy == net.accuracy(x, t) == expected[1]


def test_evaluation_of_more_rows_than_one_pass_takes():
    n = 2 * _engine.EVALUATION_ROWS + 123
    net = accelnn.MLP([4, 3], dtype="float64", rng=1)
    draw = np.random.default_rng(2)
    x, t = draw.normal(size=(n, 4)), draw.integers(0, 3, n)
    loss, accuracy = net.engine.evaluate(net.flat, accelnn.prepare(x, t, dtype="float64"))
    scores = x @ net.params["W1"]
    expected = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(n), t]
    assert loss == pytest.approx(expected.mean(), rel=1e-12)
    assert accuracy == (scores.argmax(axis=1) == t).mean()


@dataclass(frozen=True)
class LogCosh:
    """Σ log cosh(a - t), a loss that accelnn does not know."""

    name: str = "log_cosh"
    output: str = "tanh"
    classifies: bool = False

    def value(self, a, t, *, backend=None):  # noqa: ARG002 - the losses' signature
        return np.log(np.cosh(a - t)).sum(axis=-1)

    def grad(self, a, t, *, backend=None):  # noqa: ARG002
        return np.tanh(a - t)

    def delta(self, a, d, t, *, backend=None):  # noqa: ARG002
        return self.value(a + d, t) - self.value(a, t)


def test_a_loss_of_ones_own():
    net = accelnn.MLP([5, 4, 3], loss=LogCosh(), dtype="float64", rng=1)
    draw = np.random.default_rng(2)
    x, t = draw.normal(size=(6, 5)), draw.normal(size=(6, 3))
    hidden = 1 / (1 + np.exp(-(x @ net.params["W1"] + net.params["b1"])))
    a = hidden @ net.params["W2"] + net.params["b2"]
    np.testing.assert_allclose(net.predict(x), np.tanh(a), rtol=1e-12)
    assert net.loss(x, t) == pytest.approx(np.log(np.cosh(a - t)).sum() / 6, rel=1e-12)
    gradient, numerical = net.gradient(x, t), net.numerical_gradient(x, t)
    np.testing.assert_allclose(gradient["b2"], np.tanh(a - t).sum(axis=0) / 6, rtol=1e-12)
    for key, value in gradient.items():
        np.testing.assert_allclose(numerical[key], value, rtol=0, atol=1e-8)
    history = accelnn.fit(net, x, t, validation=(x, t), epochs=200, rng=0)
    assert history.test_loss[-1] < 0.7 * history.test_loss[0]
    assert history.test_accuracy == history.train_accuracy == []
    with pytest.raises(TypeError, match=r"accuracy is defined for classifiers.*'log_cosh'"):
        net.accuracy(x, t)


def test_one_engine_serves_all_nets_of_a_kind():
    first, second = accelnn.MLP([5, 4, 3], rng=0), accelnn.MLP([5, 4, 3], rng=1)
    assert first.engine is second.engine
    assert first.engine is not accelnn.MLP([5, 4, 3], dtype="float64").engine
    x = np.ones((1, 5))
    assert (first.predict(x) != second.predict(x)).all()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("numpy", "portable: each op of numpy by itself"),
        ("numba", r"compiled: all steps of a call in one loop, on \d+ threads?"),
    ],
)
def test_every_engine_says_how_it_computes(name, says):
    try:
        engine = accelnn.MLP([784, 50, 10], rng=0, backend=name).engine
    except accelnn.errors.BackendUnavailableError as error:
        pytest.skip(f"{name}: {error.reason}")
    assert re.fullmatch(says, engine.describe())
    assert re.fullmatch(says, engine.describe(10_000))
