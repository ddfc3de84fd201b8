"""The ops that the NumPy backend computes its own way, at the borders between the ways."""

import warnings

import numpy as np
import pytest

import accelnn
from accelnn.backends.numpy import FEW, LOWEST, SHORT
from accelnn.formulas._loss import Labels
from accelnn.formulas._table import ACTIVATIONS, LOSSES
from accelnn.testing import StrictBackend

B = accelnn.get_backend("numpy")
DTYPES = ("float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoids_around_where_exponentials_overflow(dtype):
    lowest = LOWEST[np.dtype(dtype)]
    assert np.isfinite(np.exp(np.asarray(-lowest, dtype)))
    x = np.linspace(1.3 * lowest, -lowest, 4_001).astype(dtype)
    expected = 1.0 / (1.0 + np.exp(-x.astype(np.longdouble)))
    finfo = np.finfo(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (x, x[x > lowest]):
            for found in (B.sigmoid(part), B.with_memory("sigmoid")(part.copy(), part.copy())):
                # The exponential is off by one unit, and two operations by a half.
                off = np.abs(found - expected[-part.size :])
                allowed = 4.0 * finfo.eps * expected[-part.size :] + finfo.smallest_subnormal
                assert (off <= allowed).all()


@pytest.mark.parametrize("special", [np.nan, -np.inf, np.inf, -1e4, 1e4])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "softmax"])
def test_results_in_the_memory_of_the_argument(name, special):
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    x[3, 2] = special
    with np.errstate(invalid="ignore"):
        expected = getattr(B, name)(x)
        given = x.copy()
        found = B.with_memory(name)(given, given)
    np.testing.assert_array_equal(found, expected)
    assert name == "sigmoid" or np.shares_memory(found, given) or name == "softmax"
    assert not np.shares_memory(getattr(B, name)(given), given)


