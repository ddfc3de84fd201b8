"""Fused engines compute what the portable one computes on NumPy.

They sum in different orders, so that they differ by rounding alone: by a few times what one unit in
the last place of data and parameters makes of the portable engine's own results. A formula that is
wrong in its smallest term is wrong by thousands.
"""

import inspect
import itertools

import numpy as np
import pytest
from engine_cases import (
    CASES,
    DTYPES,
    SPARSE,
    Case,
    assert_agree,
    biases_of,
    cases_for,
    data_of,
    host,
    net_of,
    on,
    set_to,
)
from ways import ENGINES

import accelnn
from accelnn.backends import Dataset, Engine, NetSpec, TrainingState
from accelnn.formulas import _table

# What fused engines have code for.
ACTIVATIONS = pytest.importorskip("accelnn.backends.numba.kernels.activations").ACTIVATIONS
LOSSES = pytest.importorskip("accelnn.backends.numba.kernels.losses").LOSSES
FORMULAS = tuple(itertools.product(ACTIVATIONS, LOSSES))

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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_forward(fused_backend, activation, loss, dtype):
    for case in cases_for(loss):
        data, accuracies = data_of(case, dtype), []

        def run(backend, move, case=case, data=data, accuracies=accuracies):
            net = net_of(backend, case, activation, loss, dtype, move)
            assert (type(net.engine) is Engine) == (backend == "numpy")
            x, t = on(net, *map(move, data))
            prepared = accelnn.prepare(x, t, backend=net.backend, dtype=dtype)
            mean, accuracy = net.engine.evaluate(net.flat, prepared)
            accuracies.append(accuracy)
            losses = np.array([net.loss(x, t), mean], dtype)
            return net.predict(x), net.engine.scores(net.flat, x), losses

        assert_agree(fused_backend, run)
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
        set_to(net, net.flat, move(host(net.flat)))
        here = on(net, move(x), t)
        gradient = _in_order(net, net.gradient(*here))
        numerical = _in_order(net, net.numerical_gradient(*here))
        history = accelnn.fit(
            net, move(x), t, validation=(x, t), batch_size=7, epochs=2, rng=4, optimizer=RULE
        )
        accuracies.append((net.accuracy(*here), history.test_accuracy))
        losses = np.array([net.loss(*here), *history.loss], dtype)
        return losses, net.flat, *gradient, *numerical

    assert_agree(training_backend, run)
    assert accuracies[0] == accuracies[1]
    assert len(set(accuracies[0][1])) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "loss"), FORMULAS)
def test_gradient(fused_backend, activation, loss, dtype):
    for case in cases_for(loss):
        data = data_of(case, dtype)

        def run(backend, move, case=case, data=data):
            net = net_of(backend, case, activation, loss, dtype, move)
            return _in_order(net, net.gradient(*on(net, *map(move, data))))

        # The errors of a huber loss are limited.
        equal = case.samples if loss == "huber" else 0
        assert_agree(fused_backend, run, equal=equal)


def _in_order(net, gradient):
    """Return the gradient of each parameter."""
    assert list(gradient) == list(net.params)
    return gradient.values()


