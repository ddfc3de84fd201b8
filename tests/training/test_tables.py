"""Tables and columns of pandas, polars and Arrow give what their arrays of numbers give."""

import tracemalloc

import numpy as np
import pytest

import accelnn
from accelnn._tables import plain

N = 12
pd = pytest.importorskip("pandas")


def columns():
    draw = np.random.default_rng(2)
    return {
        "a": draw.normal(size=N),
        "b": draw.integers(0, 9, N),
        "c": draw.normal(size=N).astype(np.float32),
        "d": draw.integers(0, 2, N).astype(bool),
    }


DENSE = np.column_stack(list(columns().values()))
T = np.arange(N) % 3


def pandas(values):
    return pd.DataFrame(values) if isinstance(values, dict) else pd.Series(values)


def nullable(values):
    return pandas(values).convert_dtypes()


def pandas_on_arrow(values):
    pytest.importorskip("pyarrow")
    return pandas(values).convert_dtypes(dtype_backend="pyarrow")


def polars(values):
    pl = pytest.importorskip("polars")
    return pl.DataFrame(values) if isinstance(values, dict) else pl.Series(values)


def arrow(values):
    pa = pytest.importorskip("pyarrow")
    return (
        pa.table(values) if isinstance(values, dict) else pa.chunked_array([values[:5], values[5:]])
    )


def arrow_batch(values):
    pa = pytest.importorskip("pyarrow")
    return pa.RecordBatch.from_pydict(values) if isinstance(values, dict) else pa.array(values)


