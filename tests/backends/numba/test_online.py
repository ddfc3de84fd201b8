"""Updates of one sample each: the first layer's next output comes with its update."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn.backends import NetSpec, TrainingState
from accelnn.formulas import _table
from accelnn.formulas._dropout import Dropout
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused")

DTYPES = ("float32", "float64")
THREADS = (1, 2, 3, 5)
# No hidden layer, part of a panel, half of one and less, and more panels than threads.
SIZES = ((33, 3), (21, 7, 3), (40, 16, 3), (30, 97, 5), (20, 161, 33, 4))
# How samples are stored: of non-zeros alone or four together, these also as bytes, or all numbers.
FORMS = ("dense", "quads", "bytes", "singles")
# Where a rule divides by a gradient's size, that of zero up to rounding would matter.
RULES = tuple(
    rule(0.01, **({"eps": 0.1} if "eps" in inspect.signature(rule).parameters else {}))
    for rule in _table.RULES.values()
)
SAMPLES = 23


@pytest.fixture
def teams(compiled):
    """Return a new backend for each number of threads."""
    return [type(compiled)(threads) for threads in THREADS]


def _samples(form, shape, dtype, draw):
    x = draw.normal(size=shape)
    if form == "bytes":
        x = np.divide(draw.integers(1, 256, shape), 255, dtype=dtype)
    if form in ("quads", "bytes"):
        groups = draw.random((shape[0], -(-shape[1] // 4))) < 0.3
        x *= np.repeat(groups, 4, axis=1)[:, : shape[1]]
    if form == "singles":
        x[draw.random(shape) > 0.1] = 0.0
    return x.astype(dtype)


def _trained(b, sizes, dtype, form, rule, *, calls=1, move=lambda value: value, **options):
    """Return what updates leave whose samples are drawn more than once."""
    draw = np.random.default_rng(1)
    x = _samples(form, (SAMPLES, sizes[0]), dtype, draw)
    t = draw.integers(0, sizes[-1], SAMPLES)
    spec = NetSpec(sizes, "tanh", _table.LOSSES["cross_entropy"], bias=len(sizes) != 3)
    start = draw.normal(scale=0.3, size=spec.size).astype(dtype)
    order = draw.integers(0, SAMPLES, 2 * SAMPLES)
    b = accelnn.get_backend(b)
    data = accelnn.prepare(move(x), t, backend=b, dtype=dtype)
    if b.name == "numba":
        kernel = data.kernel_data
        is_stored = kernel.sparse, kernel.quads, kernel.codes.size > 0
        assert is_stored == (form != "dense", form in ("quads", "bytes"), form == "bytes")
    state, engine = TrainingState(move(start), rule, "analytic", b), b.engine(spec, dtype)
    parts = np.array_split(order, calls)
    losses = [engine.train(state, data, part, 1, **options) for part in parts]
    assert state.step == order.size
    return [np.concatenate(losses).astype(dtype), state.params, *state.slots]


def _assert_same(found):
    first, *others = ([array.tobytes() for array in arrays] for arrays in found)
    assert all(other == first for other in others)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes)))
def test_any_number_of_threads_updates_as_numpy(teams, sizes, dtype, form):
    for rule in RULES:
        found = [_trained(b, sizes, dtype, form, rule) for b in teams]
        _assert_same(found)
        assert_equal_but_for_rounding(
            found[0],
            lambda move, rule=rule: _trained("numpy", sizes, dtype, form, rule, move=move),
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options",
    [
        {"weights": np.linspace(0.0, 2.0, SAMPLES)},
        {"clip": 0.5},
        {"dropout": Dropout(0.3, 11)},
        {"clip": 1e9, "dropout": Dropout(0.5, 3), "weights": np.linspace(1.0, 0.5, SAMPLES)},
    ],
    ids="-".join,
)
def test_options(teams, form, options):
    rule, sizes = accelnn.SGD(0.05, weight_decay=0.01), SIZES[-1]
    found = [_trained(b, sizes, "float64", form, rule, **options) for b in teams]
    _assert_same(found)
    assert_equal_but_for_rounding(
        found[0],
        lambda move: _trained("numpy", sizes, "float64", form, rule, move=move, **options),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [SIZES[0], SIZES[-1]], ids=["flat", "deep"])
def test_calls_go_on_where_earlier_ones_ended(teams, sizes, form):
    """Dropout too, whose masks are numbered."""
    options = {"dropout": Dropout(0.3, 11)} if len(sizes) > 2 else {}
    for rule in (accelnn.SGD(0.1), accelnn.Adam(0.01)):
        _assert_same(
            _trained(b, sizes, "float32", form, rule, calls=calls, **options)
            for b in teams[:2]
            for calls in (1, 2, 7, 2 * SAMPLES)
        )


@pytest.mark.parametrize("form", ["dense", "bytes"])
def test_whether_the_team_or_one_thread_is_faster_changes_no_bits(teams, form):
    """A thread that goes on with the others after their trial has missed some samples."""
    from accelnn.backends.numba.kernels.training import MANY

    x = _samples(form, (MANY + 1, 20), "float64", np.random.default_rng(1))

    def trained(b):
        net = accelnn.MLP([20, 161, 3], rng=2, dtype="float64", backend=b)
        data = accelnn.prepare(x, np.arange(len(x)) % 3, backend=b, dtype="float64")
        state = TrainingState(net.flat, accelnn.Adam(0.001), "analytic", b)
        return [net.engine.train(state, data, np.arange(len(x)), 1), net.flat]

    _assert_same([trained(teams[0]), *(trained(b) for b in teams[1:] * 5)])


def test_weights_that_overflow_are_not_hidden_by_zeros():
    """Later samples have no such input; their quads are computed with their zeros, as on NumPy."""
    x = np.zeros((20, 40), np.float32)
    x[0, :4], x[1:, 8:12] = 3e37, 1.0
    spec = NetSpec((40, 1), "tanh", _table.LOSSES["sum_squared_error"], bias=False)

    def run(name, move=lambda value: value):
        b, start = accelnn.get_backend(name), np.full(40, 0.01, np.float32)
        start[:4] = 1e-36
        data = accelnn.prepare(move(x), np.zeros((20, 1), np.float32), backend=b, dtype="float32")
        assert name == "numpy" or data.kernel_data.quads
        state = TrainingState(move(start), accelnn.SGD(1.0), "analytic", b)
        with np.errstate(all="ignore"):
            losses = b.engine(spec, "float32").train(state, data, np.array([1, 0, 2, 3, 4]), 1)
        assert state.step == 2
        assert np.isnan(losses[-1])
        assert np.isneginf(state.params[:4]).all()
        # The losses differ by seven orders of magnitude.
        return [*losses[:-1].astype(np.float32), state.params[4:]]

    assert_equal_but_for_rounding(run("numba"), lambda move: run("numpy", move))


GUARDED = """
import ctypes, mmap
import numpy as np
import accelnn
from accelnn.backends import NetSpec, TrainingState
from accelnn.formulas import _table

