"""Data sets as compiled code reads them: dense, or the non-zeros alone."""

import itertools
from functools import partial

import numpy as np
import pytest
from peaks import peak_of

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused", "no_quads")

DTYPES = ("float32", "float64")


@pytest.fixture
def no_quads(monkeypatch):
    """Let non-zeros be stored one by one, wherever they are."""
    from accelnn.backends.numba import forms

    monkeypatch.setattr(forms, "PER_QUAD", 1e9)


@pytest.fixture
def prepare(compiled):
    """Return ``prepare(x)``, with labels that do not matter."""

    def prepare(x, dtype="float32", backend=compiled):
        return accelnn.prepare(x, np.arange(len(x)) % 3, backend=backend, dtype=dtype)

    return prepare


@pytest.fixture(scope="module")
def threshold(compiled):
    assert compiled.name == "numba"
    from accelnn.backends.numba.forms import SPARSE_BELOW

    return SPARSE_BELOW


def _with_nonzeros(shape, count, dtype="float32"):
    """Return an array with so many non-zeros, drawn over all of it."""
    x = np.zeros(shape, dtype)
    draw = np.random.default_rng(0)
    x.ravel()[draw.permutation(x.size)[:count]] = draw.uniform(0.5, 1.0, count)
    return x


def _rows(data):
    """Return the rows of stored non-zeros, made dense by other means than `Dataset.x`."""
    kernel = data.kernel_data
    rows = [[0.0] * data.inputs for _ in range(data.size)]
    for row, (start, stop) in enumerate(itertools.pairwise(kernel.starts.tolist())):
        for k in range(start, stop):
            rows[row][int(kernel.columns[k])] = float(kernel.values[k])
    return np.array(rows, data.dtype).reshape(data.size, data.inputs)


def _assert_stores(data, x):
    """Assert that the non-zeros of `x` are stored, in order, and nothing else."""
    kernel = data.kernel_data
    assert kernel.sparse
    assert kernel.values.size == kernel.columns.size == kernel.starts[-1] == np.count_nonzero(x)
    assert kernel.x.size == 0
    assert kernel.values.all()
    np.testing.assert_array_equal(_rows(data), x)
    np.testing.assert_array_equal(data.x, x)
    assert data.x.dtype == np.dtype(data.dtype)
    for start, stop in itertools.pairwise(kernel.starts):
        assert (np.diff(kernel.columns[start:stop].astype(np.int64)) > 0).all()


def _assert_dense(data, x):
    kernel = data.kernel_data
    assert not kernel.sparse
    assert kernel.values.size == 0
    np.testing.assert_array_equal(kernel.x.reshape(x.shape), x)
    np.testing.assert_array_equal(data.x, x)


