"""What updates of fused engines may be given, and what they leave for the next call."""

import inspect
import itertools

import numpy as np
import pytest
from engine_cases import CASES, DTYPES, assert_agree, data_of, host, net_of, on

import accelnn
from accelnn.backends import TrainingState
from accelnn.formulas._dropout import Dropout

CASE = CASES[6]


def _trained(backend, move, rule, parts, dtype, t=None, *, loss="cross_entropy", activation="tanh"):
    """Return losses and parameters after calls of `train` with these orders and options."""
    net = net_of(backend, CASE, activation, loss, dtype, move)
    b, (x, usual) = net.backend, data_of(CASE, dtype)
    x, t = on(net, move(x), usual if t is None else t)
    data = accelnn.prepare(x, t, backend=b, dtype=dtype)
    state, losses = TrainingState(net.flat, rule, "analytic", b), []
    for order, batch, options in parts:
        losses.append(net.engine.train(state, data, order, batch, **options(b)))
    return np.concatenate(losses).astype(dtype), net.flat


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "huber"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_may_have_weights(training_backend, dtype, loss):
    """Some of zero; updates in two calls, with other weights in the second."""
    n, outputs = CASE.samples, CASE.sizes[-1]
    labels = (np.random.default_rng(4).random((n, outputs)) < 0.5).astype(dtype)
    draw, order = np.random.default_rng(3), np.arange(400) % n
    weights = [(draw.integers(0, 3, n) * draw.random(n)).astype(dtype) for _ in "12"]

    def run(backend, move):
        parts = [
            (part, 9, lambda b, own=own: {"weights": b.asarray(own)})
            for part, own in zip((order[:60], order[60:]), move(weights), strict=True)
        ]
        t = None if loss == "cross_entropy" else labels
        return _trained(backend, move, accelnn.Momentum(move(0.05)), parts, dtype, t, loss=loss)

    assert_agree(training_backend, run)


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdamW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_update_may_have_a_rate_of_its_own(training_backend, dtype, name):
    """Seventy of them, so that a graph is replayed and some are left; the first is zero."""
    order = np.arange(700) % CASE.samples

    def run(backend, move):
        rule = getattr(accelnn, name)(move(0.05), weight_decay=move(0.1))
        rates = move(np.linspace(0.0, 0.05, 70))
        parts = [
            (order[a:z], 10, lambda _, own=rates[a // 10 : z // 10]: {"rates": own})
            for a, z in ((0, 20), (20, 700))
        ]
        return _trained(backend, move, rule, parts, dtype)

    assert_agree(training_backend, run)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_call_that_stops_has_no_losses_of_the_one_before(training_backend, dtype):
    net = net_of(training_backend, CASE, "relu", "sum_squared_error", dtype)
    b, order = net.backend, np.arange(100)
    x, _ = data_of(CASE, dtype)
    x, t = on(net, x, np.ones((len(x), CASE.sizes[-1]), dtype))
    data = accelnn.prepare(x, t, backend=b, dtype=dtype)
    state = TrainingState(net.flat, accelnn.SGD(0.01), "analytic", b)
    assert np.isfinite(net.engine.train(state, data, order, 10, rates=np.full(10, 0.01))).all()
    with np.errstate(all="ignore"):
        found = net.engine.train(state, data, order, 10, rates=np.full(10, 1e100))
    assert 1 < len(found) < 10
    assert np.isfinite(found[:-1]).all()
    assert not np.isfinite(found[-1])
    assert state.step == 10 + len(found) - 1


@pytest.mark.parametrize("name", ["SGD", "Momentum", "AdamW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_may_be_clipped(training_backend, dtype, name):
    """Before weight decay; some of them, in two calls with different norms."""
    order = np.arange(700) % CASE.samples

    def run(backend, move):
        rule = getattr(accelnn, name)(move(0.05), weight_decay=move(0.1))
        parts = [
            (order[a:z], 10, lambda _, own=clip: {"clip": own})
            for a, z, clip in ((0, 90, move(2.1)), (90, 700, move(1.6)))
        ]
        return _trained(backend, move, rule, parts, dtype)

    assert_agree(training_backend, run)


@pytest.mark.parametrize("clip", [1e-3, 1.0, 1e30])
def test_a_norm_whose_square_overflows_moves_nothing(training_backend, clip):
    """As in torch. No square overflows, nor the sum of those that a kernel adds in float32."""
    x, t = np.zeros((1, 129), np.float32), np.full((1, 1), -3e9, np.float32)
    x[0, ::64] = 5e9
    net = accelnn.MLP([129, 1], loss="sum_squared_error", rng=0, backend=training_backend)
    b = net.backend
    net.flat[...] = 0.0
    gradient = host(net.gradient(b.asarray(x), b.asarray(t))["W1"])
    with np.errstate(over="ignore"):
        squares = gradient**2
        assert np.isfinite(squares).all()
        assert np.isinf(squares.sum())
    state = TrainingState(net.flat, accelnn.SGD(1.0), "analytic", b)
    data = accelnn.prepare(b.asarray(x), b.asarray(t), backend=b)
    with np.errstate(over="ignore"):
        net.engine.train(state, data, np.arange(1), 1, clip=clip)
    np.testing.assert_array_equal(host(net.flat), 0.0)


@pytest.mark.parametrize("first", [2**32 - 3, 2**32, 2**33 + 1])
def test_dropout_counts_updates_with_32_bits(training_backend, first):
    order = np.arange(60) % CASE.samples

    def run(backend, move):
        net = net_of(backend, CASE, "tanh", "cross_entropy", "float64", move)
        x, t = on(net, *data_of(CASE, "float64"))
        data = accelnn.prepare(x, t, backend=net.backend, dtype="float64")
        state = TrainingState(net.flat, accelnn.SGD(move(0.1)), "analytic", net.backend)
        state.step = first
        return net.engine.train(state, data, order, 10, dropout=Dropout(0.3, 7)), net.flat

    assert_agree(training_backend, run)


@pytest.mark.parametrize("clip", [None, 1.5])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_units_may_be_dropped(training_backend, dtype, activation, clip):
    """Where the slope comes from the value and where it does not; of samples with weights, too."""
    order, dropout = np.arange(700) % CASE.samples, Dropout(0.3, (5 << 40) + 7)
    weights = np.random.default_rng(3).random(CASE.samples).astype(dtype)

    def run(backend, move):
        options = {"dropout": dropout, "clip": clip and move(clip)}
        parts = [
            (order[a:z], 10, lambda b: options | {"weights": b.asarray(move(weights))})
            for a, z in ((0, 90), (90, 700))
        ]
        rule = accelnn.Momentum(move(0.05))
        return _trained(backend, move, rule, parts, dtype, activation=activation)

    assert_agree(training_backend, run)


@pytest.mark.parametrize("rule", [accelnn.RMSprop(0.01), accelnn.Adam(), accelnn.AdamW()], ids=repr)
def test_a_gradient_whose_square_overflows_counts_while_its_share_does_not(training_backend, rule):
    """Of g² only a hundredth or a thousandth is added, which must be multiplied first."""
    x, t = np.float32([[2e10, -2e10]]), np.float32([[0.0, 1.0, 2.0]])
    net = accelnn.MLP([2, 3], loss="sum_squared_error", rng=0, backend=training_backend)
    b, before = net.backend, host(net.flat).copy()
    gradient = host(net.gradient(b.asarray(x), b.asarray(t))["W1"])
    assert (np.abs(gradient) > np.sqrt(np.finfo(np.float32).max)).any()
    state = TrainingState(net.flat, rule, "analytic", b)
    data = accelnn.prepare(b.asarray(x), b.asarray(t), backend=b)
    net.engine.train(state, data, np.arange(1), 1)
    # A first step has the length lr, or of RMSprop ten times that, whatever the gradient.
    length = rule.lr / (0.1 if isinstance(rule, accelnn.RMSprop) else 1.0)
    moved = (host(net.flat) - before)[:6] + rule.lr * rule.weight_decay * before[:6]
    # Three roundings of a parameter, each by half an ulp, and some of the length.
    eps = float(np.finfo(np.float32).eps)
    atol = 1.5 * eps * float(np.abs(before).max()) + 8.0 * eps * length
    np.testing.assert_allclose(moved, -length * np.sign(gradient).ravel(), rtol=0.0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_goes_on_where_it_was(training_backend, dtype, monkeypatch):
    """Over calls of `train`, and over the pieces that one call may be cut into."""
    case, order = CASE, np.arange(130)
    x, t = data_of(case, dtype)
    net = net_of(training_backend, case, "tanh", "cross_entropy", dtype)
    data = accelnn.prepare(x, t, backend=training_backend, dtype=dtype)
    found = []
    for cuts, work in (((0, 130), None), ((0, 10, 20, 70, 130), None), ((0, 70, 130), 1)):
        if work is not None:
            module = inspect.getmodule(net.engine)
            (name,) = {"CALL_WORK", "SPARSE_WORK"}.intersection(vars(module))
            monkeypatch.setattr(module, name, work)
        state = TrainingState(net.flat.copy(), accelnn.Adam(0.01), "analytic", training_backend)
        losses = [
            net.engine.train(state, data, order[start:stop], 10)
            for start, stop in itertools.pairwise(cuts)
        ]
        assert state.step == 13
        found.append((np.concatenate(losses), state.params, *state.slots))
    for whole, *pieces in zip(*found, strict=True):
        for piece in pieces:
            np.testing.assert_array_equal(host(whole), host(piece))


@pytest.mark.parametrize(
    "rule",
    [
        accelnn.SGD(0.1),
        accelnn.Momentum(0.05),
        accelnn.Adam(0.01),
        accelnn.AdamW(accelnn.schedules.cosine(0.01, 40)),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_several_runs_of_an_epoch_are_one_to_the_bit(training_backend, rule):
    case = CASE
    x, t = data_of(case, "float32")
    whole, parts = (
        net_of(training_backend, case, "tanh", "cross_entropy", "float32") for _ in "12"
    )
    options = {"optimizer": rule, "batch_size": case.batch}
    at_once, history = accelnn.fit(whole, x, t, epochs=4, rng=1, **options), None
    losses = []
    for _ in range(4):
        seed = {} if history else {"rng": 1}
        history = accelnn.fit(parts, x, t, epochs=1, resume=history, **seed, **options)
        losses += history.loss
    assert losses == at_once.loss
    np.testing.assert_array_equal(host(parts.flat), host(whole.flat))
