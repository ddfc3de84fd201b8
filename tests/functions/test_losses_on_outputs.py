"""`cross_entropy_error` and `sum_squared_error` against the formulas of the textbook."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import accelnn

ROWS = [(1,), (5,), (4, 3), (2, 3, 4), (7, 1)]


def _probabilities(shape, seed=0):
    y = np.random.default_rng(seed).uniform(0.01, 1.0, size=shape)
    return y / y.sum(axis=-1, keepdims=True)


def _textbook_cross_entropy(y, t, eps=1e-7):
    """Sum row by row, in Python floats."""
    y = y.reshape(-1, y.shape[-1])
    t = np.asarray(t).reshape(-1)
    terms = [-math.log(float(row[label]) + eps) for row, label in zip(y, t, strict=True)]
    return math.fsum(terms) / len(terms)


@pytest.mark.parametrize("shape", ROWS)
def test_labels_and_one_hot_give_the_textbook_value(shape):
    y = _probabilities(shape)
    t = np.random.default_rng(1).integers(0, shape[-1], size=shape[:-1])
    expected = _textbook_cross_entropy(y, t)
    one_hot = np.eye(shape[-1])[t]
    for targets in (t, one_hot, one_hot.astype(bool), one_hot.astype(np.uint8)):
        assert float(accelnn.cross_entropy_error(y, targets)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint64])
def test_labels_of_every_integer_dtype(dtype):
    y = _probabilities((4, 100))
    t = np.array([0, 99, 7, 50], dtype)
    assert float(accelnn.cross_entropy_error(y, t)) == pytest.approx(_textbook_cross_entropy(y, t))


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-7, 0.1])
def test_eps_is_added_inside_the_logarithm(eps):
    y = [[0.25, 0.75]]
    assert float(accelnn.cross_entropy_error(y, [0], eps=eps)) == pytest.approx(
        -math.log(0.25 + eps), rel=1e-15
    )


def test_eps_keeps_a_zero_probability_finite():
    assert float(accelnn.cross_entropy_error([[0.0, 1.0]], [0])) == pytest.approx(
        -math.log(1e-7), rel=1e-14
    )
    single = accelnn.cross_entropy_error(np.array([[0.0, 1.0]], np.float32), [0])
    assert float(single) == pytest.approx(-math.log(1e-7), rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6),
    seed=st.integers(0, 1000),
)
def test_soft_targets_weigh_the_logarithms(shape, seed):
    y = _probabilities(shape, seed)
    t = np.random.default_rng(seed + 1).uniform(0.0, 2.0, size=shape)
    terms = [
        -weight * math.log(p + 1e-7)
        for p, weight in zip(y.ravel().tolist(), t.ravel().tolist(), strict=True)
    ]
    expected = math.fsum(terms) / math.prod(shape[:-1])
    assert float(accelnn.cross_entropy_error(y, t)) == pytest.approx(expected, rel=1e-12)


def test_one_sample_is_a_mean_over_one():
    y = _probabilities((6,))
    assert float(accelnn.cross_entropy_error(y, 4)) == pytest.approx(-math.log(y[4] + 1e-7))
    assert float(accelnn.cross_entropy_error(y, np.uint8(4))) == float(
        accelnn.cross_entropy_error(y[None], [4])
    )


@pytest.mark.parametrize("label", [-1, 3, 255, -128, 2**40])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_a_label_out_of_range_is_refused_wherever_it_stands(shape, label):
    y = np.full(shape, 1 / 3)
    t = np.zeros(shape[:-1], np.int64)
    t[(-1,) * t.ndim] = label
    with pytest.raises(ValueError, match=rf"holds the label {label}, but outputs of shape"):
        accelnn.cross_entropy_error(y, t)


def test_float_labels_and_bool_labels_are_no_labels():
    y = np.full((2, 3), 1 / 3)
    for t in ([0.0, 1.0], [True, False], np.zeros(2, np.float16)):
        with pytest.raises(ValueError, match=r"class labels of shape \(2,\): t.astype\(int\)$"):
            accelnn.cross_entropy_error(y, t)


def test_three_dimensions_of_probabilities_take_two_of_labels():
    y = _probabilities((2, 3, 4))
    with pytest.raises(ValueError, match=r"t has shape \(6,\) .* outputs of shape \(2, 3, 4\)"):
        accelnn.cross_entropy_error(y, np.zeros(6, np.int64))


def test_nan_comes_through():
    y = np.array([[np.nan, 0.5], [0.5, 0.5]])
    assert math.isnan(accelnn.cross_entropy_error(y, [0, 1]))
    assert math.isnan(accelnn.sum_squared_error(y, np.zeros((2, 2))))
    assert float(accelnn.sum_squared_error([np.inf], [0.0])) == math.inf


@settings(deadline=None, max_examples=60)
@given(
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6).flatmap(
        lambda shape: st.tuples(
            *[hnp.arrays(np.float64, shape, elements=st.floats(-100, 100)) for _ in "yt"]
        )
    )
)
def test_sum_squared_error_is_half_the_exact_sum(pair):
    y, t = pair
    expected = 0.5 * math.fsum((a - b) ** 2 for a, b in zip(y.ravel(), t.ravel(), strict=True))
    assert float(accelnn.sum_squared_error(y, t)) == pytest.approx(expected, rel=1e-13)


def test_sum_squared_error_takes_integers_and_keeps_single_precision():
    assert float(accelnn.sum_squared_error(3, 1)) == 2.0
    y = np.array([1, 2], np.float32)
    assert accelnn.sum_squared_error(y, [0, 4]).dtype == np.float32
    # Unsigned differences would wrap.
    assert float(accelnn.sum_squared_error(np.uint8([1]), np.uint8([3]))) == 2.0


@pytest.mark.parametrize("t", [1.0, [1.0], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_sum_squared_error_broadcasts_nothing(t):
    with pytest.raises(ValueError, match=r"y has shape \(2,\) and t has shape .* must be equal"):
        accelnn.sum_squared_error([1.0, 2.0], t)