# A page that cannot be read lies before the learning rates.
pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
start = np.frombuffer(pages, np.uint8).ctypes.data
libc = ctypes.CDLL(None)
assert libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
rates = np.frombuffer(pages, np.float64, 10, offset=mmap.PAGESIZE)
rates[...] = 0.1

b, draw = accelnn.get_backend("numba"), np.random.default_rng(0)
spec = NetSpec((20, 40, 3), "tanh", _table.LOSSES["cross_entropy"])
state = TrainingState(draw.normal(size=spec.size), accelnn.SGD(0.1), "analytic", b)
data = accelnn.prepare(draw.normal(size=(10, 20)), np.arange(10) % 3, backend=b, dtype="float64")
losses = b.engine(spec, "float64").train(state, data, np.arange(10), 1, rates=rates)
print(np.isfinite(losses).all())
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="calls mprotect as on Linux")
def test_nothing_is_read_before_the_first_rate(compiled, python):
    assert compiled.name == "numba"
    assert python(GUARDED).strip() == "True"


@pytest.mark.parametrize("wrong", [0, 1, 7])
def test_a_loss_that_is_not_finite_stops_before_its_update(teams, wrong):
    """But after that the layer's output for its sample has been computed."""
    x = np.random.default_rng(1).normal(size=(8, 20))
    x[wrong] = 1e308

    def run(b, move=lambda value: value):
        net = accelnn.MLP([20, 97, 3], activation="relu", rng=2, dtype="float64", backend=b)
        net.flat[...] = move(net.flat)
        data = accelnn.prepare(move(x), np.arange(8) % 3, backend=net.backend, dtype="float64")
        state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", net.backend)
        with np.errstate(over="ignore", invalid="ignore"):
            losses = net.engine.train(state, data, np.arange(8), 1)
        assert losses.size == wrong + 1
        assert not np.isfinite(losses[-1])
        assert state.step == wrong
        return [*losses[:-1], net.flat]

    found = [run(b) for b in teams]
    _assert_same(found)
    assert_equal_but_for_rounding(found[0], lambda move: run("numpy", move))
