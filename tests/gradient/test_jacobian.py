"""`numerical_jacobian` of functions whose Jacobians are known."""

import numpy as np
import pytest

import accelnn
from accelnn.errors import ImpureFunctionError
from accelnn.gradient import Flag

METHODS = ("central", "forward", "backward", "complex", "richardson")
TOLERANCE = {
    "central": 1e-8,
    "forward": 1e-6,
    "backward": 1e-6,
    "complex": 1e-14,
    "richardson": 1e-11,
}
A = np.random.default_rng(0).normal(size=(2, 3, 4))
X = np.random.default_rng(1).normal(size=4)


def f(x):
    return np.sin(A @ x)


def many(points):
    return np.sin(np.einsum("abn,kn->kab", A, points))


EXPECTED = np.cos(A @ X)[..., None] * A


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("point", [X, X.tolist()], ids=["array", "list"])
def test_values_of_any_shape(method, batched, point):
    found = accelnn.numerical_jacobian(
        many if batched else f, point, method=method, batched=batched
    )
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found, EXPECTED, rtol=TOLERANCE[method], atol=TOLERANCE[method])


@pytest.mark.parametrize("method", METHODS)
def test_points_of_any_shape(method):
    x = X.reshape(2, 2)
    found = accelnn.numerical_jacobian(lambda x: f(x.ravel()), x, method=method)
    assert found.shape == (2, 3, 2, 2)
    tolerance = TOLERANCE[method]
    np.testing.assert_allclose(found.reshape(2, 3, 4), EXPECTED, rtol=tolerance, atol=tolerance)


def test_a_scalar_function_has_its_gradient_as_jacobian():
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(accelnn.numerical_jacobian(lambda x: x[0] * x[1], x), [2.0, 1.0])
    found = accelnn.numerical_jacobian(lambda x: x * np.array([2.0, 3.0]), np.array(5.0))
    np.testing.assert_allclose(found, [2.0, 3.0])


def test_what_is_known_of_it():
    result = accelnn.numerical_jacobian(
        lambda x: np.array([np.abs(x[0]), x[1] ** 3, x[0] + x[1]]),
        np.array([0.0, 2.0]),
        full_output=True,
    )
    expected = [[0.0, 0.0], [0.0, 12.0], [1.0, 1.0]]
    assert result.error.shape == (3, 2)
    assert (np.abs(result.gradient - expected) <= result.error + 1e-15).all()
    np.testing.assert_array_equal(result.flags, [Flag.KINK, 0])
    # f(x), what it reads, two coordinates at three steps each, noise, and f(x) again.
    assert result.nfev == 1 + 2 + 2 * 6 + 6 + 1


@pytest.mark.parametrize("method", ["central", "forward", "complex"])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_a_banded_jacobian_takes_as_many_moves_as_it_has_bands(method, batched, as_sparse):
    n, points = 30, 0

    def banded(x):
        nonlocal points
        points += len(x) if batched else 1
        left, right = np.roll(x, 1, -1), np.roll(x, -1, -1)
        left[..., 0] = right[..., -1] = 0.0
        return x**2 + 3.0 * left - np.sin(right)

    x = np.random.default_rng(2).normal(size=n)
    pattern = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    expected = np.diag(2.0 * x) + 3.0 * np.eye(n, k=-1) - np.diag(np.cos(x[1:]), k=1)
    if as_sparse:
        pattern = pytest.importorskip("scipy.sparse", reason="scipy is not installed").csr_array(
            pattern
        )
    found = accelnn.numerical_jacobian(banded, x, method=method, batched=batched, sparsity=pattern)
    if as_sparse:
        assert found.nnz == 3 * n - 2
        found = found.toarray()
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[method], atol=TOLERANCE[method])
    # f(x), what it reads, the seven that see what a pattern leaves out, and f(x) again; of a batch
    # three points at once tell what is read; for complex steps whether f is analytic.
    once = 4 + 7 + (method == "complex") * 8
    assert points <= once + 3 * (2 if method == "central" else 1)


def test_a_random_pattern_is_grouped_without_collisions():
    draw = np.random.default_rng(3)
    pattern = draw.random((17, 23)) < 0.15
    matrix = np.where(pattern, draw.normal(size=pattern.shape), 0.0)
    x = draw.normal(size=23)
    found = accelnn.numerical_jacobian(lambda x: matrix @ x, x, sparsity=pattern)
    np.testing.assert_allclose(found, matrix, atol=1e-9)


