"""Numbers that are not finite: compiled code shows them where NumPy does."""

import itertools

import numpy as np
import pytest

import accelnn
from accelnn.backends import TrainingState
from accelnn.errors import DivergenceWarning
from accelnn.losses import LOSSES
from accelnn.testing import assert_equal_but_for_rounding

DTYPES = ("float32", "float64")
SPECIAL = (np.nan, np.inf, -np.inf)
# A pixel that no sample has.
EMPTY = 2

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.usefixtures("always_fused"),
]


def _data(dtype):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(36, 5)).astype(dtype)
    x[draw.random(x.shape) > 0.3] = 0.0
    x[:, EMPTY] = 0.0
    return x, np.arange(36) % 3


def _nets(compiled, dtype, sizes=(5, 4, 3), **options):
    return [
        accelnn.MLP(sizes, dtype=dtype, rng=2, backend=b, **options) for b in (compiled, "numpy")
    ]


def _fit(net, *data, **options):
    """Fit a net that will diverge; return the losses."""
    with pytest.warns(DivergenceWarning):
        return np.array(accelnn.fit(net, *data, rng=3, **options).loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_under_a_pixel_that_is_always_zero(compiled, loss, value, dtype):
    x, t = _data(dtype)
    for sizes in ((5, 3), (5, 4, 3)):
        fused, portable = _nets(compiled, dtype, sizes, loss=loss, activation="relu")
        data = accelnn.prepare(x, t, backend=compiled, dtype=dtype)
        assert data.kernel_data.sparse
        for net in (fused, portable):
            net.params["W1"][EMPTY, 0] = value
        before = fused.flat.copy()
        for net, samples in ((fused, (x, t)), (fused, (data,)), (portable, (x, t))):
            assert np.isnan(net.loss(x, t))
            np.testing.assert_array_equal(_fit(net, *samples, epochs=3, batch_size=5), [np.nan])
            np.testing.assert_array_equal(net.flat, before)
        evaluated = fused.engine.evaluate(fused.flat, data)
        assert np.isnan(evaluated[0])
        assert evaluated[1] in (None, 0.0)
        np.testing.assert_allclose(fused.predict(x), portable.predict(x), rtol=1e-5, atol=1e-7)
        for name, expected in portable.gradient(x, t).items():
            np.testing.assert_allclose(fused.gradient(x, t)[name], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_any_parameter(compiled, activation, loss, dtype):
    x, t = _data(dtype)
    nets = _nets(compiled, dtype, loss=loss, activation=activation)
    clean = nets[0].flat.copy()
    for value, place in itertools.product(SPECIAL, range(clean.size)):
        for net in nets:
            net.flat[...] = clean
            net.flat[place] = value
        losses = [net.loss(x, t) for net in nets]
        assert np.isfinite(losses[0]) == np.isfinite(losses[1])
        if np.isfinite(losses[0]):
            assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        outputs = [net.predict(x) for net in nets]
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-7)
        gradients = [net.gradient(x, t) for net in nets]
        for name in gradients[0]:
            np.testing.assert_allclose(*(g[name] for g in gradients), rtol=1e-5, atol=1e-7)
        if loss == "cross_entropy":
            assert nets[0].accuracy(x, t) == nets[1].accuracy(x, t)


@pytest.mark.parametrize("value", SPECIAL)
def test_numerical_gradient(compiled, value):
    x, t = _data("float64")
    found = []
    for net in _nets(compiled, "float64"):
        net.params["W1"][EMPTY, 0] = value
        found.append(net.engine.numerical_gradient(net.flat, x, t, method="central", step=1e-4))
    assert np.isnan(found[0]).any()
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [1e3, 1e6, 1e12, 1e20])
@pytest.mark.parametrize("optimizer", [accelnn.SGD, accelnn.Momentum])
def test_training_stops_before_the_update(compiled, optimizer, rate, dtype):
    """Also where squares leave the range of float32, and not that of the double they add up to."""
    x = np.random.default_rng(1).normal(size=(300, 9)).astype(dtype)

    def run(net, move=lambda value: value):
        samples = move(x)
        data = accelnn.prepare(samples, samples[:, :2], backend=net.backend, dtype=dtype)
        rule = move(optimizer(rate))
        state = TrainingState(move(net.flat.copy()), rule, "analytic", net.backend)
        losses = net.engine.train(state, data, np.arange(300), 1)
        assert not np.isfinite(losses[-1])
        assert np.isfinite(state.params).all()
        assert state.step == losses.size - 1
        # Losses grow by decades: the first would be lost beside the last.
        return np.log(losses[:-1].astype(dtype)), state.params, *state.slots

    fused, portable = _nets(compiled, dtype, (9, 2), loss="sum_squared_error")
    assert_equal_but_for_rounding(run(fused), lambda move: run(portable, move))


@pytest.mark.parametrize("cuts", [(0, 40), (0, 10, 23, 40), range(41), (0, 20, 40)])
def test_a_weight_that_overflows_is_found_after_the_same_update(compiled, monkeypatch, cuts):
    """However many updates each call does; until then, no sample has its pixel."""
    draw = np.random.default_rng(1)
    x = np.zeros((400, 30), np.float32)
    x[np.arange(400), draw.integers(8, 30, 400)] = 1.0
    x[25] = 0.0
    x[25, 7] = 3e38
    net = accelnn.MLP((30, 2), dtype="float32", backend=compiled)
    net.flat[...] = 0.0
    monkeypatch.setattr("accelnn.backends.numba.engine.SPARSE_WORK", 20 * 10 * net.size)
    data = accelnn.prepare(x, draw.integers(0, 2, 400), backend=compiled, dtype="float32")
    assert data.kernel_data.sparse
    state = TrainingState(net.flat, accelnn.SGD(1000.0), "analytic", compiled)
    losses = [
        net.engine.train(state, data, np.arange(10 * start, 10 * stop), 10)
        for start, stop in itertools.pairwise(cuts)
        if state.step == start
    ]
    losses = np.concatenate(losses)
    assert len(losses) == 21
    assert np.isfinite(losses[:20]).all()
    assert state.step == 20
