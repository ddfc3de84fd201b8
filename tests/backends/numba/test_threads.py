"""Results do not depend on how many threads compute them, nor on who else computes."""

import copy
import itertools
import os
import pickle
import threading

import numpy as np
import pytest

import accelnn
from accelnn._processors import most_threads
from accelnn.backends import NetSpec, TrainingState
from accelnn.formulas import _table
from accelnn.formulas._dropout import Dropout
from accelnn.losses import LOSSES
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused")

THREADS = (1, 2, 3, 5)
DTYPES = ("float32", "float64")
# Hidden layers of one, an odd number, and more panels than there are threads, on any processor.
SIZES = ((33, 3), (40, 7, 3), (40, 97, 3), (20, 161, 33, 170, 10))


@pytest.fixture
def teams(compiled):
    """Return a new backend for each number of threads, all with the same kernels."""
    return [type(compiled)(threads) for threads in THREADS]


def _data(inputs, outputs, dtype, density, n=101):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(n, inputs)).astype(dtype)
    x[draw.random(x.shape) > density] = 0.0
    return x, draw.integers(0, outputs, n)


def _everything(b, sizes, activation, loss, dtype, density):
    """Return the bits of all that an engine computes."""
    net = accelnn.MLP(sizes, activation=activation, loss=loss, dtype=dtype, rng=2, backend=b)
    x, t = _data(sizes[0], sizes[-1], dtype, density)
    data = accelnn.prepare(x, t, backend=b, dtype=dtype)
    found = [net.predict(x), net.engine.scores(net.flat, x), np.array(net.loss(x, t))]
    found += net.gradient(x, t).values()
    found += net.numerical_gradient(x[:9], t[:9]).values()
    found += net.numerical_gradient(x[:9], t[:9], step=0.5, method="forward").values()
    state = TrainingState(net.flat, accelnn.Adam(0.01), "analytic", b)
    order = np.random.default_rng(3).permutation(101)
    found += [net.engine.train(state, data, order, 17), net.flat, *state.slots]
    found += [np.array(net.engine.evaluate(net.flat, data), np.float64)]
    return [a.tobytes() for a in found]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes)))
def test_bits_are_the_same(teams, sizes, density, dtype):
    formulas = itertools.product(("sigmoid", "relu", "tanh"), LOSSES)
    for (activation, loss), _ in zip(formulas, range(6 if len(sizes) < 4 else 2), strict=False):
        alone, *others = (_everything(b, sizes, activation, loss, dtype, density) for b in teams)
        for together in others:
            assert together == alone


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes)))
def test_many_parameters_are_rearranged_by_all(teams, monkeypatch, sizes, bias, dtype):
    """Into zeros, where they are in the order of the kernels, and back."""
    monkeypatch.setattr("accelnn.backends.numba.engine.MANY_NUMBERS", 0)
    spec = NetSpec(sizes, "tanh", _table.LOSSES["cross_entropy"], bias=bias)
    params = np.random.default_rng(2).normal(size=spec.size).astype(dtype)
    found = set()
    for b in teams:
        engine, back = b.engine(spec, dtype), np.full_like(params, np.nan)
        packed = engine._net(params).params
        engine._unpack(packed, back)
        np.testing.assert_array_equal(back, params)
        assert np.count_nonzero(packed) == params.size
        found.add(packed.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_beyond_a_cache(teams, dtype):
    """Those of the next panel are prefetched."""
    from accelnn.backends.numba.kernels.forward import LARGE

    sizes, samples = (600, 900, 40, 7), 51
    x, t = _data(sizes[0], sizes[-1], dtype, 1.0, samples)

    def run(b, move=lambda value: value):
        net = accelnn.MLP(sizes, activation="relu", dtype=dtype, rng=2, backend=b)
        assert net.flat.nbytes > 64 * LARGE
        net.flat[...] = move(net.flat)
        data = move(x)
        found = [net.predict(data), *net.gradient(data, t).values()]
        accelnn.fit(net, data, t, batch_size=30, epochs=2, rng=0)
        return [*found, net.flat]

    alone, *others = map(run, teams)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert_equal_but_for_rounding(alone, lambda move: run("numpy", move))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes)))
