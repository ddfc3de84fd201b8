"""Subclasses of ``numpy.ndarray``: computed on as plain arrays, or refused."""

import warnings

import numpy as np
import pytest

import accelnn

X = np.array([[1.0, 2.0], [3.0, 4.0]])
T = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.fixture
def matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(X)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_matrix_is_an_array_of_numbers(matrix, backend):
    def same(function, *arguments):
        plain = function(X, *arguments, backend=backend)
        np.testing.assert_array_equal(function(matrix, *arguments, backend=backend), plain)

    same(accelnn.sum_squared_error, T)
    same(accelnn.cross_entropy_error, T)
    for name in ("softmax", "log_softmax", "tanh_grad", "sigmoid"):
        same(getattr(accelnn, name))
    net = accelnn.MLP([2, 3, 2], rng=0, backend=backend)
    assert net.loss(matrix, T) == net.loss(X, T)


def test_a_matrix_is_differentiated_in_place(matrix):
    expected = 2.0 * X
    gradient = accelnn.numerical_gradient(lambda _: np.sum(np.asarray(matrix) ** 2), matrix)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)
    assert accelnn.check_gradient(lambda x: np.sum(np.asarray(x) ** 2), expected, matrix).passed


def test_a_masked_array_is_refused():
    masked = np.ma.masked_less(X, 2.0)
    net = accelnn.MLP([2, 3, 2], rng=0)
    for use in (
        lambda: accelnn.sigmoid(masked),
        lambda: net.predict(masked),
        lambda: accelnn.fit(net, masked, [0, 1], epochs=1),
        lambda: accelnn.numerical_gradient(np.sum, masked),
    ):
        with pytest.raises(TypeError, match=r"x is a masked array.*use x\.filled"):
            use()