class Stream:
    """A table of some other library."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def stream(values):
    return Stream(arrow(values)) if isinstance(values, dict) else arrow(values)


KINDS = [pandas, nullable, pandas_on_arrow, polars, arrow, arrow_batch, stream]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def new_net(**options):
    return accelnn.MLP([4, 5, 3], **{"rng": 0, **options})


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_tables_are_taken_wherever_arrays_are(kind, backend):
    weights = np.linspace(0.0, 2.0, N)
    found = []
    # Products of rows and of columns are rounded differently.
    dense = np.asfortranarray(DENSE)
    for x, t, w in ((kind(columns()), kind(T), kind(weights)), (dense, T, weights)):
        net = new_net(backend=backend)
        history = accelnn.fit(
            net, x, t, validation=(x, t), sample_weight=w, epochs=2, batch_size=5, rng=0
        )
        prepared = accelnn.prepare(x, t, backend=backend)
        found.append(
            [
                net.flat.tobytes(),
                history.loss,
                history.test_loss,
                net.predict(x).tobytes(),
                net.loss(x, t, sample_weight=w),
                net.accuracy(x, t),
                net.gradient(x, t)["W1"].tobytes(),
                net.numerical_gradient(x, t)["W1"].tobytes(),
                net.check_gradient(x, t).passed,
                prepared.x.tobytes(),
                prepared.t.tolist(),
            ]
        )
    assert found[0] == found[1]


def test_one_output_and_targets_as_tables(kind):
    values = np.linspace(-1.0, 1.0, N)
    found = []
    for t in (kind(values), kind({"y": values}), values):
        net = accelnn.MLP([4, 3, 1], loss="sum_squared_error", rng=0)
        accelnn.fit(net, DENSE, t, epochs=1, rng=0)
        found.append(net.flat.tobytes())
    assert found[0] == found[1] == found[2]


def test_shuffles(kind):
    found = accelnn.shuffle_dataset(kind(columns()), kind(T), rng=0)
    for part, expected in zip(found, accelnn.shuffle_dataset(DENSE, T, rng=0), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_splits(kind):
    for (x, t), (x_of_arrays, t_of_arrays) in zip(
        accelnn.train_validation_split(kind(columns()), kind(T), 0.25, rng=0),
        accelnn.train_validation_split(DENSE, T, 0.25, rng=0),
        strict=True,
    ):
        np.testing.assert_array_equal(x, x_of_arrays)
        np.testing.assert_array_equal(t, t_of_arrays)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float16", "float32", "float64", "bool"])
def test_a_common_dtype_stays(kind, dtype):
    if dtype == "float16" and kind in (nullable, pandas_on_arrow, polars):
        pytest.skip("pandas has no such column, and older versions of polars have none")
    values = (np.arange(N) / 4.0).astype(dtype)
    found = plain(kind({"a": values, "b": values}), "x")
    assert (found.shape, found.dtype) == ((N, 2), np.dtype(dtype))
    np.testing.assert_array_equal(found[:, 1], values)


def test_columns_with_one_name_and_rows_in_any_order():
    """Rows are taken by position, as of arrays: labels of rows are not compared."""
    frame = pd.DataFrame(DENSE, columns=["a", "a", "b", "a"], index=np.arange(N)[::-1])
    net = new_net()
    assert net.loss(frame, pd.Series(T)) == net.loss(DENSE, T)
    np.testing.assert_array_equal(net.predict(frame.iloc[::2]), net.predict(DENSE[::2]))


def test_a_table_without_columns_or_rows():
    net = new_net()
    for frame, shape in ((pd.DataFrame(), r"\(0, 0\)"), (pandas(columns()).iloc[:0], r"\(0, 4\)")):
        with pytest.raises(ValueError, match=rf"x has shape {shape}; expected \(n, inputs\)"):
            accelnn.fit(net, frame, [], epochs=1)


def with_column(kind, values):
    return kind({**columns(), "odd one": values})


def test_missing_values_are_refused_with_their_column(kind):
    values = [1.0 if kind is pandas else 1, None] + [2] * (N - 2)
    x = with_column(kind, values)
    message = "column 'odd one' of x has missing values"
    for call in (new_net().predict, lambda x: accelnn.fit(new_net(), x, T, epochs=1)):
        with pytest.raises(ValueError, match=message):
            call(x)
    with pytest.raises(ValueError, match="validation t has missing values"):
        accelnn.fit(new_net(), DENSE, T, validation=(DENSE, kind(values)), epochs=1)


def test_what_is_no_number_is_refused_with_its_column(kind):
    secret = ["secret"] * N
    with pytest.raises(TypeError, match="column 'odd one' of x must hold real numbers") as error:
        new_net().predict(with_column(kind, secret))
    assert "secret" not in str(error.value)
    with pytest.raises(TypeError, match=r"t must .*; names become labels by np.unique\(t, re"):
        accelnn.fit(new_net(), DENSE, kind(secret), epochs=1)
    labels = np.unique(kind(secret), return_inverse=True)[1]
    assert accelnn.fit(new_net(), DENSE, labels, epochs=1).steps == 1


def categories(kind):
    names = ["magenta", "cyan"] * (N // 2)
    if kind is polars:
        pl = pytest.importorskip("polars")
        dtype = pl.Enum(["magenta", "cyan"])
        return pl.DataFrame({"odd one": pl.Series(names, dtype=dtype)}), "to_dummies"
    if kind in (arrow, arrow_batch, stream):
        pa = pytest.importorskip("pyarrow")
        return pa.table({"odd one": pa.array(names).dictionary_encode()}), "pandas.get_dummies"
    return pd.DataFrame({"odd one": pd.Categorical(names)}), "pandas.get_dummies"


def test_categories_are_refused_with_what_to_do(kind):
    x, remedy = categories(kind)
    with pytest.raises(TypeError, match=f"column 'odd one' of x .*0 and 1 by .*{remedy}") as error:
        new_net().predict(x)
    assert "magenta" not in str(error.value)


def test_columns_of_other_kinds_are_refused():
    for values in (
        pd.date_range("2020", periods=N),
        np.array([None] * N),
        np.array([1, 2.5] * (N // 2), object),
        np.ones(N, complex),
    ):
        with pytest.raises(TypeError, match="column 'odd one' of x must hold real numbers"):
            new_net().predict(with_column(pandas, values))
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"x is a polars.LazyFrame.*x.collect\(\)"):
        new_net().predict(pl.LazyFrame(columns()))


def test_a_column_of_pandas_by_itself():
    net = new_net()
    for t in (pd.Series(T, dtype="Int8").array, pd.Index(T), pd.Series(T, dtype="Int8")):
        assert net.loss(DENSE, t) == net.loss(DENSE, T)


@pytest.mark.parametrize("kind", [pandas, polars, arrow], ids=lambda kind: kind.__name__)
def test_no_more_than_two_copies(kind):
    x = kind({f"c{i}": np.ones(100_000) for i in range(20)})
    t, size = np.zeros(100_000, int), 20 * 100_000 * 8
    net = accelnn.MLP([20, 2], dtype="float64", backend="numpy")
    tracemalloc.start()
    accelnn.fit(net, x, t, iters=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.3 * size


def test_a_table_stays_as_it_is(kind):
    x = kind(columns())
    prepared = accelnn.prepare(x, T, dtype="float64")
    assert plain(x, "x").tobytes() == DENSE.tobytes()
    prepared.x[...] = 0.0
    assert plain(x, "x").tobytes() == DENSE.tobytes()


def test_integers_that_numpy_has_not():
    pl = pytest.importorskip("polars")
    if not hasattr(pl, "Int128"):
        pytest.skip("this version of polars has none")
    x = polars(columns()).with_columns(pl.col("b").cast(pl.Int128))
    with pytest.raises(TypeError, match="column 'b' of x must hold real numbers, got dtype Int128"):
        new_net().predict(x)


def test_a_table_is_streamed_as_its_array_is(kind):
    nets = [new_net(), new_net()]
    for net, source in zip(nets, (kind(columns()), DENSE), strict=True):
        accelnn.fit(net, accelnn.prepare(source, T, stream=True), epochs=2, batch_size=5, rng=0)
    np.testing.assert_array_equal(nets[0].flat, nets[1].flat)