def _assert_trains_as_on_numpy(compiled, x, sizes, dtype="float32"):
    t = np.arange(len(x)) % sizes[-1]

    def run(backend, move):
        net = accelnn.MLP(sizes, dtype=dtype, rng=1, backend=backend)
        net.flat[...] = move(net.flat)
        data = accelnn.prepare(move(x), t, backend=backend, dtype=dtype)
        history = accelnn.fit(net, data, validation=data, epochs=2, batch_size=4, rng=2)
        losses = np.array([*history.loss, *history.test_loss], dtype)
        return net.flat, losses, net.predict(data.x)

    assert_equal_but_for_rounding(run(compiled, lambda value: value), partial(run, "numpy"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_choice_at_the_threshold(prepare, threshold, dtype):
    shape = (50, 40)
    most = int(threshold * 2000)
    for count in (0, 1, most - 1, most):
        x = _with_nonzeros(shape, count, dtype)
        _assert_stores(prepare(x, dtype), x)
    for count in (most + 1, most + 100, 2000):
        x = _with_nonzeros(shape, count, dtype)
        _assert_dense(prepare(x, dtype), x)


def test_many_samples_are_counted_and_not_only_probed(prepare, threshold):
    """A few rows are looked at first, and then all, whose count decides."""
    rows, inputs = 5_000, 10
    for period in range(2, 8):
        for phase in range(period):
            x = np.zeros((rows, inputs), np.float32)
            x[phase::period] = 1.0
            data = prepare(x)
            # What the first look sees may also be enough to call it dense, never to call it sparse.
            if np.count_nonzero(x) > threshold * x.size:
                _assert_dense(data, x)
            elif data.kernel_data.sparse:
                assert data.kernel_data.values.size == np.count_nonzero(x)
                np.testing.assert_array_equal(data.x, x)


@pytest.mark.parametrize("stride", [2, 3, 4, 5, 6, 10])
def test_zeros_where_one_looks_first_do_not_decide(prepare, stride):
    x = np.ones((5_000, 10), np.float32)
    x[::stride] = 0.0
    _assert_dense(prepare(x), x)


def test_samples_are_spread_over_threads_alike(compiled, prepare):
    x = _with_nonzeros((101, 13), 200)
    found = [prepare(x, backend=type(compiled)(threads)) for threads in (1, 2, 3, 5)]
    for data in found:
        _assert_stores(data, x)
        for one, other in zip(data.kernel_data[3:7], found[0].kernel_data[3:7], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros(compiled, prepare, dtype):
    x = _with_nonzeros((12, 30), 60, dtype)
    x[[0, 4, 5, 11]] = 0.0
    _assert_stores(prepare(x, dtype), x)
    _assert_trains_as_on_numpy(compiled, x, (30, 5, 3), dtype)
    _assert_trains_as_on_numpy(compiled, x, (30, 3), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 5), (1, 5), (7, 1), (1, 1)])
def test_nothing_but_zeros(compiled, prepare, shape, dtype):
    x = np.zeros(shape, dtype)
    _assert_stores(prepare(x, dtype), x)
    _assert_trains_as_on_numpy(compiled, x, (shape[1], 4, 3), dtype)


@pytest.mark.parametrize("count", [1, 9, 40])
def test_one_sample(compiled, prepare, threshold, count):
    x = _with_nonzeros((1, 40), count)
    check = _assert_stores if count <= threshold * 40 else _assert_dense
    check(prepare(x), x)
    _assert_trains_as_on_numpy(compiled, x, (40, 5, 3))


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.int16, np.float16, ">f8"])
@pytest.mark.parametrize("count", [60, 300])
def test_other_types_of_numbers(compiled, prepare, kind, count):
    x = (3.0 * _with_nonzeros((12, 30), count)).round().astype(kind)
    check = _assert_stores if count == 60 else _assert_dense
    for dtype in DTYPES:
        check(prepare(x, dtype), x.astype(dtype))
    _assert_trains_as_on_numpy(compiled, x, (30, 5, 3))


