"""Derivatives of order 1 to 4, and how the error of each method shrinks with its step."""

import dataclasses
import math

import numpy as np
import pytest

import accelnn
from accelnn import _differences
from accelnn.gradient import Flag

EPS = 2.0**-52
METHODS = ("central", "central4", "forward", "backward", "complex", "richardson")
ACCURACY = {"central": 2, "central4": 4, "forward": 1, "backward": 1, "complex": 2}
ORDERS = (1, 2, 3, 4)
X = np.linspace(-2.0, 2.0, 9)

# f, and its k-th derivative; all that are of order 1 at the points.
KNOWN = {
    "exp": (np.exp, lambda x, _: np.exp(x)),
    "sin": (np.sin, lambda x, k: np.sin(x + k * np.pi / 2)),
    "quintic": (
        lambda x: x**5,
        lambda x, k: np.prod(np.arange(5.0, 5.0 - k, -1.0)) * x ** (5 - k),
    ),
    "1 / (5 + x)": (
        lambda x: 1.0 / (5.0 + x),
        lambda x, k: (-1.0) ** k * np.prod(np.arange(1.0, k + 1)) / (5.0 + x) ** (k + 1),
    ),
}


def bound(method, order):
    """What is left at the step that balances truncation and rounding.

    Both are eps**(p / (order + p)), times constants of the weights, the next derivatives and the
    size of f, which are below 100 here; one of the orders is imaginary and exact.
    """
    if method == "complex":
        order -= 1
    if method == "richardson":
        return 10.0 ** (order - 1) * 1e-11
    if order == 0:
        return 1e-14
    p = ACCURACY[method]
    return 100.0 * EPS ** (p / (order + p))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", KNOWN)
def test_closed_forms(name, order, method):
    f, derivative = KNOWN[name]
    expected = derivative(X, order)
    found = accelnn.numerical_diff(f, X, order=order, method=method, full_output=True)
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found.gradient, expected, rtol=0.0, atol=bound(method, order) * size)
    assert (np.abs(found.gradient - expected) <= found.error + 4 * EPS * size).all()
    assert not found.flags.any()
    plain = accelnn.numerical_diff(f, X, order=order, method=method)
    np.testing.assert_array_equal(plain, found.gradient)


@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_error_shrinks_with_the_power_of_the_step(order, method):
    x = np.array([0.5, -0.25])
    # Long enough for rounding not to count, and short enough for the next term not to.
    step = {1: 0.02, 2: 0.04, 3: 0.08, 4: 0.1}[order] * (4.0 if method == "central4" else 0.5)
    errors = [
        accelnn.numerical_diff(np.exp, x, order=order, method=method, step=h) - np.exp(x)
        for h in (step, step / 2)
    ]
    power = ACCURACY[method]
    np.testing.assert_allclose(np.log2(np.abs(errors[0] / errors[1])), power, atol=0.2)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_complex_steps_of_higher_order_shrink_with_the_square_of_the_step(order):
    errors = [
        float(accelnn.numerical_diff(np.exp, 0.5, order=order, method="complex", step=h))
        - np.exp(0.5)
        for h in (0.1, 0.05)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ORDERS)
def test_polynomials_of_a_lower_degree_have_derivative_zero(order, method):
    for degree in range(order):
        found = accelnn.numerical_diff(
            lambda x, d=degree: 1.0 * x**d, X, order=order, method=method, full_output=True
        )
        np.testing.assert_allclose(found.gradient, 0.0, atol=100.0 * bound(method, order))
        assert (np.abs(found.gradient) <= found.error + 1e-15).all()


@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward", "richardson"])
@pytest.mark.parametrize("order", ORDERS)
def test_bounds_are_never_left_by_any_order(order, method):
    def f(x):
        assert ((x >= 0.0) & (x <= 2.0)).all()
        return np.exp(x)

    x = np.array([0.0, 1.0, 2.0, 1e-4])
    found = accelnn.numerical_diff(
        f, x, order=order, method=method, bounds=(0.0, 2.0), full_output=True
    )
    # On one side the next derivatives and the weights count for more.
    tolerance = 30.0 * bound(method, order) * np.exp(2.0)
    np.testing.assert_allclose(found.gradient, np.exp(x), rtol=0.0, atol=tolerance)
    assert (np.abs(found.gradient - np.exp(x)) <= 3.0 * found.error).all()


@pytest.mark.parametrize("order", [0, 5, -1, 1.5, True])
def test_no_other_order(order):
    with pytest.raises((ValueError, TypeError), match="order must be"):
        accelnn.numerical_diff(np.exp, 1.0, order=order)


def test_a_row_of_the_table_is_a_method_of_every_door(monkeypatch):
    """Of sixth order, which nothing else knows of."""
    row = dataclasses.replace(_differences.METHODS["central4"], accuracy=6)
    monkeypatch.setitem(_differences.METHODS, "central6", row)
    x = np.array([0.5, -0.25])

    def f(x):
        return np.sum(np.exp(x), axis=-1)

    errors = [
        accelnn.numerical_gradient(f, x, method="central6", step=h) - np.exp(x) for h in (0.4, 0.2)
    ]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), 6.0, atol=0.2)
    expected = np.diag(np.exp(x))
    jacobian = accelnn.numerical_jacobian(np.exp, x, method="central6")
    np.testing.assert_allclose(jacobian, expected, atol=1e-11)
    hessian = accelnn.numerical_hessian(f, x, method="central6", batched=True)
    np.testing.assert_allclose(hessian, expected, atol=1e-9)
    product = accelnn.numerical_jvp(np.exp, x, [1.0, 2.0], method="central6")
    np.testing.assert_allclose(product, np.exp(x) * [1.0, 2.0], atol=1e-11)
    found = accelnn.numerical_gradient(
        f, x, method="central6", bounds=(x, 2.0), full_output=True, workers=map
    )
    np.testing.assert_allclose(found.gradient, np.exp(x), atol=1e-9)
    assert (found.flags == Flag.ONE_SIDED).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward"])
def test_weights_are_exact_for_polynomials_up_to_the_degree_that_a_row_says(method, order):
    row = _differences.METHODS[method]
    points = row.points(order)
    has_base = row.takes_base(order)
    factors = _differences.weights(points[None], order, has_base=has_base)[0]
    nodes = np.append(points, 0.0) if has_base else points
    assert len(factors) == len(nodes)
    for degree in range(order + row.accuracy + 1):
        found = factors @ nodes**degree
        expected = math.factorial(order) if degree == order else 0.0
        is_exact = abs(found - expected) < 1e-10
        assert is_exact == (degree < order + row.accuracy), degree
