"""Fused engines compute what the portable one computes on NumPy.

They sum in different orders, so that they differ by rounding alone: by a few units in the last
place of the largest number of an array, however they are composed. `ULPS` leaves room for sums of
other lengths than those of the machine on which this was written. A formula that is wrong in its
smallest term is wrong by thousands.
"""

import inspect
import itertools
from typing import NamedTuple

import numpy as np
import pytest

import accelnn
from accelnn.backends import ACTIVATIONS, Dataset, NetSpec, TrainingState
from accelnn.losses import LOSSES

ULPS = 64
DTYPES = ("float32", "float64")
FORMULAS = tuple(itertools.product(ACTIVATIONS, LOSSES))

# Non-zero inputs: fewer and more than the data set is stored apart for.
SPARSE, DENSE = 0.1, 0.7

# All but SGD divide by what they have seen, or keep it up. Where gradients are rounding noise, they
# would make steps of it; here no gradient is that small, unless it is zero in both engines. In 200
# steps of these sizes a parameter moves by 0.01 to 0.1.
OPTIMIZERS = (
    accelnn.SGD(0.005),
    accelnn.Momentum(0.001),
    accelnn.Nesterov(0.001, momentum=0.8),
    accelnn.AdaGrad(0.003),
    accelnn.RMSprop(0.0005, alpha=0.9),
    accelnn.Adam(0.001),
)


class Case(NamedTuple):
    """A net, and data for it: the last batch is a short one unless the batch is one sample."""

    sizes: tuple[int, ...]
    samples: int
    batch: int
    kind: str
    density: float


CASES = (
    Case((33, 3), 37, 7, "labels", SPARSE),
    Case((1, 2), 33, 1, "one-hot", DENSE),
    Case((31, 33, 2), 37, 7, "soft", SPARSE),
    Case((65, 1, 31, 3), 130, 100, "labels", SPARSE),
    Case((2, 65, 33, 31, 5), 37, 7, "soft", DENSE),
    Case((33, 31, 2, 65, 1), 130, 100, "soft", DENSE),
    Case((65, 33, 3), 130, 100, "one-hot", DENSE),
)


def _data(case, dtype):
    draw = np.random.default_rng(1)
    inputs, outputs = case.sizes[0], case.sizes[-1]
    x = draw.normal(size=(case.samples, inputs))
    x[draw.random(x.shape) > case.density] = 0.0
    labels = draw.integers(0, outputs, case.samples)
    t = {
        "labels": labels,
        "one-hot": np.eye(outputs, dtype=dtype)[labels],
        # Rows that sum to anything.
        "soft": draw.uniform(size=(case.samples, outputs)).astype(dtype),
    }[case.kind]
    return x.astype(dtype), t


def _biases(net):
    return [net.params[name] for name in net.params if name.startswith("b")]


def _nets(fused_backend, case, activation, loss, dtype):
    """Return the same net on both engines, its biases not zero."""
    draw = np.random.default_rng(2)
    options = {"activation": activation, "loss": loss, "dtype": dtype, "rng": 3}
    nets = [accelnn.MLP(case.sizes, **options, backend=b) for b in (fused_backend, "numpy")]
    for biases in zip(*map(_biases, nets), strict=True):
        _set(nets, biases, draw.normal(scale=0.3, size=biases[0].shape))
    return nets


def _set(nets, arrays, values):
    """Write the same values into an array of each net."""
    for net, array in zip(nets, arrays, strict=True):
        array[...] = net.backend.asarray(values, net.dtype)


def _on(net, *arrays):
    """Return arrays where the net is."""
    return [net.backend.asarray(a) for a in arrays]


def _host(x):
    return x if isinstance(x, np.ndarray) else accelnn.get_backend("cupy").to_numpy(x)


def _assert_close(actual, expected, noise=4.0):
    """Assert that arrays differ by rounding: of their largest number, and of others of size one."""
    actual = _host(actual)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    eps, largest = np.finfo(expected.dtype).eps, np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=eps * (ULPS * largest + noise))