@pytest.mark.parametrize(
    ("clip", "p", "seed"), [(0.05, 0.0, 0), (1e9, 0.3, 1), (0.3, 0.5, 0x9E3779B97F4A7C15)]
)
def test_clipping_and_dropout_give_the_same_bits(teams, sizes, density, dtype, clip, p, seed):
    """And the same numbers as on NumPy."""
    x, t = _data(sizes[0], sizes[-1], dtype, density)
    draw = np.random.default_rng(4)
    order, rates = draw.permutation(101), draw.uniform(0.01, 0.1, size=6)
    weights = draw.integers(0, 3, size=101).astype(dtype)

    def run(b, move=lambda value: value):
        net = accelnn.MLP(sizes, activation="tanh", dtype=dtype, rng=2, backend=b)
        net.flat[...] = move(net.flat)
        data = accelnn.prepare(move(x), t, backend=b, dtype=dtype)
        state = TrainingState(net.flat, accelnn.Adam(0.01), "analytic", net.backend)
        options = {"clip": clip, "dropout": Dropout(p, seed), "weights": weights, "rates": rates}
        return [net.engine.train(state, data, order, 17, **options).astype(dtype), net.flat]

    alone, *others = (run(b) for b in teams)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert_equal_but_for_rounding(alone, lambda move: run("numpy", move))


def _updates(b, updates, wrong=None):
    """Return what many small updates leave, of which one may have an infinite loss."""
    batch = 8
    net = accelnn.MLP([20, 16, 3], activation="relu", dtype="float64", rng=2, backend=b)
    x, t = _data(20, 3, "float64", 1.0, updates * batch)
    if wrong is not None:
        x[wrong * batch] = 1e308
    data = accelnn.prepare(x, t, backend=b, dtype="float64")
    state = TrainingState(net.flat, accelnn.Adam(0.001), "analytic", b)
    losses = net.engine.train(state, data, np.arange(len(x)), batch)
    return losses, [a.tobytes() for a in (losses, net.flat, *state.slots)]


def test_whether_the_team_or_one_thread_is_faster_changes_no_bits(teams):
    from accelnn.backends.numba.kernels.training import MANY

    for updates in (MANY - 1, MANY, 2 * MANY + 1):
        _, alone = _updates(teams[0], updates)
        for _ in range(5):
            for b in teams[1:]:
                assert _updates(b, updates)[1] == alone


def test_a_run_may_end_while_one_thread_is_on_trial(teams):
    from accelnn.backends.numba.kernels.training import MANY, TRIAL

    for wrong in (0, *range(TRIAL - 1, 4 * TRIAL)):
        losses, alone = _updates(teams[0], MANY, wrong)
        assert losses.size == wrong + 1
        assert not np.isfinite(losses[-1])
        for b in teams[1:]:
            assert _updates(b, MANY, wrong)[1] == alone


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_what_memory_held_before_does_not_matter(compiled, monkeypatch, density):
    """That of one call is not cleared."""
    from accelnn.backends.numba import memory

    x, t = _data(40, 3, "float32", density, 61)
    found = []
    for filling in (0.0, np.nan, np.inf, 1e-40):
        monkeypatch.setattr(
            memory,
            "aligned_empty",
            lambda size, dtype, filling=filling: np.full(size, filling, dtype),
        )
        net = accelnn.MLP([40, 97, 3], rng=2, backend=compiled)
        results = [net.predict(x), *net.gradient(x, t).values(), np.array(net.loss(x, t))]
        found.append([a.tobytes() for a in results])
    assert found[1:] == found[:1] * 3


