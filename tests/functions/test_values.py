"""The functions against formulas written down independently, in longer precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accelnn

BACKENDS = ("numpy", "numba")
EPS32 = np.finfo(np.float32).eps
ELEMENTWISE = {
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(x / 2.0)),
    "sigmoid_grad": lambda x: 0.25 / np.cosh(x / 2.0) ** 2,
    "relu": lambda x: 0.5 * (x + np.abs(x)),
    "relu_grad": lambda x: np.heaviside(x, 0.0),
    "step_function": lambda x: np.where(x > 0, 1.0, 0.0),
    "tanh": lambda x: (np.exp(2 * x) - 1.0) / (np.exp(2 * x) + 1.0),
    "tanh_grad": lambda x: 1.0 - np.tanh(x) ** 2,
    "identity": lambda x: x,
    "identity_function": lambda x: x,
}
ROWS = {
    "softmax": lambda x: 1.0 / np.exp(x[..., None, :] - x[..., :, None]).sum(axis=-1),
    "log_softmax": lambda x: -np.log(np.exp(x[..., None, :] - x[..., :, None]).sum(axis=-1)),
}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ROW_SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=20)


def _arrays(shapes, bound=30.0):
    elements = st.floats(-bound, bound, width=32)
    return st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=elements)
    )


def _check(name, reference, x, backend):
    before = x.copy()
    actual = getattr(accelnn, name)(x, backend=backend)
    expected = np.asarray(reference(x.astype(np.longdouble)), np.float64)
    assert actual.shape == expected.shape
    assert actual.dtype == x.dtype
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(actual, expected, rtol=64 * eps, atol=16 * eps)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(deadline=None, max_examples=60)
@given(x=_arrays(SHAPES))
def test_elementwise(name, backend, x):
    _check(name, ELEMENTWISE[name], x, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ROWS)
@settings(deadline=None, max_examples=60)
@given(x=_arrays(ROW_SHAPES))
def test_along_classes(name, backend, x):
    _check(name, ROWS[name], x, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=60)
@given(x=_arrays(ROW_SHAPES, bound=1000.0), shift=st.integers(-1000, 1000))
def test_softmax_is_a_distribution_that_a_shift_leaves_alone(backend, x, shift):
    x = np.round(x)  # so that the shift is exact
    y = accelnn.softmax(x, backend=backend)
    eps = np.finfo(x.dtype).eps
    assert (y >= 0.0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1.0, rtol=x.shape[-1] * 4 * eps)
    np.testing.assert_array_equal(accelnn.softmax(x + x.dtype.type(shift), backend=backend), y)
    log_y = accelnn.log_softmax(x, backend=backend)
    assert np.isfinite(log_y).all()
    np.testing.assert_allclose(np.exp(log_y), y, rtol=1000 * eps, atol=np.finfo(x.dtype).tiny)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*ELEMENTWISE, *ROWS])
def test_half_precision_stays_half_and_is_right(name, backend):
    x = np.linspace(-8.0, 8.0, 60, dtype=np.float16).reshape(6, 10)
    actual = getattr(accelnn, name)(x, backend=backend)
    expected = (ELEMENTWISE | ROWS)[name](x.astype(np.float64))
    assert actual.dtype == np.float16
    np.testing.assert_allclose(actual, expected, rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_in_half_precision(backend):
    y = accelnn.softmax(np.linspace(-3, 3, 12, dtype=np.float16).reshape(3, 4), backend=backend)
    wide = y.astype(np.float64)
    entropy = accelnn.cross_entropy_error(y, [0, 1, 3], backend=backend)
    expected = -np.log(wide[[0, 1, 2], [0, 1, 3]] + 1e-7).mean()
    assert entropy.dtype == np.float16
    assert float(entropy) == pytest.approx(expected, rel=4e-3)
    squares = accelnn.sum_squared_error(y, np.ones_like(y), backend=backend)
    assert squares.dtype == np.float16
    assert float(squares) == pytest.approx(0.5 * ((wide - 1.0) ** 2).sum(), rel=4e-3)


@pytest.mark.parametrize("name", [*ELEMENTWISE, *ROWS])
def test_bools_count_as_zero_and_one(name):
    function = getattr(accelnn, name)
    actual = function([[True, False, True]])
    assert actual.dtype == np.float64
    np.testing.assert_array_equal(actual, function([[1.0, 0.0, 1.0]]))


@pytest.mark.parametrize("name", ["sigmoid_grad", "relu_grad", "tanh_grad"])
def test_each_grad_is_the_derivative_of_its_function(name):
    x = np.linspace(-6.0, 6.0, 41)
    x = x[x != 0.0]
    slope = accelnn.numerical_diff(getattr(accelnn, name.removesuffix("_grad")), x)
    np.testing.assert_allclose(getattr(accelnn, name)(x), slope, rtol=1e-8, atol=1e-10)


def test_the_derivative_of_relu_at_its_kink_is_zero_by_convention():
    assert float(accelnn.relu_grad(0.0)) == 0.0
    assert float(accelnn.relu_grad(-0.0)) == 0.0
    assert float(accelnn.relu_grad(np.nextafter(0.0, 1.0))) == 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*ELEMENTWISE, *ROWS])
def test_any_layout_gives_the_same_and_is_left_alone(name, backend):
    function = getattr(accelnn, name)
    base = np.random.default_rng(3).normal(size=(8, 9)).astype(np.float32)
    expected = function(base.copy(), backend=backend)
    frozen = base.copy()
    frozen.flags.writeable = False
    wide = np.zeros((16, 27), np.float32)
    wide[::2, ::3] = base
    for x in (frozen, np.asfortranarray(base), wide[::2, ::3], base[::-1, ::-1].copy()[::-1, ::-1]):
        before = x.copy()
        # The order of the sum may follow the layout.
        np.testing.assert_allclose(function(x, backend=backend), expected, rtol=4 * EPS32)
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softmax", "identity"])
def test_what_comes_back_is_at_home_at_the_caller(name):
    x = np.array([1.0, -2.0, 3.0])
    y = getattr(accelnn, name)(x)
    assert type(y) is np.ndarray
    assert y.flags.writeable