def _assert_close_by_name(actual, expected, noise=4.0):
    assert list(actual) == list(expected)
    for name, values in expected.items():
        _assert_close(actual[name], values, noise)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_forward(fused_backend, activation, loss, dtype):
    for case in CASES:
        x, t = _data(case, dtype)
        fused, portable = _nets(fused_backend, case, activation, loss, dtype)
        assert type(fused.engine) is not type(portable.engine)
        _assert_close(fused.predict(*_on(fused, x)), portable.predict(x))
        scores = [net.engine.scores(net.flat, *_on(net, x)) for net in (fused, portable)]
        _assert_close(*scores)
        eps = float(np.finfo(dtype).eps)
        assert fused.loss(*_on(fused, x, t)) == pytest.approx(
            portable.loss(x, t), rel=8 * eps, abs=8 * eps
        )
        results = [
            net.engine.evaluate(net.flat, accelnn.prepare(x, t, backend=net.backend, dtype=dtype))
            for net in (fused, portable)
        ]
        assert results[0][0] == pytest.approx(results[1][0], rel=8 * eps, abs=8 * eps)
        assert results[0][1] == results[1][1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_gradient(fused_backend, activation, loss, dtype):
    for case in CASES:
        x, t = _data(case, dtype)
        fused, portable = _nets(fused_backend, case, activation, loss, dtype)
        _assert_close_by_name(fused.gradient(*_on(fused, x, t)), portable.gradient(x, t))


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_numerical_gradient(fused_backend, activation, loss, method):
    for case, step in itertools.product(CASES, (1e-4, 0.5)):
        x, t = _data(case._replace(samples=min(case.samples, 33)), "float64")
        nets = _nets(fused_backend, case, activation, loss, "float64")
        fused, portable = (
            net.numerical_gradient(*_on(net, x, t), method=method, step=step) for net in nets
        )
        # A move across the kink changes a relu by the distance to it, which is known to a unit in
        # the last place of one; the difference divides that by the step.
        noise = 4.0 + 0.1 / step if activation == "relu" else 4.0
        _assert_close_by_name(fused, portable, noise)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_many_steps(request, training_backend, activation, loss, dtype, optimizer):
    number = FORMULAS.index((activation, loss))
    # Kernels on the processor take their time.
    steps = 15 if "on cpu" in request.node.callspec.id else 200
    for case in (CASES[number], CASES[(number + 4) % len(CASES)]):
        x, t = _data(case, dtype)
        fused, portable = nets = _nets(training_backend, case, activation, loss, dtype)
        if (activation, dtype) == ("relu", "float32"):
            # A pre-activation within rounding of the kink, of which a run passes some, would give
            # one engine a slope and the other none: here the units stay on either side of it.
            for biases in list(zip(*map(_biases, nets), strict=True))[:-1]:
                _set(nets, biases, np.where(biases[1] > 0.0, 1.0, -1.0))
        start = portable.flat.copy()
        histories = [
            accelnn.fit(net, x, t, optimizer=optimizer, batch_size=case.batch, iters=steps, rng=4)
            for net in nets
        ]
        assert histories[0].steps == histories[1].steps == steps
        _assert_close(*(np.array(history.loss, dtype) for history in histories))
        _assert_close(fused.flat, portable.flat)
        assert np.abs(portable.flat - start).max() > 5e-6 * steps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_training_by_differences(fused_backend, activation, loss, dtype):
    case = CASES[2]
    x, t = _data(case, dtype)
    nets = _nets(fused_backend, case, activation, loss, dtype)
    histories = [
        accelnn.fit(net, x, t, batch_size=case.batch, iters=8, rng=4, gradient="numerical")
        for net in nets
    ]
    _assert_close(*(np.array(history.loss, dtype) for history in histories))
    _assert_close(*(net.flat for net in nets))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(33, 3), (31, 65, 33, 2)])
