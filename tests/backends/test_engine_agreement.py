"""Fused engines compute what the portable one computes on NumPy.

They sum in different orders, so that they differ by rounding alone: by a few times what one unit in
the last place of data and parameters makes of the portable engine's own results. A formula that is
wrong in its smallest term is wrong by thousands.
"""

import inspect
import itertools
from typing import NamedTuple

import numpy as np
import pytest
from ways import ENGINES

import accelnn
from accelnn.backends import Dataset, Engine, NetSpec, TrainingState
from accelnn.formulas import _table
from accelnn.testing import assert_equal_but_for_rounding

DTYPES = ("float32", "float64")
# What fused engines have code for.
ACTIVATIONS = pytest.importorskip("accelnn.backends.numba.kernels.activations").ACTIVATIONS
LOSSES = pytest.importorskip("accelnn.backends.numba.kernels.losses").LOSSES
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
    accelnn.AdamW(0.001, weight_decay=0.1),
    accelnn.Momentum(0.001, weight_decay=0.1, decay_biases=True),
    accelnn.RMSprop(0.0005, alpha=0.9, weight_decay=0.1),
)

METHODS = ("central", "forward", "backward")

RULE = accelnn.AdamW(0.01, weight_decay=0.1)


def _runs():
    """Yield an engine, an activation, a loss, a dtype and a rule; every two of them meet."""
    kinds = (enumerate(kind) for kind in (ACTIVATIONS, LOSSES, DTYPES, OPTIMIZERS))
    for engine, *kind in itertools.product(ENGINES, *kinds):
        (a, lo, d, r), (activation, loss, dtype, rule) = zip(*kind, strict=True)
        is_its_turn = lo == (a + r) % len(LOSSES) and d == ((a + r) // len(LOSSES) + a) % 2
        name = f"{engine.id}-{activation}-{loss}-{dtype}-{type(rule).__name__}"
        name += "-decay" * (rule.weight_decay > 0.0)
        marks = engine.marks if is_its_turn else (*engine.marks, pytest.mark.exhaustive)
        yield pytest.param(*engine.values, activation, loss, dtype, rule, marks=marks, id=name)


def _differences():
    """Yield an activation, a loss and a method; every two of them meet."""
    for (i, (activation, loss)), method in itertools.product(enumerate(FORMULAS), METHODS):
        is_its_turn = METHODS[(i + LOSSES.index(loss)) % len(METHODS)] == method
        marks = () if is_its_turn else pytest.mark.exhaustive
        yield pytest.param(activation, loss, method, marks=marks)


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


def _cases(loss):
    """Return the cases for a loss; of one output there is no softmax."""
    if loss != "cross_entropy":
        return CASES
    return [case._replace(sizes=(*case.sizes[:-1], max(2, case.sizes[-1]))) for case in CASES]


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


def _net(backend, case, activation, loss, dtype, move=None):
    """Return the same net on any backend, its biases not zero; its parameters may be moved."""
    options = {"activation": activation, "loss": loss, "dtype": dtype, "rng": 3}
    net = accelnn.MLP(case.sizes, **options, backend=backend)
    draw = np.random.default_rng(2)
    for bias in _biases(net):
        _set(net, bias, draw.normal(scale=0.3, size=bias.shape))
    if move is not None:
        _set(net, net.flat, move(_host(net.flat)))
    return net


def _set(net, array, values):
    array[...] = net.backend.asarray(values, net.dtype)


def _on(net, *arrays):
    """Return arrays where the net is."""
    return [net.backend.asarray(a) for a in arrays]


def _host(x):
    return x if isinstance(x, np.ndarray) else accelnn.get_backend("cupy").to_numpy(x)


def _assert_agree(backend, run, **options):
    """Assert that ``run(backend, move)`` gives on a backend what it gives on NumPy."""
    assert_equal_but_for_rounding(
        [_host(array) for array in run(backend, lambda value: value)],
        lambda move: run("numpy", move),
        **options,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_forward(fused_backend, activation, loss, dtype):
    for case in _cases(loss):
        data, accuracies = _data(case, dtype), []

        def run(backend, move, case=case, data=data, accuracies=accuracies):
            net = _net(backend, case, activation, loss, dtype, move)
            assert (type(net.engine) is Engine) == (backend == "numpy")
            x, t = _on(net, *map(move, data))
            prepared = accelnn.prepare(x, t, backend=net.backend, dtype=dtype)
            mean, accuracy = net.engine.evaluate(net.flat, prepared)
            accuracies.append(accuracy)
            losses = np.array([net.loss(x, t), mean], dtype)
            return net.predict(x), net.engine.scores(net.flat, x), losses

        _assert_agree(fused_backend, run)
        assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_labels_that_are_no_classes(training_backend, outputs, dtype):
    """Under binary cross entropy: of one output as integers, of several as rows of 0 and 1."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=(37, 5)).astype(dtype)
    t = draw.integers(0, 2, (37, outputs))
    t = t[:, 0] if outputs == 1 else t.astype(dtype)
    accuracies = []

    def run(backend, move):
        options = {"activation": "silu", "loss": "binary_cross_entropy", "dtype": dtype, "rng": 3}
        net = accelnn.MLP([5, 9, outputs], **options, backend=backend)
        _set(net, net.flat, move(_host(net.flat)))
        here = _on(net, move(x), t)
        gradient = _in_order(net, net.gradient(*here))
        numerical = _in_order(net, net.numerical_gradient(*here))
        history = accelnn.fit(
            net, move(x), t, validation=(x, t), batch_size=7, epochs=2, rng=4, optimizer=RULE
        )
        accuracies.append((net.accuracy(*here), history.test_accuracy))
        losses = np.array([net.loss(*here), *history.loss], dtype)
        return losses, net.flat, *gradient, *numerical

    _assert_agree(training_backend, run)
    assert accuracies[0] == accuracies[1]
    assert len(set(accuracies[0][1])) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_gradient(fused_backend, activation, loss, dtype):
    for case in _cases(loss):
        data = _data(case, dtype)

        def run(backend, move, case=case, data=data):
            net = _net(backend, case, activation, loss, dtype, move)
            return _in_order(net, net.gradient(*_on(net, *map(move, data))))

        # The errors of a huber loss are limited.
        equal = case.samples if loss == "huber" else 0
        _assert_agree(fused_backend, run, equal=equal)


def _in_order(net, gradient):
    """Return the gradient of each parameter."""
    assert list(gradient) == list(net.params)
    return gradient.values()


@pytest.mark.parametrize(("activation", "loss", "method"), list(_differences()))
def test_numerical_gradient(fused_backend, activation, loss, method, is_exhaustive):
    # The reference takes ten times as long for others, of the deepest nets.
    cases = _cases(loss) if activation in ACTIVATIONS[:3] else _cases(loss)[:4]
    for i, (case, step) in enumerate(itertools.product(cases, (1e-4, 0.5))):
        if not is_exhaustive and (i // 2 + METHODS.index(method)) % 2 != i % 2:
            continue
        data = _data(case._replace(samples=min(case.samples, 33)), "float64")

        def run(backend, move, case=case, step=step, data=data):
            net = _net(backend, case, activation, loss, "float64", move)
            data = _on(net, *map(move, data))
            return _in_order(net, net.numerical_gradient(*data, method=method, step=step))

        # With one output, some gradients are next to nothing.
        _assert_agree(fused_backend, run, terms=1.0)


@pytest.mark.parametrize(
    ("training_backend", "activation", "loss", "dtype", "optimizer"),
    list(_runs()),
    indirect=["training_backend"],
)
def test_many_steps(request, training_backend, activation, loss, dtype, optimizer):
    number = FORMULAS.index((activation, loss))
    # Kernels on the processor take their time.
    steps = 15 if "on cpu" in request.node.callspec.id else 200
    cases = _cases(loss)
    for case in (cases[number % len(cases)], cases[(number + 4) % len(cases)]):
        data = _data(case, dtype)

        def run(backend, move, case=case, data=data):
            net = _net(backend, case, activation, loss, dtype)
            if activation in ("relu", "leaky_relu") and dtype == "float32":
                # A pre-activation within rounding of the kink, of which a run passes some, would
                # give one engine a slope and the other none: here the units stay on either side.
                for bias in _biases(net)[:-1]:
                    _set(net, bias, np.where(_host(bias) > 0.0, 1.0, -1.0))
            start = _host(net.flat).copy()
            _set(net, net.flat, move(start))
            history = accelnn.fit(
                net,
                *map(move, data),
                optimizer=move(optimizer),
                batch_size=case.batch,
                iters=steps,
                rng=4,
            )
            assert history.steps == steps
            assert np.abs(_host(net.flat) - start).max() > 5e-6 * steps
            return np.array(history.loss, dtype), net.flat

        _assert_agree(training_backend, run)


def _assert_training_agrees(backend, case, dtype, formulas=("tanh", "cross_entropy"), **options):
    """Assert that losses and parameters agree after a run of `fit`."""
    data = _data(case, dtype)

    def run(backend, move):
        net = _net(backend, case, *formulas, dtype, move)
        history = accelnn.fit(net, *map(move, data), **options)
        return np.array(history.loss, dtype), net.flat

    _assert_agree(backend, run)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_training_by_differences(fused_backend, activation, loss, dtype):
    case, formulas = CASES[2], (activation, loss)
    options = {"batch_size": case.batch, "iters": 8, "rng": 4, "gradient": "numerical"}
    _assert_training_agrees(fused_backend, case, dtype, formulas, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(33, 3), (31, 65, 33, 2)])
def test_nets_without_bias(training_backend, sizes, dtype):
    spec = NetSpec(sizes, "tanh", _table.LOSSES["cross_entropy"], bias=False)
    data = _data(Case(sizes, 37, 7, "soft", SPARSE), dtype)
    start = np.random.default_rng(5).normal(scale=0.3, size=spec.size).astype(dtype)

    def run(backend, move):
        b = accelnn.get_backend(backend)
        engine, double = b.engine(spec, dtype), b.engine(spec, "float64")
        params, *x_t = (b.asarray(move(a)) for a in (start, *data))
        gradient = b.zeros(spec.size, dtype)
        loss = engine.loss_and_gradient(params, *x_t, gradient)
        wide = [b.xp.astype(a, b.xp.float64) for a in (params, *x_t)]
        numerical = double.numerical_gradient(*wide, method="central", step=1e-4)
        state = TrainingState(params, move(accelnn.Momentum(0.01)), "analytic", b)
        losses = engine.train(state, Dataset(*x_t, b, dtype), np.arange(37), 7)
        assert state.step == 6
        losses = np.array([float(loss), *losses], dtype)
        return gradient, numerical, losses, params, state.slots[0]

    _assert_agree(training_backend, run)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "huber"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_may_have_weights(training_backend, dtype, loss):
    """Some of zero; updates in two calls, with other weights in the second."""
    case = CASES[6]
    x, t = _data(case, dtype)
    if loss != "cross_entropy":
        t = (np.random.default_rng(4).random((len(x), case.sizes[-1])) < 0.5).astype(dtype)
    start = _net("numpy", case, "tanh", loss, dtype).flat.copy()
    draw = np.random.default_rng(3)
    weights = [(draw.integers(0, 3, len(x)) * draw.random(len(x))).astype(dtype) for _ in "12"]

    def run(backend, move):
        net = _net(backend, case, "tanh", loss, dtype)
        b = net.backend
        net.flat[...] = b.asarray(move(start))
        data = accelnn.prepare(b.asarray(move(x)), b.asarray(t), backend=b, dtype=dtype)
        state = TrainingState(net.flat, accelnn.Momentum(move(0.05)), "analytic", b)
        order, losses = np.arange(400) % len(x), []
        for part, own in zip((order[:60], order[60:]), move(weights), strict=True):
            losses.append(net.engine.train(state, data, part, 9, weights=b.asarray(own)))
        return np.concatenate(losses).astype(dtype), net.flat

    _assert_agree(training_backend, run)


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdamW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_update_may_have_a_rate_of_its_own(training_backend, dtype, name):
    """Seventy of them, so that a graph is replayed and some are left; the first is zero."""
    case = CASES[6]
    x, t = _data(case, dtype)
    start = _net("numpy", case, "tanh", "cross_entropy", dtype).flat.copy()

    def run(backend, move):
        net = _net(backend, case, "tanh", "cross_entropy", dtype)
        b = net.backend
        net.flat[...] = b.asarray(move(start))
        data = accelnn.prepare(b.asarray(move(x)), b.asarray(t), backend=b, dtype=dtype)
        rule = getattr(accelnn, name)(move(0.05), weight_decay=move(0.1))
        state, order = TrainingState(net.flat, rule, "analytic", b), np.arange(700) % len(x)
        rates = move(np.linspace(0.0, 0.05, 70))
        losses = [
            net.engine.train(state, data, order[a:z], 10, rates=rates[a // 10 : z // 10])
            for a, z in ((0, 20), (20, 700))
        ]
        return np.concatenate(losses).astype(dtype), net.flat

    _assert_agree(training_backend, run)


@pytest.mark.parametrize("rule", [accelnn.RMSprop(0.01), accelnn.Adam(), accelnn.AdamW()], ids=repr)
def test_a_gradient_whose_square_overflows_counts_while_its_share_does_not(training_backend, rule):
    """Of g² only a hundredth or a thousandth is added, which must be multiplied first."""
    x, t = np.float32([[2e10, -2e10]]), np.float32([[0.0, 1.0, 2.0]])
    net = accelnn.MLP([2, 3], loss="sum_squared_error", rng=0, backend=training_backend)
    b, before = net.backend, _host(net.flat).copy()
    gradient = _host(net.gradient(b.asarray(x), b.asarray(t))["W1"])
    assert (np.abs(gradient) > np.sqrt(np.finfo(np.float32).max)).any()
    state = TrainingState(net.flat, rule, "analytic", b)
    data = accelnn.prepare(b.asarray(x), b.asarray(t), backend=b)
    net.engine.train(state, data, np.arange(1), 1)
    # A first step has the length lr, or of RMSprop ten times that, whatever the gradient.
    length = rule.lr / (0.1 if isinstance(rule, accelnn.RMSprop) else 1.0)
    moved = (_host(net.flat) - before)[:6] + rule.lr * rule.weight_decay * before[:6]
    # Three roundings of a parameter, each by half an ulp, and some of the length.
    eps = float(np.finfo(np.float32).eps)
    atol = 1.5 * eps * float(np.abs(before).max()) + 8.0 * eps * length
    np.testing.assert_allclose(moved, -length * np.sign(gradient).ravel(), rtol=0.0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_goes_on_where_it_was(training_backend, dtype, monkeypatch):
    """Over calls of `train`, and over the pieces that one call may be cut into."""
    case, order = CASES[6], np.arange(130)
    x, t = _data(case, dtype)
    net = _net(training_backend, case, "tanh", "cross_entropy", dtype)
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
            np.testing.assert_array_equal(_host(whole), _host(piece))


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
    case = CASES[6]
    x, t = _data(case, "float32")
    whole, parts = (_net(training_backend, case, "tanh", "cross_entropy", "float32") for _ in "12")
    options = {"optimizer": rule, "batch_size": case.batch}
    at_once, history = accelnn.fit(whole, x, t, epochs=4, rng=1, **options), None
    losses = []
    for _ in range(4):
        seed = {} if history else {"rng": 1}
        history = accelnn.fit(parts, x, t, epochs=1, resume=history, **seed, **options)
        losses += history.loss
    assert losses == at_once.loss
    np.testing.assert_array_equal(_host(parts.flat), _host(whole.flat))


def _engine_state(backend, optimizer, move):
    """Return the same engine and state on any backend."""
    net = accelnn.MLP([5, 4, 3], activation="tanh", dtype="float64", rng=0, backend=backend)
    _set(net, net.flat, move(_host(net.flat)))
    return net.engine, TrainingState(net.flat, optimizer, "analytic", backend)


def _assert_calls_agree(backend, calls):
    """Assert that calls of `train`, each with data, order and batch, leave the same behind."""

    def run(backend, move):
        b = accelnn.get_backend(backend)
        engine, state = _engine_state(b, move(accelnn.Adam(0.01)), move)
        found = []
        for (x, t), order, batch in calls:
            data = accelnn.prepare(move(x), t, backend=b, dtype="float64")
            found += [engine.train(state, data, order, batch), np.array(float(state.step))]
            found += [_host(state.params).copy(), *(_host(slot).copy() for slot in state.slots)]
        return found

    _assert_agree(backend, run)


def _samples(seed=7):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(40, 5)), draw.integers(0, 3, 40)


def test_a_loss_that_is_not_finite_ends_a_call_before_its_update(training_backend):
    """Later batches have finite losses, and the next call trains on, with the same data."""
    x, t = _samples()

    def run(backend, move):
        b = accelnn.get_backend(backend)
        engine, state = _engine_state(b, move(accelnn.Adam(0.01)), move)
        broken = b.asarray(np.where(np.arange(40)[:, None] == 13, np.nan, move(x)))
        data = Dataset(broken, b.asarray(t), b, "float64")
        with np.errstate(invalid="ignore"):
            stopped = engine.train(state, data, np.arange(40), 4)
        assert len(stopped) == 4
        assert np.isnan(stopped[-1])
        assert state.step == 3
        reached = _host(state.params).copy(), _host(state.slots[1]).copy()
        losses = engine.train(state, data, np.delete(np.arange(40), 13), 4)
        assert state.step == 13
        return stopped[:-1], *reached, losses, state.params, state.slots[1]

    _assert_agree(training_backend, run)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_orders_of_any_integer_type(training_backend, dtype):
    _assert_calls_agree(training_backend, [(_samples(), np.arange(40, dtype=dtype)[::-2], 3)])


def test_an_order_of_fractions_is_refused(training_backend):
    x, t = _samples()
    backend = accelnn.get_backend(training_backend)
    engine, state = _engine_state(backend, accelnn.SGD(0.1), lambda a: a)
    data = accelnn.prepare(x, t, backend=backend, dtype="float64")
    with pytest.raises((TypeError, IndexError)):
        engine.train(state, data, np.arange(40) + 0.5, 3)


def test_other_data_and_batches_in_the_next_call(training_backend):
    calls = [
        (_samples(), np.arange(40), 3),
        (_samples(8), np.arange(40), 3),
        (_samples(8), np.arange(30), 7),
        (_samples(8), np.arange(40), 1_000_000_000),
        (_samples(8), np.arange(0), 3),
    ]
    _assert_calls_agree(training_backend, calls)


def test_a_state_whose_parts_are_exchanged(training_backend):
    x, t = _samples()

    def run(backend, move):
        b = accelnn.get_backend(backend)
        engine, state = _engine_state(b, move(accelnn.Momentum(0.1)), move)
        data = accelnn.prepare(move(x), t, backend=b, dtype="float64")
        losses = [engine.train(state, data, np.arange(40), 3)]
        state.optimizer = move(accelnn.Momentum(0.5, momentum=0.1))
        losses.append(engine.train(state, data, np.arange(40), 3))
        state.params = state.params * 0.5
        losses.append(engine.train(state, data, np.arange(40), 3))
        state.slots = [slot * 0.5 for slot in state.slots]
        losses.append(engine.train(state, data, np.arange(40), 3))
        return *losses, state.params, state.slots[0]

    _assert_agree(training_backend, run)


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_many_samples_are_moved_in_pieces(fused_backend, kind, monkeypatch):
    case = CASES[6]._replace(kind=kind, samples=33)
    data = _data(case, "float64")

    def run(backend, move):
        net = _net(backend, case, "tanh", "cross_entropy", "float64", move)
        return _in_order(net, net.numerical_gradient(*_on(net, *map(move, data))))

    net = _net(fused_backend, case, "tanh", "cross_entropy", "float64")
    for samples in (1, 10, 32):
        if fused_backend.name == "numba":
            module = inspect.getmodule(type(net.engine._differences))
            monkeypatch.setattr(module, "WORK", samples * net.size)
        else:
            engine = inspect.getmodule(net.engine)
            monkeypatch.setattr(engine, "DIFFERENCE_UNITS", samples * sum(case.sizes[1:]))
        _assert_agree(fused_backend, run)


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_any_integer_type(fused_backend, dtype):
    case = CASES[0]
    x, labels = _data(case, dtype)
    for kind in (np.uint8, np.int8, np.int16, np.uint32, np.uint64, ">i4"):

        def run(backend, move, kind=kind):
            net = _net(backend, case, "tanh", "cross_entropy", dtype, move)
            return _in_order(net, net.gradient(*_on(net, move(x), labels.astype(kind))))

        _assert_agree(fused_backend, run)


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeated_samples_in_a_batch(training_backend, dtype):
    options = {"batch_size": 100, "iters": 5, "sampling": "replacement", "rng": 6}
    _assert_training_agrees(training_backend, CASES[0], dtype, **options)
