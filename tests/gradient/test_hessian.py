"""`numerical_hessian` of functions whose Hessians are known."""

import numpy as np
import pytest

import accelnn
from accelnn.gradient import Flag

METHODS = ("central", "forward", "backward", "complex", "richardson")
TOLERANCE = {
    "central": 1e-5,
    "forward": 1e-3,
    "backward": 1e-3,
    "complex": 1e-8,
    "richardson": 1e-8,
}


def _exponential(x):
    return np.exp(x[..., 0] * x[..., 1]) + x[..., 2] ** 3 * x[..., 0]


def _of_exponential(x):
    a, b, c = x
    e = np.exp(a * b)
    return np.array(
        [
            [b * b * e, e + a * b * e, 3.0 * c**2],
            [e + a * b * e, a * a * e, 0.0],
            [3.0 * c**2, 0.0, 6.0 * c * a],
        ]
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("point", ["array", "list"])
def test_a_function_of_three_variables(method, batched, point):
    x = np.array([0.7, -0.4, 1.3])
    given = x if point == "array" else x.tolist()
    found = accelnn.numerical_hessian(_exponential, given, method=method, batched=batched)
    tolerance = TOLERANCE[method]
    np.testing.assert_allclose(found, _of_exponential(x), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("method", METHODS)
def test_a_quadratic_form_of_any_shape(method):
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(6, 6))
    matrix += matrix.T
    x = draw.normal(size=(2, 3))
    found = accelnn.numerical_hessian(
        lambda x: 0.5 * x.reshape(-1) @ matrix @ x.reshape(-1), x, method=method
    )
    assert found.shape == (2, 3, 2, 3)
    tolerance = TOLERANCE[method]
    np.testing.assert_allclose(found.reshape(6, 6), matrix, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("method", "evaluations"),
    [("central", 30), ("central4", 60), ("forward", 30), ("backward", 30), ("complex", 30)],
)
def test_evaluations_of_five_coordinates(method, evaluations):
    """Two points, of central4 four, for each of 15 entries, and f(x) and what f reads.

    For complex steps also five first derivatives, and whether f is analytic.
    """
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        return np.sum(x**3)

    x, extra = np.arange(1.0, 6.0), 4 + (method == "complex") * (5 + 2)
    accelnn.numerical_hessian(f, x, method=method)
    assert evaluations <= calls <= evaluations + extra
    calls = 0
    accelnn.numerical_hessian(f, x, method=method, diagonal=True)
    assert evaluations / 3 <= calls <= evaluations / 3 + extra


@pytest.mark.parametrize("method", ["central", "forward", "complex", "richardson"])
def test_what_is_known_of_it(method):
    x = np.array([0.7, -0.4, 1.3])
    result = accelnn.numerical_hessian(_exponential, x, method=method, full_output=True)
    assert (np.abs(result.gradient - _of_exponential(x)) <= result.error).all()
    assert result.error.shape == (3, 3)
    assert result.flags.shape == (3,)
    assert not result.flags.any()


def test_an_error_estimate_where_f_is_zero():
    """The last place of f(x) is worth nothing there, that of its neighbours is."""
    x = np.array([0.3, 0.7])
    for method in ("central", "complex"):
        result = accelnn.numerical_hessian(
            lambda x: np.exp(x[0] * x[1]) - np.exp(0.21), x, method=method, full_output=True
        )
        e = np.exp(0.21)
        expected = e * np.array([[0.49, 1.21], [1.21, 0.09]])
        assert (np.abs(result.gradient - expected) <= result.error).all()


def test_a_step_that_vanishes_is_refused():
    with pytest.raises(ValueError, match="step 1e-50 is too small"):
        accelnn.numerical_hessian(lambda x: np.sum(x**3), np.ones(2), step=1e-50)


def test_a_linear_function_in_float32():
    x = np.array([1.1, 2.3], np.float32)
    for method in ("central", "forward"):
        found = accelnn.numerical_hessian(
            lambda x: x.astype(float) @ np.array([1e3, 1e3]), x, method=method
        )
        np.testing.assert_allclose(found, np.zeros((2, 2)), atol=1e-3)


@pytest.mark.parametrize("room", [1.0, 1e-4])
@pytest.mark.parametrize("at", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_bounds_are_never_left(method, at, room):
    at *= room

    def f(x):
        assert ((x >= 0.0) & (x <= room)).all()
        return np.exp(x[0]) * np.sin(x[1]) + x[2] ** 2

    x = np.array([at, 0.5 * room, at])
    result = accelnn.numerical_hessian(f, x, method=method, bounds=(0.0, room), full_output=True)
    e, s, c = np.exp(at), np.sin(0.5 * room), np.cos(0.5 * room)
    expected = [[e * s, e * c, 0.0], [e * c, -e * s, 0.0], [0.0, 0.0, 2.0]]
    np.testing.assert_allclose(result.gradient, expected, atol=5e-3 if room == 1.0 else 0.5)
    if method == "central" and room == 1.0:
        one_sided = Flag.ONE_SIDED if at != 0.5 else 0
        np.testing.assert_array_equal(result.flags, [one_sided, 0, one_sided])


def test_bounds_of_methods_that_know_none():
    with pytest.raises(ValueError, match="support no bounds; use method='central'"):
        accelnn.numerical_hessian(np.sum, np.ones(2), method="complex", bounds=(0.0, 2.0))


def test_a_closure_and_single_coordinates():
    x = np.array([3.0])
    found = accelnn.numerical_hessian(lambda _: x[0] ** 4, x)
    np.testing.assert_allclose(found, [[108.0]], rtol=1e-5)
    assert x[0] == 3.0
    assert accelnn.numerical_hessian(lambda x: x**2, 3.0).shape == ()
    assert accelnn.numerical_hessian(lambda _: 1.0, np.zeros(0)).shape == (0, 0)


def test_complex_steps_in_single_precision_do_not_underflow():
    x = np.array([1.0, 2.0], np.float32)
    found = accelnn.numerical_hessian(
        lambda x: np.float32(1e-12) * x[0] ** 2 * x[1], x, method="complex"
    )
    np.testing.assert_allclose(found, 1e-12 * np.array([[4.0, 2.0], [2.0, 0.0]]), rtol=1e-3, atol=0)