@pytest.mark.parametrize(("activation", "loss", "method"), list(_differences()))
def test_numerical_gradient(fused_backend, activation, loss, method, is_exhaustive):
    # The reference takes ten times as long for others, of the deepest nets.
    cases = cases_for(loss) if activation in ACTIVATIONS[:3] else cases_for(loss)[:4]
    for i, (case, step) in enumerate(itertools.product(cases, (1e-4, 0.5))):
        if not is_exhaustive and (i // 2 + METHODS.index(method)) % 2 != i % 2:
            continue
        data = data_of(case._replace(samples=min(case.samples, 33)), "float64")

        def run(backend, move, case=case, step=step, data=data):
            net = net_of(backend, case, activation, loss, "float64", move)
            data = on(net, *map(move, data))
            return _in_order(net, net.numerical_gradient(*data, method=method, step=step))

        # With one output, some gradients are next to nothing.
        assert_agree(fused_backend, run, terms=1.0)


@pytest.mark.parametrize(
    ("training_backend", "activation", "loss", "dtype", "optimizer"),
    list(_runs()),
    indirect=["training_backend"],
)
def test_many_steps(request, training_backend, activation, loss, dtype, optimizer):
    number = FORMULAS.index((activation, loss))
    # Kernels on the processor take their time.
    steps = 15 if "on cpu" in request.node.callspec.id else 200
    cases = cases_for(loss)
    for case in (cases[number % len(cases)], cases[(number + 4) % len(cases)]):
        data = data_of(case, dtype)

        def run(backend, move, case=case, data=data):
            net = net_of(backend, case, activation, loss, dtype)
            if activation in ("relu", "leaky_relu") and dtype == "float32":
                # A pre-activation within rounding of the kink, of which a run passes some, would
                # give one engine a slope and the other none: here the units stay on either side.
                for bias in biases_of(net)[:-1]:
                    set_to(net, bias, np.where(host(bias) > 0.0, 1.0, -1.0))
            start = host(net.flat).copy()
            set_to(net, net.flat, move(start))
            history = accelnn.fit(
                net,
                *map(move, data),
                optimizer=move(optimizer),
                batch_size=case.batch,
                iters=steps,
                rng=4,
            )
            assert history.steps == steps
            assert np.abs(host(net.flat) - start).max() > 5e-6 * steps
            return np.array(history.loss, dtype), net.flat

        assert_agree(training_backend, run)


def _assert_training_agrees(backend, case, dtype, formulas=("tanh", "cross_entropy"), **options):
    """Assert that losses and parameters agree after a run of `fit`."""
    data = data_of(case, dtype)

    def run(backend, move):
        net = net_of(backend, case, *formulas, dtype, move)
        history = accelnn.fit(net, *map(move, data), **options)
        return np.array(history.loss, dtype), net.flat

    assert_agree(backend, run)


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
    data = data_of(Case(sizes, 37, 7, "soft", SPARSE), dtype)
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

    assert_agree(training_backend, run)


def _engine_state(backend, optimizer, move):
    """Return the same engine and state on any backend."""
    net = accelnn.MLP([5, 4, 3], activation="tanh", dtype="float64", rng=0, backend=backend)
    set_to(net, net.flat, move(host(net.flat)))
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
            found += [host(state.params).copy(), *(host(slot).copy() for slot in state.slots)]
        return found

    assert_agree(backend, run)


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
        reached = host(state.params).copy(), host(state.slots[1]).copy()
        losses = engine.train(state, data, np.delete(np.arange(40), 13), 4)
        assert state.step == 13
        return stopped[:-1], *reached, losses, state.params, state.slots[1]

    assert_agree(training_backend, run)


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

    assert_agree(training_backend, run)


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_many_samples_are_moved_in_pieces(fused_backend, kind, monkeypatch):
    case = CASES[6]._replace(kind=kind, samples=33)
    data = data_of(case, "float64")

    def run(backend, move):
        net = net_of(backend, case, "tanh", "cross_entropy", "float64", move)
        return _in_order(net, net.numerical_gradient(*on(net, *map(move, data))))

    net = net_of(fused_backend, case, "tanh", "cross_entropy", "float64")
    for samples in (1, 10, 32):
        if fused_backend.name == "numba":
            module = inspect.getmodule(type(net.engine._differences))
            monkeypatch.setattr(module, "WORK", samples * net.size)
        else:
            engine = inspect.getmodule(net.engine)
            monkeypatch.setattr(engine, "DIFFERENCE_UNITS", samples * sum(case.sizes[1:]))
        assert_agree(fused_backend, run)


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_any_integer_type(fused_backend, dtype):
    case = CASES[0]
    x, labels = data_of(case, dtype)
    for kind in (np.uint8, np.int8, np.int16, np.uint32, np.uint64, ">i4"):

        def run(backend, move, kind=kind):
            net = net_of(backend, case, "tanh", "cross_entropy", dtype, move)
            return _in_order(net, net.gradient(*on(net, move(x), labels.astype(kind))))

        assert_agree(fused_backend, run)


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeated_samples_in_a_batch(training_backend, dtype):
    options = {"batch_size": 100, "iters": 5, "sampling": "replacement", "rng": 6}
    _assert_training_agrees(training_backend, CASES[0], dtype, **options)
