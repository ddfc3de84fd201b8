"""Products of Jacobians and Hessians with a vector."""

import numpy as np
import pytest

import accelnn
from accelnn.errors import ImpureFunctionError
from accelnn.gradient import Flag

DIFFERENCES = ("central", "central4", "forward", "backward", "richardson")
METHODS = (*DIFFERENCES, "complex")
_every_method = pytest.mark.parametrize("method", METHODS)
# First and second derivatives near 10, at their default steps.
FIRST = {"central": 1e-8, "central4": 1e-10, "forward": 3e-6, "backward": 3e-6}
SECOND = {"central": 1e-5, "central4": 1e-7, "forward": 1e-3, "backward": 1e-3, "complex": 1e-7}
MATRIX = np.random.default_rng(0).normal(size=(2, 3, 5))
X = np.random.default_rng(1).normal(size=5)
V = np.random.default_rng(2).normal(size=5)
W = np.random.default_rng(3).normal(size=5)


def f(x):
    return np.sin(np.einsum("abn,...n->...ab", MATRIX, x))


def jacobian(x):
    return np.cos(MATRIX @ x)[..., None] * MATRIX


def scalar(x):
    return np.exp(x @ W) + np.sum(x**3, axis=-1)


def gradient(x):
    return np.exp(x @ W) * W + 3.0 * x**2


def hessian(x):
    return np.exp(x @ W) * np.outer(W, W) + np.diag(6.0 * x)


@_every_method
@pytest.mark.parametrize("options", [{}, {"batched": True}, {"workers": map}])
@pytest.mark.parametrize("length", [1.0, 1e-150, 1e150])
def test_a_jacobian_times_a_vector_of_any_length(method, options, length):
    found = accelnn.numerical_jvp(f, X, length * V, method=method, **options)
    assert found.shape == (2, 3)
    tolerance = FIRST.get(method, 1e-11)
    np.testing.assert_allclose(found / length, jacobian(X) @ V, rtol=0.0, atol=20.0 * tolerance)


@pytest.mark.parametrize(
    ("method", "calls"), [("central", 2), ("central4", 4), ("forward", 1), ("backward", 1)]
)
@pytest.mark.parametrize("n", [5, 5000])
def test_evaluations_do_not_depend_on_the_size_of_x(method, calls, n):
    count = 0

    def counted(x):
        nonlocal count
        count += 1
        return np.sum(x**2)

    accelnn.numerical_jvp(counted, np.ones(n), np.ones(n), method=method)
    # f(x), its argument moved, x moved, and f(x).
    assert count == calls + 4
    count = 0
    accelnn.numerical_hvp(None, np.ones(n), np.ones(n), grad=lambda x: counted(x) * 0 + 2 * x)
    assert count == 2 + 4


@_every_method
def test_what_is_known_of_a_product(method):
    found = accelnn.numerical_jvp(f, X, V, method=method, full_output=True)
    expected = jacobian(X) @ V
    assert (np.abs(found.gradient - expected) <= found.error + 4e-16 * np.abs(expected)).all()
    assert found.error.shape == (2, 3)
    assert not found.flags.any()


@_every_method
@pytest.mark.parametrize("options", [{}, {"batched": True}, {"workers": map}])
def test_a_hessian_times_a_vector(method, options):
    expected = hessian(X) @ V
    found = accelnn.numerical_hvp(scalar, X, V, method=method, **options)
    tolerance = 20.0 * SECOND.get(method, 1e-9)
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=tolerance)


@_every_method
@pytest.mark.parametrize("length", [1.0, 1e-150, 1e150])
def test_a_hessian_times_a_vector_by_the_gradient(method, length):
    found = accelnn.numerical_hvp(None, X, length * V, grad=gradient, method=method)
    tolerance = 50.0 * FIRST.get(method, 1e-11)
    np.testing.assert_allclose(found / length, hessian(X) @ V, rtol=0.0, atol=tolerance)


def test_points_of_any_shape():
    x, v = X[:4].reshape(2, 2), V[:4].reshape(2, 2)
    found = accelnn.numerical_jvp(lambda x: np.ravel(x) ** 2, x, v)
    np.testing.assert_allclose(found, 2.0 * np.ravel(x * v), atol=1e-8)
    for options in ({}, {"grad": lambda x: 3.0 * x**2}):
        found = accelnn.numerical_hvp(lambda x: np.sum(x**3), x, v, **options)
        np.testing.assert_allclose(found, 6.0 * x * v, atol=1e-4)
    assert accelnn.numerical_jvp(lambda x: x**2, 3.0, 2.0) == pytest.approx(12.0)
    assert accelnn.numerical_hvp(lambda x: x**3, 3.0, 2.0) == pytest.approx(36.0, rel=1e-5)


def test_a_vector_of_zeros_and_points_without_coordinates():
    np.testing.assert_array_equal(accelnn.numerical_jvp(f, X, 0 * V), np.zeros((2, 3)))
    np.testing.assert_array_equal(accelnn.numerical_hvp(scalar, X, 0 * V), np.zeros(5))
    found = accelnn.numerical_hvp(None, X, 0 * V, grad=gradient)
    np.testing.assert_array_equal(found, np.zeros(5))
    empty = np.zeros(0)
    assert accelnn.numerical_hvp(lambda _: 1.0, empty, empty).shape == (0,)
    np.testing.assert_array_equal(accelnn.numerical_jvp(lambda _: np.ones(2), empty, empty), [0, 0])