@pytest.mark.parametrize("columns", [1, 3, SHORT, SHORT + 1])
@pytest.mark.parametrize("rows", [1, FEW - 1, FEW, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_length(rows, columns, dtype):
    draw = np.random.default_rng(0)
    x = draw.normal(scale=4.0, size=(rows, columns)).astype(dtype)
    wide = x.astype(np.longdouble)
    np.testing.assert_array_equal(B.max(x, -1), x.max(axis=-1))
    np.testing.assert_array_equal(B.max(x, -1, keepdims=True), x.max(axis=-1, keepdims=True))
    e, total, top = B.exponentials(x)
    np.testing.assert_array_equal(top, x.max(axis=-1))
    # x - top is rounded, which the exponential multiplies by it; and so is each of the terms.
    rtol = float(np.finfo(dtype).eps) * (4.0 + np.ptp(wide) + columns)
    expected = np.exp(wide - wide.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(e, expected, rtol=rtol)
    np.testing.assert_allclose(total, expected.sum(axis=-1), rtol=rtol)
    softmax = B.softmax(x)
    assert softmax.flags.c_contiguous
    np.testing.assert_allclose(softmax, expected / expected.sum(-1, keepdims=True), rtol=2 * rtol)


def test_a_maximum_with_nan_is_nan():
    x = np.zeros((20, 5))
    x[7, 3] = np.nan
    np.testing.assert_array_equal(np.isnan(B.max(x, -1)), np.arange(20) == 7)


@pytest.mark.parametrize("rows", [1, 2, 100, 70_000])
@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
def test_sums_of_columns(rows, dtype):
    x = np.random.default_rng(0).integers(-3, 4, size=(rows, 3)).astype(dtype)
    out = np.full(3, np.nan, np.result_type(dtype, np.float32))
    B.sum_into(out, x, 0)
    np.testing.assert_array_equal(out, x.astype(np.float64).sum(axis=0))


@pytest.mark.parametrize("backend", ["numpy", StrictBackend])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32", "uint64"])
@pytest.mark.parametrize("rows", [1, 40])
def test_labels_in_the_place_of_one_hot_rows(backend, dtype, rows):
    b, draw = accelnn.get_backend(backend), np.random.default_rng(0)
    x, labels = draw.normal(size=(rows, 5)), draw.integers(0, 5, rows)
    x[0, (labels[0] + 1) % 5] = np.nan
    on_device = b.asarray(labels.astype(dtype))
    picked = b.to_numpy(b.pick(b.asarray(x), on_device))
    np.testing.assert_array_equal(picked, x[np.arange(rows), labels])
    less = b.to_numpy(b.less_one_hot(b.asarray(x.copy()), on_device))
    np.testing.assert_array_equal(less, x - np.eye(5)[labels])


@pytest.mark.parametrize("backend", ["numpy", "numba", StrictBackend])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_value_and_gradient_together(backend, loss):
    b, draw = accelnn.get_backend(backend), np.random.default_rng(0)
    a, labels = b.asarray(draw.normal(scale=4.0, size=(30, 5))), draw.integers(0, 5, 30)
    rows, ops = b.asarray(np.eye(5)[labels]), b.loss_ops(loss)
    value, grad = (b.to_numpy(array) for array in ops.both(a, rows))
    np.testing.assert_array_equal(value, b.to_numpy(ops.value(a, rows)))
    np.testing.assert_array_equal(grad, b.to_numpy(ops.grad(a, rows)))
    assert ops.takes_labels == (loss.name == "cross_entropy")
    if ops.takes_labels:
        by_label = ops.both(a, Labels(b.asarray(labels)))
        for found, expected in zip(by_label, (value, grad), strict=True):
            np.testing.assert_array_equal(b.to_numpy(found), expected)


@pytest.mark.parametrize("backend", ["numpy", StrictBackend])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_slope_from_the_value_is_that_of_the_argument(backend, name, dtype):
    b = accelnn.get_backend(backend)
    x = np.concatenate([np.linspace(-9.0, 9.0, 1_801), [-1e4, 1e4, -np.inf, np.inf, np.nan]])
    x, ops = b.asarray(x.astype(dtype)), b.activation_ops(ACTIVATIONS[name])
    expected = b.to_numpy(3.0 * ops.slope(x))
    origin = b.with_memory(name)(b.xp.asarray(x, copy=True), None)
    origin = origin if ops.slope_from_value else b.xp.asarray(x, copy=True)
    found = b.to_numpy(ops.times_slope(b.xp.asarray(3.0 * b.xp.ones_like(x), copy=True), origin))
    # A value near 1 has no more digits of its distance from there than of itself.
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=12.0 * float(np.finfo(dtype).eps))


def test_a_subclass_that_changes_an_op_is_asked_for_it():
    class Doubling(type(B)):
        name = "doubling"

        def sigmoid(self, x):
            return 2.0 * super().sigmoid(x)

    doubling = Doubling()
    x = np.ones(3)
    np.testing.assert_array_equal(doubling.with_memory("sigmoid")(x, x), 2.0 * B.sigmoid(x))
    found = doubling.activation_ops(ACTIVATIONS["sigmoid"]).value(x, x)
    np.testing.assert_array_equal(found, 2.0 * B.sigmoid(x))


@pytest.mark.parametrize("most", [1, 50, 200])
@pytest.mark.parametrize("transposed", [False, True])
def test_huge_products_come_some_rows_at_a_time(monkeypatch, most, transposed):
    """Python hears no Ctrl-C within one."""
    from accelnn.backends import numpy as module

    monkeypatch.setattr(module, "MOST_PRODUCTS", most)
    draw, backend = np.random.default_rng(0), accelnn.get_backend("numpy")
    a = draw.normal(size=(6, 5)).T if transposed else draw.normal(size=(5, 6))
    b, out = draw.normal(size=(6, 7)), np.full((5, 7), np.nan)
    expected = a @ b
    tolerance = 8 * 6 * np.finfo(float).eps * np.abs(a).max() * np.abs(b).max()
    backend.matmul_into(out, a, b)
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(backend.matmul(a, b), expected, rtol=0, atol=tolerance)
    memory = np.empty((5, 7))
    assert backend.matmul(a, b, memory) is memory
    np.testing.assert_array_equal(memory, out)
    many = draw.normal(size=(3, 5, 6))
    np.testing.assert_array_equal(backend.matmul(many, b), many @ b)


def test_a_huge_product_is_made_of_several(monkeypatch):
    from accelnn.backends import numpy as module

    calls, usual = [], np.matmul
    monkeypatch.setattr(module, "MOST_PRODUCTS", 100)
    monkeypatch.setattr(np, "matmul", lambda a, b, out: calls.append(a.shape) or usual(a, b, out))
    accelnn.get_backend("numpy").matmul(np.ones((5, 6)), np.ones((6, 7)))
    assert calls == [(2, 6), (2, 6), (1, 6)]