def test_nets_without_bias(training_backend, sizes, dtype):
    spec = NetSpec(sizes, "tanh", LOSSES["cross_entropy"], bias=False)
    case = Case(sizes, 37, 7, "soft", SPARSE)
    x, t = _data(case, dtype)
    start = np.random.default_rng(5).normal(scale=0.3, size=spec.size)
    found = []
    for b in (training_backend, accelnn.get_backend("numpy")):
        engine, double = b.engine(spec, dtype), b.engine(spec, "float64")
        params, *data = (b.asarray(a) for a in (start.astype(dtype), x, t))
        gradient = b.zeros(spec.size, dtype)
        loss = engine.loss_and_gradient(params, *data, gradient)
        wide = [b.xp.astype(a, b.xp.float64) for a in (params, *data)]
        numerical = double.numerical_gradient(*wide, method="central", step=1e-4)
        state = TrainingState(params, accelnn.Momentum(0.01), "analytic", b)
        losses = engine.train(state, Dataset(*data, b, dtype), np.arange(37), 7)
        losses = losses.astype(dtype)
        found.append((loss, gradient, numerical, losses, params, state.slots[0]))
        assert state.step == 6
    for fused, portable in zip(*found, strict=True):
        _assert_close(fused, portable)


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_goes_on_where_it_was(training_backend, dtype, monkeypatch):
    """Over calls of `train`, and over the pieces that one call may be cut into."""
    case, order = CASES[6], np.arange(130)
    x, t = _data(case, dtype)
    net, _ = _nets(training_backend, case, "tanh", "cross_entropy", dtype)
    data = accelnn.prepare(x, t, backend=training_backend, dtype=dtype)
    found = []
    for cuts, work in (((0, 130), None), ((0, 10, 20, 70, 130), None), ((0, 70, 130), 1)):
        if work is not None:
            monkeypatch.setattr(inspect.getmodule(net.engine), "CALL_WORK", work)
        state = TrainingState(net.flat.copy(), accelnn.Adam(0.01), "analytic", training_backend)
        losses = [
            net.engine.train(state, data, order[start:stop], 10)
            for start, stop in itertools.pairwise(cuts)
        ]
        assert state.step == 13
        found.append((np.concatenate(losses), state.params, *state.slots))
    for whole, *pieces in zip(*found, strict=True):
        for piece in pieces:
            np.testing.assert_array_equal(_host(whole), _host(piece))


def _engine_state(backend, optimizer, dtype="float64"):
    """Return the same engine and state on any backend."""
    net = accelnn.MLP([5, 4, 3], activation="tanh", dtype=dtype, rng=0, backend=backend)
    return net.engine, TrainingState(net.flat, optimizer, "analytic", backend)


def _trained(backend, calls):
    """Return all that calls of `train`, each with data, order and batch, leave behind."""
    backend = accelnn.get_backend(backend)
    engine, state = _engine_state(backend, accelnn.Adam(0.01))
    found = []
    for (x, t), order, batch in calls:
        data = accelnn.prepare(x, t, backend=backend, dtype="float64")
        found += [engine.train(state, data, order, batch), state.step]
        found += [_host(state.params).copy(), *(_host(slot).copy() for slot in state.slots)]
    return found


def _assert_all_close(found, wanted):
    for actual, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def _samples(seed=7):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(40, 5)), draw.integers(0, 3, 40)