def test_the_threads_are_there(teams):
    for b, threads in zip(teams, THREADS, strict=True):
        assert b.threads == threads
        _everything(b, SIZES[-1], "relu", "cross_entropy", "float32", 1.0)
        assert len(b.team._tasks) == threads - 1


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_longer_than_any_block(teams, dtype, density, monkeypatch):
    """More samples, inputs, units and outputs than are multiplied at a time, on NumPy too."""
    from accelnn.backends.numba import pieces
    from accelnn.backends.numba.kernels.backward import TOGETHER
    from accelnn.backends.numba.vectors import DEEP, LANES, rows_at_once

    monkeypatch.setattr(pieces, "TIMES", 100)
    lanes = LANES[np.dtype(dtype).type]
    samples = 2 * rows_at_once(lanes) + 5
    sizes = (DEEP + 3, (TOGETHER // samples + 1) * lanes + 1, DEEP + 1, DEEP + 2)
    x, t = _data(sizes[0], sizes[-1], dtype, density, samples)

    def run(b, move=lambda value: value):
        net = accelnn.MLP(sizes, activation="tanh", dtype=dtype, rng=2, backend=b)
        net.flat[...] = move(net.flat)
        data = accelnn.prepare(move(x), t, backend=b, dtype=dtype)
        state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", net.backend)
        losses = net.engine.train(state, data, np.arange(samples), samples)
        return losses.astype(dtype), net.flat, net.predict(data.x)

    alone, *others = (run(b) for b in teams)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert_equal_but_for_rounding(alone, lambda move: run("numpy", move))


@pytest.mark.parametrize("samples", [1, 3, 15, 16, 17, 47, 48, 49, 97])
def test_few_samples(teams, samples):
    found = []
    for b in teams:
        net = accelnn.MLP([20, 65, 3], rng=2, backend=b)
        x, t = _data(20, 3, "float32", 1.0, samples)
        results = [net.predict(x), *net.gradient(x, t).values(), np.array(net.loss(x, t))]
        results += net.numerical_gradient(x, t).values()
        accelnn.fit(net, x, t, epochs=2, rng=3, validation=(x, t))
        found.append([a.tobytes() for a in [*results, net.flat]])
    assert found[1:] == found[:1] * 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be taken away")
def test_more_threads_than_processors(python, compiled):
    """They mostly wait for each other, and a long call goes on in one thread."""
    assert compiled.name == "numba"
    code = """
import os
import numpy as np, accelnn
from accelnn.backends import TrainingState
from accelnn.formulas._dropout import Dropout

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
Backend = type(accelnn.get_backend("numba"))
order = np.random.default_rng(1).integers(0, 500, 50_000)
draw = np.random.default_rng(0)
x, t = draw.normal(size=(500, 100)).astype(np.float32), np.arange(500) % 10
for zeros in (0.0, 0.9):
    x[draw.random(x.shape) < zeros] = 0.0
    found = set()
    for threads in (1, 4):
        net = accelnn.MLP([100, 97, 150, 10], rng=0, backend=Backend(threads))
        data = accelnn.prepare(x, t, backend=net.backend)
        state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", net.backend)
        losses = net.engine.train(state, data, order, 50)
        gradient = net.numerical_gradient(x[:5], t[:5])["W1"]
        found.add((losses.tobytes(), net.flat.tobytes(), gradient.tobytes()))
    print(len(found))
"""
    assert python(code) == "1\n1"


def test_several_python_threads_train_at_once(compiled):
    many = type(compiled)(3)

    def train(seed):
        dtype = DTYPES[seed % 2]
        net = accelnn.MLP([40, 65, 7], dtype=dtype, rng=seed, backend=many)
        x, t = _data(40, 7, dtype, (0.1, 1.0)[seed // 2 % 2])
        history = accelnn.fit(
            net, x, t, epochs=20, batch_size=10, rng=seed, optimizer=accelnn.Adam(0.01)
        )
        gradient = net.numerical_gradient(x[:5], t[:5])
        return history.loss, net.flat.tobytes(), *(g.tobytes() for g in gradient.values())

    alone = [train(seed) for seed in range(6)]
    together, start = [None] * 6, threading.Barrier(6)

    def work(seed):
        start.wait()
        together[seed] = train(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert together == alone


def _through_pickle(net):
    return pickle.loads(pickle.dumps(net))  # noqa: S301 - made here


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, _through_pickle])
def test_a_trained_net_is_copied_and_goes_on_alike(compiled, clone):
    x, t = _data(40, 7, "float32", 0.1)
    net = accelnn.MLP([40, 65, 7], rng=0, backend=compiled)
    accelnn.fit(net, x, t, epochs=1, rng=0)
    other = clone(net)
    assert other.backend is compiled
    before = net.flat.copy()
    history = accelnn.fit(other, x, t, epochs=2, rng=1)
    np.testing.assert_array_equal(net.flat, before)
    assert history.loss == accelnn.fit(net, x, t, epochs=2, rng=1).loss
    np.testing.assert_array_equal(net.flat, other.flat)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, _through_pickle])
def test_a_backend_keeps_its_threads_wherever_it_goes(compiled, clone):
    own = type(compiled)(compiled.threads + 1)
    net = accelnn.MLP([40, 65, 7], rng=0, backend=own)
    x, t = _data(40, 7, "float32", 0.1)
    data = accelnn.prepare(x, t, backend=net.backend)
    assert data.backend is own
    same, other, packed = (clone(value) for value in (own, net, data))
    for backend in (same, other.backend, other.engine.backend, packed.backend):
        assert backend.threads == compiled.threads + 1
        assert backend.address == f"numba:{compiled.threads + 1}"
    losses = [
        accelnn.fit(clone(net), set_, epochs=1, rng=1).loss
        for set_ in (data, packed, clone(packed))
    ]
    losses += [accelnn.fit(net, packed, epochs=1, rng=1).loss]
    assert losses == [losses[0]] * 4


def test_data_are_as_good_for_any_number_of_threads(compiled):
    x, t = _data(40, 7, "float32", 0.1)
    own = type(compiled)(1)
    backends = [compiled, own, accelnn.get_backend("numba:1"), accelnn.get_backend("numba:2")]
    losses = []
    for prepares, trains in itertools.product(backends, repeat=2):
        data = accelnn.prepare(x, t, backend=prepares)
        net = accelnn.MLP([40, 65, 7], rng=0, backend=trains)
        losses.append(accelnn.fit(net, data, validation=data, epochs=1, rng=0).loss)
    assert losses == [losses[0]] * 16
    with pytest.raises(
        accelnn.errors.BackendMismatchError,
        match=r"prepared for 'numpy' in float32, and the net is on 'numba:1' in float32: call "
        r"prepare\(x, t, backend=net.backend, dtype='float32'\)",
    ):
        accelnn.fit(
            accelnn.MLP([40, 7], backend=own), accelnn.prepare(x, t, backend="numpy"), epochs=1
        )


def test_a_class_of_ones_own_keeps_its_threads_too(compiled):
    class Own(type(compiled)):
        name = "own"

    back = _through_pickle(type(compiled)(3))
    assert (type(back), back.threads) == (type(compiled), 3)
    (function, arguments) = Own(3).__reduce__()
    back = function(*arguments)
    assert (type(back), back.threads) == (Own, 3)


def test_far_too_many_threads_are_not_started(python, compiled, caplog):
    most = most_threads()
    assert type(compiled)(most).threads == most
    assert caplog.text == ""
    for make in (
        lambda: type(compiled)(most + 1),
        lambda: accelnn.get_backend(f"numba:{most + 1}"),
    ):
        many = make()
        assert (many.threads, many.address) == (most, f"numba:{most}")
        assert f"{most + 1:,} threads were asked for" in caplog.text
        caplog.clear()
    code = """
import accelnn
print(accelnn.get_backend("numba").threads)
"""
    assert python(code, NUMBA_NUM_THREADS="500") == "500"
    assert python(code, NUMBA_NUM_THREADS="100000") == str(most)


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2", True])
def test_the_number_of_threads_must_be_one(compiled, threads):
    with pytest.raises(ValueError, match="threads must be a positive integer or None, got"):
        type(compiled)(threads)


def test_differences_of_deep_nets_come_in_short_calls(compiled, monkeypatch):
    """A call cannot be interrupted: the longer a sample takes, the fewer there are in one."""
    calls = []
    kind = type(accelnn.MLP([3, 2], dtype="float64", backend=compiled).engine._differences)
    original = kind._gradient

    def counted(self, net, x, *rest):
        calls.append(len(x))
        return original(self, net, x, *rest)

    monkeypatch.setattr(kind, "_gradient", counted)
    draw = np.random.default_rng(0)
    found = {}
    for sizes, n in (([784, 50, 10], 400), ([784, 256, 128, 10], 20)):
        net = accelnn.MLP(sizes, rng=0, dtype="float64", backend=compiled)
        x, t = draw.normal(size=(n, 784)), draw.integers(0, 10, n)
        x[:, 3:] = 0.0
        gradient = net.numerical_gradient(x, t)
        found[len(sizes)], calls[:] = list(calls), []
        exact = net.gradient(x, t)
        for key, value in exact.items():
            np.testing.assert_allclose(gradient[key], value, rtol=0.0, atol=1e-9)
    assert found[3] == [359, 41]
    assert max(found[4]) < 10
