"""Samples whose non-zeros have neighbours are stored as quads, four columns each."""

import itertools
from functools import partial

import numpy as np
import pytest

import accelnn
from accelnn.backends import NetSpec, TrainingState
from accelnn.formulas import _table
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused")

DTYPES = ("float32", "float64")
THREADS = (1, 2, 3, 5)
QUAD = 4
# Around multiples of a quad and of all vectors.
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)
SPECIAL = (np.nan, np.inf, -np.inf)


@pytest.fixture
def teams(compiled):
    """Return a new backend for each number of threads."""
    assert compiled.name == "numba"
    return [type(compiled)(threads) for threads in THREADS]


@pytest.fixture
def any_quads(compiled, monkeypatch):
    """Let all data sets be stored as quads, whatever is in them."""
    assert compiled.name == "numba"
    from accelnn.backends.numba import forms

    monkeypatch.setattr(forms, "PER_QUAD", 0.0)
    monkeypatch.setattr(forms, "QUADS_BELOW", 1.0)


def _strokes(shape, seed=1, *, kind="real"):
    """Return samples whose non-zeros have neighbours: about a quarter of all numbers."""
    draw = np.random.default_rng(seed)
    rows, inputs = shape
    near = np.cumsum(draw.random((rows, inputs)) < 0.2, axis=1) + draw.integers(0, 4, (rows, 1))
    values = draw.normal(size=shape) if kind == "real" else draw.integers(1, 256, shape) / 255
    return np.where(near % 4 == 0, values, 0.0)


def _pixels(shape, dtype, divisor=255):
    """Return strokes of all bytes, divided by a number in this dtype."""
    codes = _strokes(shape, kind="pixels") * 255
    return np.divide(codes.round(), divisor, dtype=dtype)


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def _prepared(x, backend):
    return accelnn.prepare(x, np.arange(x.shape[0]) % 3, backend=backend, dtype=x.dtype.name)


