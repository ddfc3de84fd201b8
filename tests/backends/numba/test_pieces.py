"""Batches that do not fit in cache come in pieces. No result tells so, but for rounding."""

import itertools

import numpy as np
import pytest

import accelnn
from accelnn.backends import NetSpec, TrainingState
from accelnn.formulas import _table
from accelnn.formulas._dropout import Dropout
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused")

DTYPES = ("float32", "float64")
THREADS = (1, 2, 3)
SIZES = (33, 17, 3)
# How samples are stored: of non-zeros alone or four together, or all numbers.
FORMS = ("singles", "quads", "dense")
# What a step may be given besides its data.
EXTRAS = ("nothing", "weights", "clip", "dropout")


@pytest.fixture
def shortest(compiled, monkeypatch):
    """Return how many samples a piece has, which is as few as possible."""
    assert compiled.name == "numba"
    from accelnn.backends.numba import pieces
    from accelnn.backends.numba.vectors import SHORT

    monkeypatch.setattr(pieces, "PIECE", 1)
    monkeypatch.setattr(pieces, "TIMES", 0)
    return SHORT


@pytest.fixture
def teams(compiled):
    """Return a new backend for each number of threads."""
    return [type(compiled)(threads) for threads in THREADS]


def _data(samples, dtype, form):
    draw = np.random.default_rng(6)
    x = draw.normal(size=(samples, SIZES[0])) * _kept(draw, samples, SIZES[0], form)
    return x.astype(dtype), draw.dirichlet(np.ones(SIZES[-1]), samples).astype(dtype)


