"""At the edge of a domain the side that is there is taken, and flagged; beyond it there is none."""

import math

import numpy as np
import pytest

import accelnn
from accelnn.gradient import Flag

TWO_SIDED = ("central", "central4", "richardson")
METHODS = (*TWO_SIDED, "forward", "backward", "complex")
_two_sided = pytest.mark.parametrize("method", TWO_SIDED)
# Of one side: the next derivatives of these functions are near 1 at the edge.
TOLERANCE = {"central": 1e-8, "central4": 1e-9, "richardson": 1e-9}


def _undefined(f, is_defined, value=math.nan):
    def outside(x):
        return float(f(x)) if is_defined(x) else value

    return outside


@_two_sided
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [1, -1])
def test_the_side_that_is_there_is_taken(side, value, method):
    """A function that is smooth up to its edge, in one of three coordinates."""
    x = np.array([0.5, 0.0, -0.3])
    f = _undefined(
        lambda x: np.exp(x[1]) + np.sin(x[1]) + x[0] * x[2], lambda x: side * x[1] >= 0.0, value
    )
    found = accelnn.numerical_gradient(f, x, method=method, full_output=True)
    np.testing.assert_allclose(found.gradient, [-0.3, 2.0, 0.5], rtol=0.0, atol=TOLERANCE[method])
    assert found.flags[1] & Flag.ONE_SIDED
    assert not found.flags[[0, 2]].any()
    assert abs(found.gradient[1] - 2.0) <= found.error[1]


@pytest.mark.parametrize("side", [1, -1])
def test_differences_to_one_side_stay_there(side):
    f = _undefined(lambda x: np.exp(x[0]), lambda x: side * x[0] >= 0.0)
    there, away = ("forward", "backward") if side == 1 else ("backward", "forward")
    assert accelnn.numerical_gradient(f, [0.0], method=there)[0] == pytest.approx(1.0, rel=1e-6)
    found = accelnn.numerical_gradient(f, [0.0], method=away, full_output=True)
    assert np.isnan(found.gradient[0])
    assert found.flags[0] & Flag.NOT_FINITE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["array", "list"])
def test_neither_side_is_nan_in_that_coordinate(method, value, kind):
    x = np.array([0.5, 1.0])

    def f(x):
        return x[0] ** 2 + (0.0 if x[1] == 1.0 else value)

    found = accelnn.numerical_gradient(
        f, x if kind == "array" else x.tolist(), method=method, full_output=True
    )
    np.testing.assert_allclose(found.gradient, [1.0, math.nan], rtol=1e-6)
    assert not found.flags[0] & Flag.NOT_FINITE
    assert found.flags[1] & Flag.NOT_FINITE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_function_without_any_value_has_no_derivative(method, value):
    x = np.array([0.5, 1.0])
    found = accelnn.numerical_gradient(lambda x: 0.0 * x[0] + value, x, method=method)
    assert np.isnan(found).all()
    # NaN at x alone leaves a central difference, which never asks for it.
    at_x = accelnn.numerical_gradient(
        lambda x: value if (x == [0.5, 1.0]).all() else np.sum(x**2), x, method=method
    )
    if method in ("forward", "backward"):
        assert np.isnan(at_x).all()


@_two_sided
def test_a_vertical_slope_is_never_a_plain_number(method):
    """Of a square root at 0 there is no derivative, and what is answered is flagged."""
    with np.errstate(invalid="ignore"):
        found = accelnn.numerical_gradient(
            lambda x: np.sum(np.sqrt(x)), np.array([0.0, 1.0]), method=method, full_output=True
        )
    assert found.flags[0]
    assert not found.flags[1] & Flag.NOT_FINITE
    assert found.gradient[1] == pytest.approx(0.5, rel=1e-8)


@_two_sided
def test_jacobians_take_a_side_for_each_value(method):
    with np.errstate(invalid="ignore"):
        found = accelnn.numerical_jacobian(
            lambda x: np.stack([x[0] ** 1.5 + x[0], np.exp(x[0]) + x[1]]),
            np.array([0.0, 2.0]),
            method=method,
        )
    assert np.isfinite(found).all()
    # Of x**1.5 a difference keeps the square root of its step, of two sides nothing else changes.
    np.testing.assert_allclose(found[0], [1.0, 0.0], atol=0.05)
    np.testing.assert_allclose(found[1], [1.0, 1.0], rtol=1e-8)


@pytest.mark.parametrize("method", ["central", "central4", "richardson"])
def test_hessians_and_higher_orders_at_an_edge(method):
    def f(x):
        return math.nan if x[0] < 0.0 else float(np.exp(x[0]) * (1.0 + x[1]))

    found = accelnn.numerical_hessian(f, np.array([0.0, 0.5]), method=method)
    np.testing.assert_allclose(found, [[1.5, 1.0], [1.0, 0.0]], atol=5e-3)
    for order in (1, 2, 3):
        with np.errstate(invalid="ignore"):
            found = accelnn.numerical_diff(
                lambda x: np.where(x < 0.0, np.nan, np.exp(x)),
                np.array([0.0, 0.5]),
                order=order,
                method=method,
                full_output=True,
            )
        np.testing.assert_allclose(found.gradient, np.exp([0.0, 0.5]), atol=10.0 ** (order - 6))
        assert found.flags[0] & Flag.ONE_SIDED
        assert not found.flags[1]


@pytest.mark.parametrize("order", [2, 3])
def test_complex_differences_across_an_edge_are_no_plain_numbers(order):
    """log(-h + ih) has an imaginary part of pi, which no step makes small."""
    x = np.array([1e-6, 1.0])
    found = accelnn.numerical_diff(np.log, x, order=order, method="complex", full_output=True)
    exact = {2: -(x**-2.0), 3: 2.0 * x**-3.0}[order]
    assert found.gradient[1] == pytest.approx(exact[1], rel=1e-6)
    is_right = abs(found.gradient[0] - exact[0]) <= 1e-3 * abs(exact[0])
    assert is_right or found.flags[0]


@_two_sided
@pytest.mark.parametrize("workers", [None, map])
def test_an_edge_in_every_mode(method, workers):
    x = np.array([0.0, 1.0, 2.0])

    def f(x):
        with np.errstate(invalid="ignore"):
            return np.sum(np.where(x < 0.0, np.nan, np.exp(x)), axis=-1)

    serial = accelnn.numerical_gradient(f, x, method=method, workers=workers)
    batched = accelnn.numerical_gradient(f, x, method=method, batched=True)
    closure = accelnn.numerical_gradient(lambda _: f(x), x, method=method)
    for found in (serial, batched, closure):
        np.testing.assert_allclose(found, np.exp(x), rtol=1e-8)