def test_a_loss_that_is_not_finite_ends_a_call_before_its_update(training_backend):
    """Later batches have finite losses, and the next call trains on, with the same data."""
    x, t = _samples()
    found = []
    for backend in map(accelnn.get_backend, (training_backend, "numpy")):
        engine, state = _engine_state(backend, accelnn.Adam(0.01))
        broken = backend.asarray(np.where(np.arange(40)[:, None] == 13, np.nan, x))
        data = Dataset(broken, backend.asarray(t), backend, "float64")
        with np.errstate(invalid="ignore"):
            stopped = engine.train(state, data, np.arange(40), 4)
        assert len(stopped) == 4
        assert np.isnan(stopped[-1])
        assert state.step == 3
        reached = _host(state.params).copy(), _host(state.slots[1]).copy()
        losses = engine.train(state, data, np.delete(np.arange(40), 13), 4)
        assert state.step == 13
        found.append([stopped[:-1], *reached, losses, _host(state.params), _host(state.slots[1])])
    _assert_all_close(*found)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_orders_of_any_integer_type(training_backend, dtype):
    calls = [(_samples(), np.arange(40, dtype=dtype)[::-2], 3)]
    _assert_all_close(_trained(training_backend, calls), _trained("numpy", calls))


def test_other_data_and_batches_in_the_next_call(training_backend):
    calls = [
        (_samples(), np.arange(40), 3),
        (_samples(8), np.arange(40), 3),
        (_samples(8), np.arange(30), 7),
        (_samples(8), np.arange(40), 1_000_000_000),
        (_samples(8), np.arange(0), 3),
    ]
    _assert_all_close(_trained(training_backend, calls), _trained("numpy", calls))


def test_a_state_whose_parts_are_exchanged(training_backend):
    x, t = _samples()
    found = []
    for backend in map(accelnn.get_backend, (training_backend, "numpy")):
        engine, state = _engine_state(backend, accelnn.Momentum(0.1))
        data = accelnn.prepare(x, t, backend=backend, dtype="float64")
        losses = [engine.train(state, data, np.arange(40), 3)]
        state.optimizer = accelnn.Momentum(0.5, momentum=0.1)
        losses.append(engine.train(state, data, np.arange(40), 3))
        state.params = state.params * 0.5
        losses.append(engine.train(state, data, np.arange(40), 3))
        state.slots = [slot * 0.5 for slot in state.slots]
        losses.append(engine.train(state, data, np.arange(40), 3))
        found.append([*losses, _host(state.params), _host(state.slots[0])])
    _assert_all_close(*found)


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_many_samples_are_moved_in_pieces(fused_backend, kind, monkeypatch):
    case = CASES[6]._replace(kind=kind, samples=33)
    x, t = _data(case, "float64")
    net, _ = _nets(fused_backend, case, "tanh", "cross_entropy", "float64")
    whole = {k: _host(v) for k, v in net.numerical_gradient(*_on(net, x, t)).items()}
    for samples in (1, 10, 32):
        engine = inspect.getmodule(net.engine)
        if fused_backend.name == "numba":
            monkeypatch.setattr(engine, "DIFFERENCE_WORK", samples * net.size)
        else:
            monkeypatch.setattr(engine, "DIFFERENCE_UNITS", samples * sum(case.sizes[1:]))
        _assert_close_by_name(net.numerical_gradient(*_on(net, x, t)), whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_any_integer_type(fused_backend, dtype):
    case = CASES[0]
    x, labels = _data(case, dtype)
    fused, portable = _nets(fused_backend, case, "tanh", "cross_entropy", dtype)
    expected = portable.gradient(x, labels)
    for kind in (np.uint8, np.int8, np.int16, np.uint32, np.uint64, ">i4"):
        _assert_close_by_name(fused.gradient(*_on(fused, x, labels.astype(kind))), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeated_samples_in_a_batch(training_backend, dtype):
    case = CASES[0]
    x, t = _data(case, dtype)
    nets = _nets(training_backend, case, "tanh", "cross_entropy", dtype)
    histories = [
        accelnn.fit(net, x, t, batch_size=100, iters=5, sampling="replacement", rng=6)
        for net in nets
    ]
    _assert_close(*(np.array(history.loss, dtype) for history in histories))
    _assert_close(*(net.flat for net in nets))