def test_a_given_step_is_that_along_v():
    seen = []

    def recorded(x):
        seen.append(x.copy())
        return np.sum(x**3)

    found = accelnn.numerical_jvp(recorded, [1.0, 2.0], [1.0, -1.0], step=0.5)
    np.testing.assert_allclose(seen[2:4], [[1.5, 1.5], [0.5, 2.5]])
    assert found == pytest.approx(3.0 - 12.0)


@pytest.mark.parametrize("v", [np.ones(4), np.ones((5, 1)), 1.0, {"x": np.ones(5)}])
def test_v_must_be_like_x(v):
    for product in (accelnn.numerical_jvp, accelnn.numerical_hvp):
        with pytest.raises(ValueError, match="v must have the form of x"):
            product(scalar, X, v)


@pytest.mark.parametrize("wrong", [np.ones(4), np.ones((5, 5)), 1.0])
def test_a_gradient_of_another_size_is_refused(wrong):
    with pytest.raises(ValueError, match=r"grad\(x\) has shape"):
        accelnn.numerical_hvp(None, X, V, grad=lambda x: wrong * x[0])


@pytest.mark.parametrize("method", DIFFERENCES)
def test_bounds_are_never_left(method):
    def inside(x):
        assert ((x >= 0.0) & (x <= 1.0)).all()
        return np.sum(np.exp(x))

    x, v = np.array([0.0, 0.5, 1.0]), np.array([1.0, 1.0, -1.0])
    options = {"method": method, "bounds": (0.0, 1.0)}
    found = accelnn.numerical_jvp(inside, x, v, full_output=True, **options)
    assert found.gradient == pytest.approx(np.exp(x) @ v, abs=1e-5)
    second = accelnn.numerical_hvp(inside, x, v, **options)
    np.testing.assert_allclose(second, np.exp(x) * v, atol=5e-3)


@pytest.mark.parametrize("method", DIFFERENCES)
def test_coordinates_without_room_are_as_in_the_jacobian_and_the_hessian(method):
    x, v = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])
    options = {"method": method, "bounds": ([0.0, 2.0, 0.0], [5.0, 2.0, 5.0])}

    def cubes(x):
        return np.sum(x**3) + x[0] * x[1]

    jacobian = accelnn.numerical_jacobian(cubes, x, **options)
    found = accelnn.numerical_jvp(cubes, x, v, **options)
    np.testing.assert_allclose(found, jacobian @ v, rtol=1e-5)
    hessian = accelnn.numerical_hessian(cubes, x, **options)
    found = accelnn.numerical_hvp(cubes, x, v, **options)
    np.testing.assert_allclose(found, hessian @ v, atol=5e-3)
    assert found[1] == 0.0


def test_closures_are_moved_in_place_and_refused_elsewhere():
    x, v = X.copy(), V
    product = accelnn.numerical_jvp(lambda _: f(x), x, v)
    np.testing.assert_allclose(product, jacobian(X) @ v, atol=1e-6)
    product = accelnn.numerical_hvp(lambda _: scalar(x), x, v)
    np.testing.assert_allclose(product, hessian(X) @ v, atol=1e-3)
    product = accelnn.numerical_hvp(None, x, v, grad=lambda _: gradient(x))
    np.testing.assert_allclose(product, hessian(X) @ v, atol=1e-6)
    np.testing.assert_array_equal(x, X)
    with pytest.raises(ImpureFunctionError):
        accelnn.numerical_jvp(lambda _: f(x), x, v, workers=map)


def test_a_function_that_loses_imaginary_parts_is_refused_along_v():
    for product in (accelnn.numerical_jvp, accelnn.numerical_hvp):
        with pytest.raises(ValueError, match="does not compute with complex numbers"):
            product(lambda x: np.sum(np.abs(x) ** 3), X, V, method="complex")


def test_a_kink_and_an_edge_along_v_are_flagged():
    found = accelnn.numerical_jvp(
        lambda x: np.sum(np.abs(x)), np.zeros(2), [1.0, 2.0], full_output=True
    )
    assert (found.flags & Flag.KINK).all()
    with np.errstate(invalid="ignore"):
        found = accelnn.numerical_jvp(
            lambda x: np.sum(x**1.5), np.zeros(2), [1.0, 2.0], full_output=True
        )
    assert (found.flags & Flag.ONE_SIDED).all()


def test_single_precision_keeps_its_dtype():
    x, v = X.astype(np.float32), V.astype(np.float32)
    found = accelnn.numerical_jvp(lambda x: f(x).astype(np.float32), x, v)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, jacobian(X) @ V, atol=1e-2)
    found = accelnn.numerical_hvp(None, x, v, grad=lambda x: gradient(x).astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, hessian(X) @ V, rtol=1e-2, atol=5e-2)
