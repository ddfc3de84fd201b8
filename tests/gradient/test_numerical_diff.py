"""`numerical_diff` of functions whose derivatives are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accelnn
from accelnn.testing import ReadOnlyBackend

KNOWN = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "square": (np.square, lambda x: 2.0 * x),
    "arctan": (np.arctan, lambda x: 1.0 / (1.0 + x**2)),
    "textbook": (lambda x: 0.01 * x**2 + 0.1 * x, lambda x: 0.02 * x + 0.1),
}
# Relative to max(1, |f'|): the error of an optimal step.
ACCURACY = {
    ("central", np.float64): 1e-9,
    ("forward", np.float64): 2e-7,
    ("backward", np.float64): 2e-7,
    ("central", np.float32): 1e-3,
    ("forward", np.float32): 3e-3,
    ("backward", np.float32): 3e-3,
}


@pytest.mark.parametrize(("method", "dtype"), ACCURACY)
@pytest.mark.parametrize("name", KNOWN)
def test_default_steps_reach_the_accuracy_of_the_dtype(name, method, dtype):
    f, derivative = KNOWN[name]
    x = np.linspace(-3.0, 3.0, 61).reshape(1, 61).astype(dtype)
    before = x.copy()
    slope = accelnn.numerical_diff(f, x, method=method)
    expected = derivative(x.astype(np.float64))
    assert slope.dtype == dtype
    assert slope.shape == x.shape
    error = np.abs(slope - expected) / np.maximum(1.0, np.abs(expected))
    assert error.max() < ACCURACY[method, dtype]
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("method", "order"), [("central", 2), ("forward", 1), ("backward", 1)])
def test_order_of_accuracy(method, order):
    errors = [
        float(accelnn.numerical_diff(np.exp, 0.5, method=method, step=step)) - math.exp(0.5)
        for step in (1e-2, 5e-3)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.02)


def test_one_sided_methods_look_at_their_own_side():
    x = np.array([0.0])
    assert float(accelnn.numerical_diff(np.abs, x, method="forward")[0]) == 1.0
    assert float(accelnn.numerical_diff(np.abs, x, method="backward")[0]) == -1.0
    assert float(accelnn.numerical_diff(np.abs, x, method="central")[0]) == 0.0


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
@settings(deadline=None, max_examples=50)
@given(
    slope=st.integers(-1000, 1000),
    x=st.floats(-1e6, 1e6),
    step=st.none() | st.floats(1e-3, 1e3),
)
def test_division_is_by_the_distance_really_taken(method, slope, x, step):
    # Were it by h itself, the rounding of x + h would show in the digits.
    derivative = accelnn.numerical_diff(lambda x: slope * x, x, method=method, step=step)
    assert float(derivative) == pytest.approx(slope, rel=1e-5 if step is None else 1e-6, abs=0.0)


def test_a_linear_function_is_exact_at_a_step_that_cannot_be_represented():
    x = np.array([0.1, 1.7, 123.456, 1e5])
    np.testing.assert_array_equal(accelnn.numerical_diff(lambda x: x, x, step=1e-6), np.ones(4))


def test_python_functions_of_one_number():
    assert float(accelnn.numerical_diff(math.sin, 0.0)) == pytest.approx(1.0, abs=1e-9)
    assert float(accelnn.numerical_diff(lambda _: 3, 2)) == 0.0


def test_integers_bools_and_lists_are_promoted():
    for x in ([1, 2], np.array([1, 2]), [1.0, 2.0]):
        slope = accelnn.numerical_diff(lambda x: x**3, x)
        assert slope.dtype == np.float64
        np.testing.assert_allclose(slope, [3.0, 12.0], rtol=1e-9)


def test_values_may_be_lists_integers_or_bools():
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(accelnn.numerical_diff(lambda x: [2 * x[0], 3 * x[1]], x), [2, 3])
    np.testing.assert_array_equal(accelnn.numerical_diff(lambda x: x > 0, x), [0, 0])
    np.testing.assert_array_equal(accelnn.numerical_diff(lambda x: x.astype(int), x + 0.5), [0, 0])


def test_empty_arrays_stay_empty():
    assert accelnn.numerical_diff(np.sin, np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_a_function_that_writes_to_its_argument_does_not_reach_the_callers_array(method):
    x = np.array([1.0, 2.0])

    def f(x):
        x *= 2.0
        return x**2

    np.testing.assert_allclose(accelnn.numerical_diff(f, x, method=method), [8.0, 16.0], rtol=1e-6)
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_read_only_arrays_are_fine():
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    np.testing.assert_allclose(accelnn.numerical_diff(np.square, x), [2.0, 4.0])
    slope = accelnn.numerical_diff(np.square, [3.0], backend=ReadOnlyBackend)
    np.testing.assert_allclose(slope, [6.0])


def test_a_scalar_function_of_many_variables_is_sent_to_numerical_gradient():
    with pytest.raises(
        ValueError, match=r"x has shape \(2,\), but f\(x\) has shape \(\)\. .*numer"
    ):
        accelnn.numerical_diff(np.sum, [1.0, 2.0])


def test_wrong_values_and_points():
    with pytest.raises(TypeError, match=r"f\(x\) must hold real numbers, got dtype complex128"):
        accelnn.numerical_diff(lambda x: x * 1j, [1.0])
    with pytest.raises(TypeError, match="x must hold real numbers"):
        accelnn.numerical_diff(np.sin, [1j])
    with pytest.raises(ValueError, match=r"x must be finite, but x\[1\] is nan"):
        accelnn.numerical_diff(np.sin, [1.0, np.nan])
    with pytest.raises(ValueError, match="unknown method 'centered'; known methods are 'central'"):
        accelnn.numerical_diff(np.sin, [1.0], method="centered")


def test_a_single_precision_value_of_a_double_point_gets_the_longer_step():
    slope = accelnn.numerical_diff(lambda x: np.sin(x).astype(np.float32), np.array([0.5]))
    assert float(slope[0]) == pytest.approx(math.cos(0.5), abs=1e-3)


def test_a_buffer_that_f_uses_again():
    buffer = np.zeros(3)
    derivative = accelnn.numerical_diff(
        lambda x: np.multiply(x, x, out=buffer), np.array([1.0, 2.0, 3.0])
    )
    np.testing.assert_allclose(derivative, [2.0, 4.0, 6.0], rtol=1e-8)
