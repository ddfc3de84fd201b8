"""Samples in matrices and arrays of scipy.sparse give what their dense arrays give."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import accelnn
from accelnn.backends import _sparse
from accelnn.testing import StrictBackend, assert_equal_but_for_rounding

FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"]
BACKENDS = ["numpy", "numba", StrictBackend]
N, INPUTS = 60, 12


def samples(density=0.2, n=N, dtype=float):
    draw = np.random.default_rng(3)
    x = draw.normal(size=(n, INPUTS)) * 8.0
    return (x * (draw.random(x.shape) < density)).astype(dtype)


T = np.random.default_rng(4).integers(0, 3, N)


def new_net(**options):
    return accelnn.MLP([INPUTS, 5, 3], **{"rng": 0, **options})


def run(x, backend="numpy", **options):
    net = new_net(backend=backend)
    options = {"epochs": 2, "batch_size": 7, "rng": 1, **options}
    history = accelnn.fit(net, x, T, validation=(x, T), **options)
    return net.backend.to_numpy(net.flat).tobytes(), history


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_format_trains_as_its_dense_array_does(backend, kind):
    expected = run(samples(), backend)
    for family in (sp.coo_array, sp.coo_matrix):
        assert run(family(samples()).asformat(kind), backend) == expected


@pytest.mark.parametrize("density", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float32", "float64", "longdouble"]
)
def test_every_dtype_and_density(dtype, density):
    x = samples(density, dtype=dtype)
    for backend in ("numpy", "numba"):
        assert run(sp.csr_array(x), backend) == run(x, backend)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_targets_and_weights_go_with_sparse_samples(backend):
    x, t = samples(), np.random.default_rng(5).random((N, 3))
    weights = np.random.default_rng(6).random(N)
    for options in ({"optimizer": accelnn.Adam()}, {"gradient": "numerical", "epochs": 1}):
        options |= {"sample_weight": weights, "clip_norm": 1.0}
        flats = []
        for given in (x, sp.csr_matrix(x)):
            net = accelnn.MLP([INPUTS, 4, 3], loss="sum_squared_error", rng=0, backend=backend)
            accelnn.fit(net, given, t, **{"epochs": 2, "rng": 1, **options})
            flats.append(net.flat.tobytes())
        assert flats[0] == flats[1]


def entries_in_disorder():
    """Return a matrix with columns in any order, entries twice, and zeros; and its dense array."""
    columns, starts = np.array([3, 1, 3, 0, 2, 2, 5]), np.array([0, 3, 3, 7])
    values = np.array([1.0, 2.0, 4.0, 0.0, 3.0, -3.0, 7.0])
    x = sp.csr_matrix((values, columns, starts), shape=(3, INPUTS))
    dense = np.zeros((3, INPUTS))
    np.add.at(dense, (np.repeat(np.arange(3), np.diff(starts)), columns), values)
    return x, dense


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_entries_that_come_twice_are_added_and_the_callers_matrix_stays(backend):
    x, dense = entries_in_disorder()
    before = [part.copy() for part in (x.data, x.indices, x.indptr)]
    t, net = np.array([0, 1, 2]), new_net(backend=backend)
    prepared = accelnn.prepare(x, t, backend=backend)
    np.testing.assert_array_equal(prepared.x, dense.astype(np.float32))
    stored = prepared.kernel_data if backend == "numba" else prepared.rows
    assert stored.values.tolist() == dense[dense != 0.0].tolist()
    assert net.loss(x, t) == net.loss(dense, t)
    for part, was in zip((x.data, x.indices, x.indptr), before, strict=True):
        np.testing.assert_array_equal(part, was)


def test_read_only_entries():
    x = sp.csr_array(samples())
    for part in (x.data, x.indices, x.indptr):
        part.flags.writeable = False
    assert run(x) == run(samples())


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("density", [0.2, 0.9])
def test_what_is_prepared_does_not_change_with_the_matrix(backend, density):
    x = sp.csr_array(samples(density).astype(np.float32))
    prepared = accelnn.prepare(x, T, backend=backend)
    expected = x.toarray()
    x.data[:] = 99.0
    x.indices[:] = 0
    np.testing.assert_array_equal(prepared.x, expected)
    for index in ([5, 0, 5], np.arange(N)):
        found, t = prepared.take(np.array(index))
        np.testing.assert_array_equal(found, expected[index])
        np.testing.assert_array_equal(t, T[index])
    np.testing.assert_array_equal(prepared.piece(slice(3, 9))[0], expected[3:9])
    assert (prepared.size, prepared.inputs) == (N, INPUTS)
    assert "<" in repr(prepared)


def huge(rows, inputs, each):
    draw = np.random.default_rng(0)
    columns = draw.integers(0, inputs, rows * each)
    starts = np.arange(0, rows * each + 1, each)
    shape = (rows, inputs)
    return sp.csr_matrix((np.ones(rows * each, np.float32), columns, starts), shape=shape)


def peak_of(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_samples_are_never_all_made_dense(backend):
    """They would take 100 GB."""
    x = huge(250_000, 100_000, 6)
    t = np.arange(x.shape[0]) % 2
    assert peak_of(lambda: accelnn.prepare(x, t, backend=backend)) < 3 * x.nnz * 8
    net = accelnn.MLP([x.shape[1], 2, 2], rng=0, backend=backend)

    def train():
        accelnn.fit(net, x, t, iters=3, batch_size=50, rng=0)

    train()
    # A batch of 20 MB is dense where kernels do not read non-zeros.
    assert peak_of(train) < 10 * x.nnz * 8 + 3 * 50 * x.shape[1] * 4


def test_an_evaluation_makes_nothing_dense():
    """They would take 4 GB."""
    x = huge(10_000, 100_000, 6)
    net = accelnn.MLP([x.shape[1], 2, 2], rng=0, backend="numba")
    prepared = accelnn.prepare(x, np.arange(x.shape[0]) % 2, backend="numba")
    assert peak_of(lambda: net.engine.evaluate(net.flat, prepared)) < 20e6


def test_weights_that_are_not_finite_make_no_more_dense(monkeypatch):
    """Products with zeros, which are left out, would be NaN."""
    x = samples()
    monkeypatch.setattr(_sparse, "PIECE", 5 * INPUTS)
    # No sample has a non-zero there.
    x[:, 0] = 0.0
    net = new_net(backend="numba")
    net.params["W1"][0] = np.inf
    prepared = accelnn.prepare(sp.csr_array(x), T, backend="numba")
    assert prepared.kernel_data.sparse
    assert np.isnan(net.engine.evaluate(net.flat, prepared)[0])
    with pytest.warns(accelnn.errors.DivergenceWarning):
        history = accelnn.fit(net, prepared, epochs=1)
    assert len(history.loss) == 1


# The methods of nets: one block of rows after another.

METHODS = {
    "predict": lambda net, x, _: net.predict(x),
    "loss": lambda net, x, t: net.loss(x, t),
    "loss of t by name": lambda net, x, t: net.loss(x, t=t),
    "weighted loss": lambda net, x, t: net.loss(x, t, sample_weight=list(range(N))),
    "accuracy": lambda net, x, t: net.accuracy(x, t),
    "weighted accuracy": lambda net, x, t: net.accuracy(
        x, t, sample_weight=[0] * 20 + list(range(N - 20))
    ),
    "gradient": lambda net, x, t: net.gradient(x, t),
    "weighted gradient": lambda net, x, t: net.gradient(x, t, sample_weight=list(range(N))),
    "dropout": lambda net, x, t: net.gradient(x, t, dropout_key=(1, 2)),
    "numerical gradient": lambda net, x, t: net.numerical_gradient(x, t, step=0.5),
    "black box": lambda net, x, t: net.numerical_gradient(x, t, structured=False, step=0.5),
}


@pytest.mark.parametrize("targets", [T, T.tolist(), np.eye(3)[T]], ids=["labels", "list", "rows"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_methods_of_nets_take_blocks_of_rows(monkeypatch, backend, name, targets):
    net = new_net(backend=backend, dropout=0.5, dtype="float64")
    on_host = backend is not StrictBackend
    if not on_host and not isinstance(targets, list):
        targets = net.backend.asarray(targets)

    def arrays(x):
        found = METHODS[name](net, x, targets)
        found = list(found.values()) if isinstance(found, dict) else [found]
        return [net.backend.to_numpy(a) if net.backend.owns(a) else a for a in found]

    def reference(move):
        return arrays(net.backend.asarray(move(samples())))

    for found, expected in zip(arrays(sp.csc_array(samples())), reference(np.array), strict=True):
        np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr(_sparse, "PIECE", 7 * INPUTS)
    assert_equal_but_for_rounding(arrays(sp.csc_array(samples())), reference)


def test_a_check_of_the_gradient_takes_sparse_samples(monkeypatch):
    monkeypatch.setattr(_sparse, "PIECE", 7 * INPUTS)
    assert new_net().check_gradient(sp.csr_array(samples()), T).passed


def test_the_methods_of_nets_take_no_more_memory_than_a_block():
    x = huge(3_000, 100_000, 6)
    net = accelnn.MLP([x.shape[1], 2, 2], rng=0, backend="numpy")
    assert peak_of(lambda: net.predict(x)) < 2 * _sparse.PIECE * 4


def test_no_sample_at_all():
    net, none = new_net(), sp.csr_array((0, INPUTS))
    assert net.predict(none).shape == (0, 3)
    with pytest.raises(ValueError, match="no samples is undefined"):
        net.loss(none, [])


def test_no_weight_at_all(monkeypatch):
    monkeypatch.setattr(_sparse, "PIECE", 7 * INPUTS)
    with pytest.raises(ValueError, match="0 for every sample"):
        new_net().accuracy(sp.csr_array(samples()), T, sample_weight=np.zeros(N))


# What is refused.


def damaged(**parts):
    x = sp.csr_array(samples())
    for name, value in parts.items():
        setattr(x, name, value)
    return x


def with_value(value):
    x = sp.csr_array(samples())
    x.data[10] = value
    return x


def not_finite_place():
    x = sp.coo_array(sp.csr_array(samples()))
    return rf"x\[{x.coords[0][10]}, {x.coords[1][10]}\] is nan; 1 of {N * INPUTS} values"


WRONG = {
    "too few columns": (sp.csr_array((N, 5)), ValueError, "5 inputs per sample|takes .n, 12"),
    "one axis": (sp.coo_array(np.ones(INPUTS)), ValueError, r"x has shape \(12,\)"),
    "complex": (sp.csr_array(samples()) * 1j, TypeError, "real numbers, got dtype complex128"),
    "index out of range": (
        damaged(indices=np.full(sp.csr_array(samples()).nnz, 99)),
        ValueError,
        "x is a damaged scipy.csr_array: .*indices",
    ),
    "starts out of range": (
        damaged(indptr=np.full(N + 1, 10**6)),
        ValueError,
        "x is a damaged scipy.csr_array",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name):
    x, error, message = WRONG[name]
    net = new_net()
    for call in (net.predict, lambda x: net.loss(x, T), lambda x: accelnn.fit(net, x, T, epochs=1)):
        with pytest.raises(error, match=message):
            call(x)


def test_values_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match=not_finite_place()):
        accelnn.prepare(with_value(np.nan), T)
    with pytest.raises(ValueError, match="beyond the range of float32"):
        accelnn.prepare(with_value(1e300), T)


def test_targets_have_to_fit(monkeypatch):
    monkeypatch.setattr(_sparse, "PIECE", 7 * INPUTS)
    x, net = sp.csr_array(samples()), new_net()
    for call in (net.loss, accelnn.prepare):
        with pytest.raises(ValueError, match=r"t has shape \(3,\).*60"):
            call(x, [0, 1, 2])
    with pytest.raises(ValueError, match="holds the label 7"):
        net.loss(x, np.full(N, 7))


def test_only_samples_may_be_sparse():
    x, t = sp.csr_array(samples()), sp.csr_matrix(np.eye(3)[T])
    for call in (
        lambda: accelnn.fit(new_net(), x, t, epochs=1),
        lambda: new_net().loss(x, t),
        lambda: new_net().loss(samples(), t),
    ):
        with pytest.raises(TypeError, match=r"t is a scipy.csr_matrix, .* pass t.toarray\(\)"):
            call()
    with pytest.raises(TypeError, match=r"x is a scipy.csr_array, .* pass x.toarray\(\)"):
        accelnn.sigmoid(x)


def test_sparse_batches_and_sparse_streams():
    x = sp.csr_array(samples())
    nets = [new_net(), new_net()]
    for net, source in zip(nets, (x, samples()), strict=True):
        accelnn.fit(net, lambda source=source: iter([(source[:20], T[:20])]), epochs=3, rng=0)
    np.testing.assert_array_equal(nets[0].flat, nets[1].flat)
    with pytest.raises(TypeError, match="leave stream=True out"):
        accelnn.prepare(x, T, stream=True)


def test_splits_and_shuffles_are_sparse():
    x = sp.coo_array(samples())
    for found, expected in (
        (accelnn.shuffle_dataset(x, T, rng=0), accelnn.shuffle_dataset(samples(), T, rng=0)),
        *zip(
            accelnn.train_validation_split(x, T, rng=0),
            accelnn.train_validation_split(samples(), T, rng=0),
            strict=True,
        ),
    ):
        assert sp.issparse(found[0])
        np.testing.assert_array_equal(found[0].toarray(), expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