def test_a_sparse_pattern_may_name_a_place_twice():
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    pattern = sparse.coo_array((np.ones(4), ([0, 1, 2, 0], [0, 1, 2, 0])), shape=(3, 3))
    x = np.array([1.0, 2.0, 3.0])
    found = accelnn.numerical_jacobian(lambda x: x**2, x, sparsity=pattern)
    np.testing.assert_allclose(found.toarray(), np.diag(2.0 * x), atol=1e-8)


def test_columns_and_rows_without_entries():
    pattern = np.array([[False, True, False], [False, False, False]])
    found = accelnn.numerical_jacobian(
        lambda x: np.array([x[1] ** 2, 7.0]), np.ones(3), sparsity=pattern
    )
    np.testing.assert_allclose(found, [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-9)


def test_the_pattern_must_fit():
    with pytest.raises(
        ValueError, match=r"sparsity has shape \(3, 2\), but f has 2 values and x has 3"
    ):
        accelnn.numerical_jacobian(lambda x: x[:2], np.ones(3), sparsity=np.ones((3, 2)))
    for options in ({"method": "richardson"}, {"full_output": True}):
        with pytest.raises(ValueError, match="with sparsity"):
            accelnn.numerical_jacobian(lambda x: x, np.ones(3), sparsity=np.eye(3), **options)


def test_shapes_may_not_change():
    x = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"f returned shape \(2,\) at one point .* shape \(1,\)"):
        accelnn.numerical_jacobian(lambda x: x[: 1 + (x[0] == 1.0)], x)


def test_no_coordinates_and_no_values():
    assert accelnn.numerical_jacobian(lambda _: np.ones(3), np.zeros(0)).shape == (3, 0)
    assert accelnn.numerical_jacobian(lambda _: np.ones(0), np.ones(2)).shape == (0, 2)


@pytest.mark.parametrize("batched", [False, True])
def test_closures_are_refused_where_a_copy_is_moved(batched):
    x = np.array([1, 2])
    with pytest.raises(ImpureFunctionError):
        accelnn.numerical_jacobian(
            lambda p: np.stack([1.0 * x] * len(p)) if batched else 1.0 * x, x, batched=batched
        )


def test_a_closure_over_x_is_right_where_x_is_moved():
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(
        accelnn.numerical_jacobian(lambda _: x**2, x), np.diag([2.0, 4.0]), atol=1e-9
    )
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_steps_of_the_shape_of_x_with_a_pattern():
    x, step = np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 0.5)
    found = accelnn.numerical_jacobian(lambda x: x**3, x, step=step, sparsity=np.eye(4))
    np.testing.assert_allclose(np.diag(found), 3.0 * x.ravel() ** 2 + 0.25)


@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward", "complex"])
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_a_right_pattern_is_not_refused_where_terms_of_f_cancel(method, size):
    """Entries of a millionth are known to a hundredth only, where f rounds terms of 1."""
    for seed in range(20):
        draw = np.random.default_rng(seed)
        pattern = draw.random((9, 11)) < 0.3
        matrix = size * np.where(pattern, draw.normal(size=pattern.shape), 0.0)
        x = draw.normal(size=11)
        found = accelnn.numerical_jacobian(
            lambda x, a=matrix: np.exp(a @ x) - 1.0, x, method=method, sparsity=pattern
        )
        expected = np.exp(matrix @ x)[:, None] * matrix
        # Rounding of terms near 1, or near exp(5), at a step to one side.
        atol = 1e-7 if size < 1.0 else 1e-5 * np.exp(matrix @ x).max()
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=atol)


@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward", "complex"])
@pytest.mark.parametrize("batched", [False, True])
def test_a_pattern_that_is_too_small_is_refused(method, batched):
    def f(x):
        return np.stack([3.0 * x[..., 0] + 2.0 * x[..., 1], x[..., 1]], axis=-1)

    x = np.array([1.0, 2.0])
    with pytest.raises(
        ValueError, match=r"sparsity leaves out nonzero derivatives: .* row 0 add up"
    ):
        accelnn.numerical_jacobian(f, x, method=method, sparsity=np.eye(2), batched=batched)


def test_one_entry_that_is_missing_among_many_is_enough():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        matrix = np.where(draw.random((30, 40)) < 0.2, draw.normal(size=(30, 40)), 0.0)
        pattern = matrix != 0.0
        rows, columns = np.nonzero(np.abs(matrix) > 0.1)
        i = draw.integers(len(rows))
        pattern[rows[i], columns[i]] = False
        with pytest.raises(ValueError, match=f"of row {rows[i]} add up"):
            accelnn.numerical_jacobian(
                lambda x, a=matrix: a @ x, draw.normal(size=40), sparsity=pattern
            )
