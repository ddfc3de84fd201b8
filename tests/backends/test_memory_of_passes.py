"""Passes write into memory at hand: none that is the caller's, another call's or a thread's."""

import itertools
import threading

import numpy as np
import pytest
from peaks import peak_of

import accelnn
from accelnn.backends import TrainingState, _engine
from accelnn.backends.numpy import NumpyBackend
from accelnn.formulas._table import ACTIVATIONS, LOSSES, RULES

SIZES = (6, 5, 7, 4)
SAMPLES, BATCH = 53, 10


class NoMemory(NumpyBackend):
    """NumPy whose engines make new arrays for all that they compute."""

    name = "no-memory"
    inferred = False

    def memory_for(self, shape, dtype):  # noqa: ARG002 - the signature of all
        return None


def _data(dtype="float32", *, labels=True):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(SAMPLES, SIZES[0])).astype(dtype)
    t = draw.integers(0, SIZES[-1], SAMPLES)
    return x, t if labels else np.eye(SIZES[-1], dtype=dtype)[t]


def _net(**options):
    return accelnn.MLP(SIZES, **{"rng": 0, "backend": "numpy", **options})


def _bits(arrays):
    return [np.asarray(array).tobytes() for array in arrays]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(("activation", "loss"), list(itertools.product(ACTIVATIONS, LOSSES)))
def test_calls_change_neither_arguments_nor_earlier_results(activation, loss, labels):
    net = _net(activation=activation, loss=loss)
    x, t = _data(labels=labels)
    doors = {
        "predict": lambda part: [net.predict(x[part])],
        "loss": lambda part: [net.loss(x[part], t[part])],
        "gradient": lambda part: net.gradient(x[part], t[part]).values(),
    }
    given = [x, t, net.flat]
    before = _bits(given)
    for door in doors.values():
        first, second = door(slice(0, 20)), door(slice(20, 40))
        kept = _bits(first)
        for other in doors.values():
            other(slice(0, 20))
        assert _bits(first) == kept
        assert _bits(given) == before
        for a, b in itertools.product([*first, *second], given):
            assert not np.shares_memory(a, b)
        for a, b in itertools.product(first, second):
            assert not np.shares_memory(a, b)


def _trained(backend, activation, optimizer, **options):
    net = _net(activation=activation, backend=backend)
    history = accelnn.fit(
        net, *_data(), optimizer=optimizer, batch_size=BATCH, epochs=3, rng=2, **options
    )
    return history.loss, net.flat.tobytes()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rule", RULES)
def test_memory_that_is_kept_changes_no_bit(activation, rule):
    """With a short last batch, whose memory is a part of that of the others."""
    optimizer = getattr(accelnn, rule)(0.01)
    assert _trained("numpy", activation, optimizer) == _trained(NoMemory, activation, optimizer)


def test_parameters_in_pieces(monkeypatch):
    optimizer = accelnn.Adam(0.01, weight_decay=0.1)
    whole = _trained("numpy", "tanh", optimizer)
    monkeypatch.setattr(_engine, "PIECE", 7)
    assert _trained("numpy", "tanh", optimizer) == whole


def test_callbacks_may_use_the_net_and_its_engine():
    def busy(net, _history):
        x, t = _data()
        net.gradient(x[:BATCH], t[:BATCH])
        net.predict(x)
        other = _net()
        assert other.engine is net.engine
        accelnn.fit(other, x, t, batch_size=BATCH, iters=3, rng=5)

    busy.every = 1
    optimizer = accelnn.Momentum(0.05)
    expected = _trained("numpy", "sigmoid", optimizer)
    assert _trained("numpy", "sigmoid", optimizer, callbacks=[busy]) == expected


def test_threads_share_an_engine():
    """Of two nets each, trained at once through one engine."""
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(4_000, 60)).astype(np.float32), draw.integers(0, 10, 4_000)
    nets = [accelnn.MLP([60, 50, 10], rng=seed, backend="numpy") for seed in range(4)]
    assert len({id(net.engine) for net in nets}) == 1

    def train(net, seed):
        accelnn.fit(net, x, t, batch_size=50, epochs=2, rng=seed)
        net.result = net.flat.tobytes(), _bits(net.gradient(x, t).values())

    expected = [net.to("numpy") for net in nets]
    for seed, net in enumerate(expected):
        train(net, seed)
    threads = [threading.Thread(target=train, args=(net, i)) for i, net in enumerate(nets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [net.result for net in nets] == [net.result for net in expected]


@pytest.mark.parametrize("wrong", [SAMPLES, -SAMPLES - 1])
def test_a_sample_that_there_is_not_is_an_error(wrong):
    net = _net()
    data = accelnn.prepare(*_data(), backend="numpy")
    state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", net.backend)
    with pytest.raises(IndexError):
        net.engine.train(state, data, np.array([0, 1, wrong]), 3)


def test_samples_counted_from_the_end():
    data, found = accelnn.prepare(*_data(), backend="numpy"), []
    for order in (np.arange(-20, 0), np.arange(SAMPLES - 20, SAMPLES)):
        net = _net()
        state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", net.backend)
        found.append(net.engine.train(state, data, order, BATCH).tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("rule", RULES)
def test_a_step_of_a_run_allocates_next_to_nothing(rule):
    net = accelnn.MLP([300, 200, 10], rng=0, backend="numpy")
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(1_000, 300)).astype(np.float32), draw.integers(0, 10, 1_000)
    data = net.backend.prepare(x, t, "float32", copy=False)
    optimizer = getattr(accelnn, rule)(0.01, weight_decay=0.0)
    state = TrainingState(net.flat, optimizer, "analytic", net.backend)
    order = draw.permutation(1_000)
    # A few arrays of (batch, outputs), where parameters take 248,840 bytes, and a batch 120,000.
    assert peak_of(lambda: net.engine.train(state, data, order, 100)) < 40_000


def test_a_batch_that_is_larger_than_the_data_takes_no_more_memory():
    net, (x, t) = _net(), _data()
    with_all = peak_of(lambda: accelnn.fit(net, x, t, batch_size=SAMPLES, iters=1, rng=0))
    assert peak_of(lambda: accelnn.fit(net, x, t, batch_size=10**9, iters=1, rng=0)) < 2 * with_all


def test_fit_takes_the_data_as_they_are():
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(20_000, 100)).astype(np.float32), draw.integers(0, 4, 20_000)
    net = accelnn.MLP([100, 5, 4], rng=0, backend="numpy")

    def train():
        accelnn.fit(net, x, t, epochs=1, rng=0)

    # Labels and the order are 8 bytes a sample, and a few arrays of a batch besides.
    assert peak_of(train) < x.nbytes / 4


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2]])
def test_data_of_another_layout_are_brought_to_rows_once(layout):
    x, t = _data()
    data = accelnn.prepare(layout(x), t, backend="numpy")
    assert data.x.flags.c_contiguous
    nets = [_net(), _net()]
    for net, samples in zip(nets, (x, layout(x)), strict=True):
        accelnn.fit(net, samples, t, epochs=1, rng=0)
    assert nets[0].flat.tobytes() == nets[1].flat.tobytes()