def _assert_stores(data, x):
    """Assert that every quad that is not zero is stored, in order, and no other one."""
    kernel, inputs = data.kernel_data, x.shape[1]
    assert kernel.sparse
    assert kernel.quads
    filled = np.zeros((len(x), -(-inputs // QUAD) * QUAD), x.dtype)
    filled[:, :inputs] = x
    quads = filled.reshape(len(x), -1, QUAD)
    row, number = np.nonzero((quads != 0).any(axis=2))
    np.testing.assert_array_equal(kernel.columns, number)
    np.testing.assert_array_equal(np.diff(kernel.starts), np.bincount(row, minlength=len(x)))
    values = kernel.values
    if kernel.codes.size:
        divisor, single = values
        kind = np.float32 if single else x.dtype
        values = np.divide(kernel.codes.view(np.uint8), divisor, dtype=kind)
    np.testing.assert_array_equal(values.reshape(-1, QUAD), quads[row, number])
    np.testing.assert_array_equal(data.x, x)
    assert data.x.dtype == np.dtype(data.dtype)
    index = np.array([len(x) - 1, 0, len(x) // 2])
    np.testing.assert_array_equal(data.take(index)[0], x[index])
    np.testing.assert_array_equal(data.piece(slice(1, 7))[0], x[1:7])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", WIDTHS)
@pytest.mark.usefixtures("any_quads")
def test_what_is_stored(compiled, inputs, dtype):
    for kind in ("real", "pixels"):
        x = _strokes((23, inputs), kind=kind).astype(dtype)
        x[[0, 5]] = 0.0
        x[7] = 1.0
        data = _prepared(x, compiled)
        _assert_stores(data, x)
        assert (data.kernel_data.codes.size > 0) == (kind == "pixels")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_form_of_usual_data(compiled, dtype):
    (x, _), _ = accelnn.datasets.load_mnist(subset="5k")
    data = _prepared(x.astype(dtype), compiled)
    # They were divided in single precision.
    assert data.kernel_data.codes.size > 0
    assert data.kernel_data.values.tolist() == [255.0, float(dtype == "float64")]
    _assert_stores(data, x.astype(dtype))
    assert "groups of 4" in repr(data)
    draw = np.random.default_rng(0)
    one_hot = np.eye(300, dtype=dtype)[draw.integers(0, 300, 500)]
    alone = _prepared(one_hot, compiled).kernel_data
    assert alone.sparse
    assert not alone.quads
    assert not _prepared(draw.normal(size=(50, 30)).astype(dtype), compiled).kernel_data.sparse


def test_how_full_quads_decide(compiled):
    """Of 100 samples of 40 inputs, which have so many quads with so many non-zeros each."""
    from accelnn.backends.numba.forms import PER_QUAD, SPARSE_BELOW
    from accelnn.backends.numba.kernels.nonzeros import QUADS_BELOW

    for quads, each in itertools.product(range(11), range(1, 5)):
        x = np.zeros((100, 10, QUAD), np.float32)
        x[:, :quads, :each] = 0.7
        kernel = _prepared(x.reshape(100, 40), compiled).kernel_data
        are_quads = quads > 0 and each > PER_QUAD and quads <= QUADS_BELOW * 10
        assert kernel.quads == are_quads
        assert kernel.sparse == (are_quads or quads * each <= SPARSE_BELOW * 40)


def test_the_most_inputs(compiled):
    from accelnn.backends.numba.forms import QUAD_INPUTS

    for inputs in (QUAD_INPUTS, QUAD_INPUTS + 1):
        x = _strokes((7, inputs)).astype(np.float32)
        assert _prepared(x, compiled).kernel_data.quads == (inputs == QUAD_INPUTS)
    _assert_trains_as_on_numpy([compiled], x[:, :QUAD_INPUTS], (QUAD_INPUTS, 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("divisor", [1, 16, 255, 256])
@pytest.mark.usefixtures("any_quads")
def test_all_bytes_are_themselves(compiled, divisor, dtype):
    x = np.divide(np.arange(256).reshape(8, 32), divisor, dtype=dtype)
    data = _prepared(x, compiled)
    assert data.kernel_data.codes.size == 64
    _assert_stores(data, x)
    net = accelnn.MLP((32, 3), dtype=dtype, rng=0, backend=compiled)
    # Each number alone, whose score is that number but for nothing.
    alone = np.zeros((256, 32), dtype)
    alone[np.arange(256), np.arange(256) % 32] = x.reshape(-1)
    data = _prepared(alone, compiled)
    assert data.kernel_data.codes.size == 255
    net.flat[...] = 0.0
    net.params["W1"][:, 0] = 1.0
    loss, _ = net.engine.evaluate(net.flat, data)
    # The other two scores are 0.
    scores = x.reshape(-1).astype(float)
    largest = np.maximum(scores, 0.0)
    log_sums = largest + np.log(np.exp(scores - largest) + 2.0 * np.exp(-largest))
    expected = log_sums - np.where(np.arange(256) % 3 == 0, scores, 0.0)
    assert loss == pytest.approx(expected.mean(), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.nextafter(x, 2.0),
        lambda x: -x,
        lambda x: x + 1.0,
        lambda x: x * x.dtype.type(1e30),
        lambda x: x * x.dtype.type(1 / 255) * 255,
    ],
)
@pytest.mark.usefixtures("any_quads")
def test_one_number_that_is_no_byte(compiled, change, dtype):
    """The last number of all: what was found before is not to be used."""
    x = _pixels((101, 64), dtype)
    x[-1, -1] = 97 / 255
    assert _prepared(x, compiled).kernel_data.codes.size > 0
    changed = x.copy()
    changed[-1, -1] = change(x[-1, -1])
    data = _prepared(changed, compiled)
    _assert_stores(data, changed)
    assert (data.kernel_data.codes.size > 0) == (changed[-1, -1] == x[-1, -1])


@pytest.mark.parametrize("piece", [1, 97, 10_000])
@pytest.mark.parametrize(
    "given",
    [
        lambda codes: codes.astype(np.uint8),
        lambda codes: codes.astype(np.float64),
        lambda codes: np.asfortranarray(codes.astype(np.float32)),
        lambda codes: np.repeat(codes.astype(np.float32), 2, axis=1)[:, ::2],
        lambda codes: _read_only(codes.astype(np.float32)),
    ],
)
def test_bytes_of_any_type_in_pieces_of_any_length(compiled, monkeypatch, given, piece):
    from accelnn.backends.numba import forms

    monkeypatch.setattr(forms, "PIECE", piece)
    codes = _pixels((61, 50), np.float64, divisor=1)
    labels = np.arange(61) % 3
    data = accelnn.prepare(given(codes), labels, backend=compiled)
    assert data.kernel_data.values.tolist() == [1.0, 0.0]
    _assert_stores(data, codes.astype(np.float32))


def _trained(b, x, t, sizes, rule, batch, move=lambda value: value, activation="tanh"):
    spec = NetSpec(sizes, activation, _table.LOSSES["cross_entropy"])
    b, dtype = accelnn.get_backend(b), x.dtype.name
    start = np.random.default_rng(5).normal(scale=0.3, size=spec.size).astype(dtype)
    data = accelnn.prepare(move(x), move(t), backend=b, dtype=dtype)
    assert b.name != "numba" or data.kernel_data.quads
    order = np.random.default_rng(8).permutation(len(x))
    state = TrainingState(move(start), rule, "analytic", b)
    engine = b.engine(spec, dtype)
    losses = engine.train(state, data, order, batch)
    loss, accuracy = engine.evaluate(state.params, data)
    assert accuracy is not None
    return [losses.astype(dtype), state.params, *state.slots, np.array(loss, dtype)]


def _assert_trains_as_on_numpy(teams, x, sizes, rule=None, batch=5):
    rule = rule or accelnn.SGD(0.1)
    t = np.random.default_rng(3).dirichlet(np.ones(sizes[-1]), len(x)).astype(x.dtype)
    alone, *others = (_trained(b, x, t, sizes, rule, batch) for b in teams)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert_equal_but_for_rounding(
        alone, lambda move: _trained("numpy", x, t, sizes, rule, batch, move)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", WIDTHS)
@pytest.mark.usefixtures("any_quads")
def test_training_and_evaluation(teams, inputs, dtype):
    for width, kind in itertools.product((1, 9, 16, 33), ("real", "pixels")):
        x = _strokes((23, inputs), kind=kind).astype(dtype)
        _assert_trains_as_on_numpy(teams, x, (inputs, width, 3))
    _assert_trains_as_on_numpy(teams, x, (inputs, 3))


@pytest.mark.parametrize("batch", [1, 2, 11, 12, 13, 47, 48, 49, 257, 258, 259, 515, 516, 517])
def test_batches_of_any_length(teams, batch):
    x = _pixels((600, 48), np.float32)
    rule = accelnn.AdamW(0.001, weight_decay=0.1)
    _assert_trains_as_on_numpy(teams, x, (48, 33, 3), rule, batch)


@pytest.mark.parametrize("rest", [-1, 0, 1])
def test_batches_in_pieces(teams, monkeypatch, rest):
    from accelnn.backends.numba import pieces
    from accelnn.backends.numba.vectors import SHORT

    monkeypatch.setattr(pieces, "PIECE", 1)
    monkeypatch.setattr(pieces, "TIMES", 0)
    for rule in (accelnn.SGD(0.1), accelnn.Momentum(0.01)):
        x = _pixels((11 * SHORT + 1, 48), np.float32)
        _assert_trains_as_on_numpy(teams, x, (48, 33, 3), rule, 5 * SHORT + rest)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_matrices_are_stored_alike(compiled, dtype):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    for x in (_pixels((60, 50), dtype), _strokes((60, 50)).astype(dtype)):
        x[[0, 31, 59]] = 0.0
        expected = _prepared(x, compiled).kernel_data
        found = _prepared(scipy_sparse.csr_array(x), compiled)
        _assert_stores(found, x)
        for name in ("starts", "columns", "values", "codes"):
            one, other = (getattr(kernel, name) for kernel in (expected, found.kernel_data))
            np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", SPECIAL)
def test_weights_that_are_not_finite(compiled, value):
    """Zeros times those are NaN, as on NumPy, where quads have none of them too."""
    x, sizes = _pixels((20, 50), np.float32), (50, 9, 3)
    x[:, 16:20] = 0.0
    t = np.arange(20) % 3

    def losses(b):
        net = accelnn.MLP(sizes, backend=b, rng=1)
        net.params["W1"][17, 2] = value
        data = accelnn.prepare(x, t, backend=b)
        assert b == "numpy" or data.kernel_data.quads
        return net.engine.evaluate(net.flat, data)

    np.testing.assert_array_equal(losses(compiled), losses("numpy"))


def test_fit_on_digits(compiled):
    (x, t), _ = accelnn.datasets.load_mnist(subset="5k")
    x, t = x[:600], t[:600]

    def trained(b, move):
        net = accelnn.MLP((784, 20, 10), backend=b, rng=1)
        net.flat[...] = move(net.flat)
        data = accelnn.prepare(move(x), t, backend=b)
        assert b == "numpy" or data.kernel_data.quads
        history = accelnn.fit(net, data, validation=data, epochs=2, rng=2)
        return [net.flat, np.array([*history.loss, *history.test_loss], np.float32)]

    assert_equal_but_for_rounding(trained(compiled, lambda value: value), partial(trained, "numpy"))