def _kept(draw, samples, inputs, form):
    """Return which numbers are not to be zero for a data set to be stored so."""
    if form == "quads":
        groups = draw.random((samples, -(-inputs // 4))) < 0.3
        return np.repeat(groups, 4, axis=1)[:, :inputs]
    return draw.random((samples, inputs)) < (0.1 if form == "singles" else 0.7)


def _assert_form(data, form):
    if isinstance(data.backend, type(accelnn.get_backend("numba"))):
        kernel = data.kernel_data
        assert (kernel.sparse, kernel.quads) == (form != "dense", form == "quads")


def _extras(kind, samples, updates):
    draw = np.random.default_rng(7)
    options = {"rates": draw.uniform(0.001, 0.002, updates)}
    if kind == "weights":
        options["weights"] = draw.uniform(0.5, 2.0, samples)
    if kind == "clip":
        # About half of the norms are more.
        options["clip"] = 0.1
    if kind == "dropout":
        options["dropout"] = Dropout(0.3, 11)
    return options


def _trained(b, batch, x, t, form, kind, rule, move=lambda value: value):
    """Return what some updates leave, of which the last has fewer samples."""
    spec = NetSpec(SIZES, "tanh", _table.LOSSES["cross_entropy"])
    dtype = x.dtype.name
    start = np.random.default_rng(5).normal(scale=0.3, size=spec.size).astype(dtype)
    b = accelnn.get_backend(b)
    data = accelnn.prepare(move(x), move(t), backend=b, dtype=dtype)
    _assert_form(data, form)
    order = np.random.default_rng(8).permutation(len(x))
    state = TrainingState(move(start), rule, "analytic", b)
    options = _extras(kind, len(x), -(-len(x) // batch))
    losses = b.engine(spec, dtype).train(state, data, order, batch, **options)
    assert state.step == losses.size == -(-len(x) // batch)
    return [losses.astype(dtype), state.params, *state.slots]


@pytest.mark.parametrize("kind", EXTRAS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_are_those_of_whole_batches(teams, shortest, dtype, form, kind):
    rules = (accelnn.SGD(), accelnn.AdamW(0.001, weight_decay=0.1))
    for rule, rest in itertools.product(rules, (-1, 0, 1)):
        batch = 5 * shortest + rest
        x, t = _data(2 * batch + shortest + 1, dtype, form)
        alone, *others = (_trained(b, batch, x, t, form, kind, rule) for b in teams)
        for together in others:
            assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
        assert_equal_but_for_rounding(
            alone,
            lambda move, batch=batch, x=x, t=t, rule=rule: _trained(
                "numpy", batch, x, t, form, kind, rule, move
            ),
        )


@pytest.mark.parametrize("form", FORMS)
def test_pieces_of_the_usual_length(teams, form):
    sizes = (784, 300, 10)
    net = accelnn.MLP(sizes, activation="tanh", backend=teams[0], rng=1)
    most = net.engine._most_samples
    draw = np.random.default_rng(9)
    batch = 2 * most + 1
    x = draw.normal(size=(batch + 100, 784)) * _kept(draw, batch + 100, 784, form)
    x, t = x.astype(np.float32), draw.integers(0, 10, batch + 100)

    def trained(b, move=lambda value: value):
        net = accelnn.MLP(sizes, activation="tanh", backend=b, rng=1)
        net.flat[...] = move(net.flat)
        history = accelnn.fit(net, move(x), t, batch_size=batch, iters=2, rng=3)
        return [np.array(history.loss, np.float32), net.flat]

    alone, *others = map(trained, teams)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert_equal_but_for_rounding(alone, lambda move: trained("numpy", move))


def test_a_loss_that_overflows_in_the_first_piece_stops_before_the_update(compiled, shortest):
    # Engines of a shared backend know already how many samples a piece has.
    compiled = type(compiled)(2)
    net = accelnn.MLP(SIZES, activation="relu", dtype="float64", backend=compiled, rng=1)
    x, t = _data(4 * shortest, "float64", "dense")
    x[0] = 1e308
    before = net.flat.copy()
    state = TrainingState(net.flat, accelnn.SGD(), "analytic", compiled)
    data = accelnn.prepare(x, t, backend=compiled, dtype="float64")
    losses = net.engine.train(state, data, np.arange(len(x)), len(x))
    assert not np.isfinite(losses).any()
    assert state.step == 0
    np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", [33, 64, 257])
def test_samples_that_are_gathered_are_computed_alike(teams, monkeypatch, inputs, dtype):
    """To the bit: each sum has the same terms in the same order."""
    from accelnn.backends.numba import engine

    draw = np.random.default_rng(4)
    x, t = draw.normal(size=(301, inputs)).astype(dtype), draw.integers(0, 3, 301)
    found = []
    for most, row_bytes in ((0, 1 << 20), (1 << 20, 1 << 20), (1 << 20, 1)):
        monkeypatch.setattr(engine, "MOST_PANELS", most)
        monkeypatch.setattr(engine, "ROW_BYTES", row_bytes)
        for b in teams:
            # An engine knows already what it does.
            fresh = type(b)(b.threads)
            net = accelnn.MLP((inputs, 70, 3), dtype=dtype, rng=1, backend=fresh)
            assert net.engine._gathers_rows == (most == 0 or row_bytes == 1)
            history = accelnn.fit(net, x, t, batch_size=75, epochs=2, rng=2)
            gradient = net.gradient(x, t).values()
            found.append([np.array(history.loss), net.flat, *gradient, net.predict(x)])
    for other in found[1:]:
        assert [a.tobytes() for a in other] == [a.tobytes() for a in found[0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_numbers_of_a_row_are_no_power_of_two_apart(dtype):
    from accelnn.backends.numba.memory import memory_of_updates
    from accelnn.backends.numba.pieces import most_samples, rows_of_pieces
    from accelnn.backends.numba.vectors import LANES

    dtype = np.dtype(dtype)
    for inputs, width in itertools.product((1, 100, 784, 3072, 70_000), (10, 50, 512)):
        net = accelnn.MLP((inputs, width, 10), dtype=dtype.name, backend="numba")
        layout = net.engine._layout
        for batch in (1, 64, 100, 512, 4096, 10_000):
            rows = rows_of_pieces(batch, most_samples(layout, dtype))
            assert 0 < rows <= batch
            memory = memory_of_updates(layout, dtype, rows, 2, with_samples=True, quads=False)
            assert memory.capacity >= rows
            assert memory.capacity * LANES[dtype.type] * dtype.itemsize % 2048 != 0