@pytest.fixture
def peak(monkeypatch):
    """Return what measures how many bytes a call takes at most, with what it returns."""
    from accelnn.backends.numba import forms

    monkeypatch.setattr(forms, "PIECE", 1 << 16)

    return peak_of


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.float64),
        lambda x: x,
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    ],
)
def test_what_is_packed_is_never_all_cast_or_copied(prepare, peak, kind):
    x = _with_nonzeros((20_000, 200), 400_000)
    x[x != 0.0] = 3.0
    data, given = prepare(x), kind(x)
    kernel = data.kernel_data
    stored = sum(a.nbytes for a in (kernel.starts, kernel.columns, kernel.values, kernel.labels))
    # The probe and a few pieces besides.
    assert peak(lambda: prepare(given)) < stored + x.nbytes / 4
    for one, other in zip(prepare(given).kernel_data[3:7], kernel[3:7], strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("kind", [np.uint8, np.float64, np.float32])
def test_what_stays_dense_is_copied_once(prepare, peak, kind):
    x = np.ones((2_000, 200), np.float32)
    for given in (x.astype(kind), np.asfortranarray(x.astype(kind))):
        assert peak(lambda given=given: prepare(given)) < 1.5 * x.nbytes


def test_the_probe_of_few_rows_is_not_all_cast(prepare, peak):
    x = np.zeros((900, 2_000), np.uint8)
    x[:, :5] = 1
    assert peak(lambda: prepare(x)) < x.size * 4 / 4


@pytest.mark.parametrize("kind", [np.uint8, np.float64, np.float32])
def test_samples_without_features_are_refused_in_words(compiled, kind):
    net = accelnn.MLP([4, 3, 2], backend=compiled)
    with pytest.raises(ValueError, match="0 inputs"):
        accelnn.fit(net, np.zeros((5, 0), kind), np.zeros(5, int), iters=1)


@pytest.mark.parametrize("piece", [1, 30, 31, 95, 10_000])
@pytest.mark.parametrize("count", [60, 108, 109, 300])
def test_pieces_of_any_length(prepare, monkeypatch, piece, count):
    from accelnn.backends.numba import forms

    monkeypatch.setattr(forms, "PIECE", piece)
    x = _with_nonzeros((12, 30), count, np.float64)
    (_assert_stores if count <= 108 else _assert_dense)(prepare(x), x.astype(np.float32))


def test_a_piece_of_what_is_packed_is_made_alone(prepare, peak):
    x = _with_nonzeros((20_000, 200), 400_000)
    data = prepare(x)
    for rows in (slice(0, 3), slice(9_000, 9_500), slice(19_990, 20_000)):
        piece, t = data.piece(rows)
        np.testing.assert_array_equal(piece, x[rows])
        np.testing.assert_array_equal(t, np.arange(20_000)[rows] % 3)
    assert peak(lambda: data.piece(rows)) < x.nbytes / 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_negative_zero_is_a_zero_and_a_denormal_number_is_not(compiled, prepare, dtype):
    x = _with_nonzeros((12, 30), 40, dtype)
    x[x == 0.0] = -0.0
    _assert_stores(prepare(x, dtype), x)
    x[3, :5] = np.finfo(dtype).smallest_subnormal * np.array([1, -1, 2, 3, -7], dtype)
    data = prepare(x, dtype)
    _assert_stores(data, x)
    assert np.count_nonzero(data.kernel_data.values) == np.count_nonzero(x)
    _assert_trains_as_on_numpy(compiled, x, (30, 5, 3), dtype)


@pytest.mark.parametrize(
    ("inputs", "kind"), [(65_535, np.uint16), (65_536, np.uint16), (65_537, np.uint32)]
)
def test_columns_are_numbered_in_a_type_that_holds_them(compiled, prepare, inputs, kind):
    x = np.zeros((5, inputs), np.float32)
    x[:, [0, 1, inputs // 2, inputs - 2, inputs - 1]] = np.arange(25).reshape(5, 5)
    data = prepare(x)
    assert data.kernel_data.columns.dtype == kind
    assert data.kernel_data.columns.max() == inputs - 1
    np.testing.assert_array_equal(data.x, x)
    assert data.kernel_data.values.size == np.count_nonzero(x) == 24
    if inputs != 65_535:
        _assert_trains_as_on_numpy(compiled, x, (inputs, 3))


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_callers_arrays_may_change_afterwards(compiled, density, dtype):
    x = _with_nonzeros((36, 30), int(1080 * density), dtype)
    t = np.eye(3, dtype=dtype)[np.arange(36) % 3]
    net = accelnn.MLP([30, 5, 3], dtype=dtype, rng=1, backend=compiled)
    before = net.loss(x, t)
    data = accelnn.prepare(x, t, backend=compiled, dtype=dtype)
    kept = x.copy()
    x[...], t[...] = 7.0, 7.0
    np.testing.assert_array_equal(data.x, kept)
    assert net.engine.evaluate(net.flat, data)[0] == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("kind", ["labels", "targets"])
def test_targets_as_they_are_read(compiled, kind):
    labels = np.array([2, 0, 1, 1], np.uint8)
    t = labels if kind == "labels" else np.eye(3)[labels]
    data = accelnn.prepare(np.eye(4), t, backend=compiled)
    kernel = data.kernel_data
    assert kernel.labelled == (kind == "labels")
    read = kernel.labels if kernel.labelled else kernel.targets.reshape(4, 3)
    np.testing.assert_array_equal(read, t)
    assert (kernel.labels.size, kernel.targets.size) == ((4, 0) if kernel.labelled else (0, 12))
    assert (data.size, data.inputs) == (4, 4)


def test_a_data_set_in_float64_is_not_for_a_net_in_float32(compiled):
    data = accelnn.prepare(np.eye(4), np.arange(4), backend=compiled, dtype="float64")
    with pytest.raises(accelnn.errors.BackendMismatchError, match="float64"):
        accelnn.fit(accelnn.MLP([4, 4], backend=compiled), data, epochs=1)


def _unaligned(a):
    moved = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def _read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    ("lay_out", "copied"),
    [
        (lambda a: a, False),
        (_read_only, False),
        (lambda a: a.view(np.memmap), False),
        (lambda a: a[:, ::2], True),
        (lambda a: a.T, True),
        (lambda a: np.broadcast_to(a[0], (3, 6)), True),
        (_unaligned, True),
    ],
)
def test_the_one_kind_of_array_that_kernels_are_compiled_for(compiled, lay_out, copied):
    assert compiled.name == "numba"
    from accelnn.backends.numba.arrays import kernel_array

    given = lay_out(np.arange(24.0).reshape(4, 6))
    array = kernel_array(given)
    np.testing.assert_array_equal(array, given)
    assert type(array) is np.ndarray
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.flags.writeable
    assert np.shares_memory(array, given) != copied
