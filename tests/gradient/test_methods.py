"""Every method on functions whose derivatives are known."""

import numpy as np
import pytest

import accelnn
from accelnn.gradient import Flag
from accelnn.testing import DERIVATIVE_CASES

SMOOTH = [case for case in DERIVATIVE_CASES if case.noise == 0.0]
_each = pytest.mark.parametrize("case", DERIVATIVE_CASES, ids=lambda case: case.name)


def scalar(case):
    return lambda x: case.f(x)[0]


def exact(case):
    return float(case.derivative(np.float64(case.x)))


@pytest.mark.parametrize("case", [c for c in SMOOTH if c.is_analytic], ids=lambda c: c.name)
def test_a_complex_step_is_right_to_the_last_digits(case):
    x = np.array([case.x])
    for step in (None, 1e-50):
        found = accelnn.numerical_gradient(scalar(case), x, method="complex", step=step)
        assert found[0] == pytest.approx(exact(case), rel=1e-14, abs=1e-300)
    assert accelnn.numerical_diff(case.f, case.x, method="complex") == pytest.approx(
        exact(case), rel=1e-14, abs=1e-300
    )


@_each
def test_an_extrapolation_has_an_error_estimate_that_holds(case):
    result = accelnn.numerical_gradient(
        scalar(case), np.array([case.x]), method="richardson", full_output=True
    )
    error = abs(result.gradient[0] - exact(case))
    assert error <= result.error[0]
    assert result.nfev <= 54


@pytest.mark.parametrize("case", SMOOTH, ids=lambda c: c.name)
def test_an_extrapolation_is_better_than_a_difference(case):
    x = np.array([case.x])
    errors = [
        abs(accelnn.numerical_gradient(scalar(case), x, method=method)[0] - exact(case))
        for method in ("richardson", "central")
    ]
    # What rounding of f leaves at a step of one half.
    with np.errstate(all="ignore"):
        nearby = np.nan_to_num(np.abs(case.f(case.x + np.array([-0.5, 0.0, 0.5]))))
    floor = 2e-15 * (abs(exact(case)) + nearby.max())
    assert errors[0] <= max(errors[1], 50.0 * floor)


@pytest.mark.parametrize("method", ["central", "forward", "complex", "richardson"])
def test_each_coordinate_has_a_step_of_its_own(method):
    seen = []

    def f(x):
        seen.append(x.copy())
        return x[0] ** 2 + 3.0 * x[1]

    x = np.array([1.0, -2.0])
    gradient = accelnn.numerical_gradient(f, x, method=method, step=[0.25, 0.5])
    moves = np.array([np.abs(p - x) for p in seen])
    assert moves[:, 0].max() == 0.25
    assert moves[:, 1].max() == 0.5
    np.testing.assert_allclose(gradient, [2.25 if method == "forward" else 2.0, 3.0], rtol=1e-12)


@pytest.mark.parametrize("step", [[0.1], [0.1, -0.1], [0.1, 0.0], [0.1, np.nan], [[0.1, 0.1]]])
def test_steps_must_fit_x_and_be_positive(step):
    with pytest.raises(ValueError, match=r"step has shape|all steps must be positive and finite"):
        accelnn.numerical_gradient(np.sum, np.ones(2), step=step)


def test_a_step_of_one_coordinate_that_vanishes_is_refused():
    with pytest.raises(ValueError, match=r"step 1e-30 is too small: 2\.0 \+ step == 2\.0"):
        accelnn.numerical_gradient(np.sum, np.array([1.0, 2.0]), step=[0.1, 1e-30])


@pytest.mark.parametrize("f", [lambda x: np.sum(np.abs(x)), lambda x: np.sum(x.real**2)])
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_a_function_that_loses_imaginary_parts_is_refused(f, shape):
    x = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
    with pytest.raises(ValueError, match="does not compute with complex numbers"):
        accelnn.numerical_gradient(f, x, method="complex")


@pytest.mark.parametrize(
    "f",
    [
        lambda x: 100.0 * np.sum(x[:2] ** 2) + np.abs(x[-1]) ** 2,
        lambda x: np.sum(x[:-1] ** 3) + np.abs(x[-1]) ** 3,
    ],
)
def test_one_lost_coordinate_among_many_is_enough(f):
    with pytest.raises(ValueError, match="does not compute with complex numbers"):
        accelnn.numerical_gradient(f, np.linspace(1.0, 2.0, 200), method="complex")


def test_jacobians_and_hessians_through_lost_imaginary_parts_are_refused():
    x = np.array([1.0, -2.0, 3.0])
    for derivative in (
        lambda: accelnn.numerical_jacobian(lambda x: np.abs(x) ** 2, x, method="complex"),
        lambda: accelnn.numerical_jacobian(
            lambda x: np.abs(x) ** 2, x, method="complex", sparsity=np.eye(3)
        ),
        lambda: accelnn.numerical_hessian(
            lambda x: np.sum(np.abs(x) ** 3), x, method="complex", full_output=True
        ),
    ):
        with pytest.raises(ValueError, match="does not compute with complex numbers"):
            derivative()


def test_an_elementwise_function_that_loses_imaginary_parts_is_refused():
    with pytest.raises(ValueError, match="does not compute with complex numbers"):
        accelnn.numerical_diff(np.abs, [2.0, -3.0], method="complex")


@pytest.mark.parametrize("batched", [False, True])
def test_complex_steps_of_a_function_that_needs_real_numbers(batched):
    with pytest.raises(TypeError):
        accelnn.numerical_gradient(
            lambda x: np.sum(np.floor(x), axis=-1), np.ones(2), method="complex", batched=batched
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["complex", "richardson"])
@pytest.mark.parametrize("batched", [False, True])
def test_methods_keep_shape_and_dtype(method, dtype, batched):
    x = np.array([[0.5, -1.5, 2.0], [0.25, 1.0, -3.0]], dtype)
    axes = (-2, -1)
    gradient = accelnn.numerical_gradient(
        lambda x: np.sum(np.sin(x) * x, axis=axes), x, method=method, batched=batched
    )
    assert gradient.dtype == dtype
    wide = x.astype(np.float64)
    tolerance = {np.float32: 3e-5 if method == "richardson" else 3e-7, np.float64: 1e-12}[dtype]
    np.testing.assert_allclose(
        gradient, np.sin(wide) + wide * np.cos(wide), rtol=tolerance, atol=tolerance
    )


def test_a_diff_may_be_extrapolated_elementwise():
    x = np.array([[0.5, 3.0], [-1.0, 1e-3]])
    found = accelnn.numerical_diff(lambda x: np.exp(np.sin(3.0 * x)), x, method="richardson")
    np.testing.assert_allclose(found, 3.0 * np.cos(3.0 * x) * np.exp(np.sin(3.0 * x)), rtol=1e-12)


BOUNDED = {
    "at the lower end": (0.0, (0.0, 1.0)),
    "at the upper end": (1.0, (0.0, 1.0)),
    "in between": (0.5, (0.0, 1.0)),
    "near the lower end": (1e-7, (0.0, None)),
    "narrow": (1e-7, (0.0, 3e-7)),
    "no bound": (0.5, (None, None)),
}


@pytest.mark.parametrize("method", ["central", "forward", "backward", "richardson", "complex"])
@pytest.mark.parametrize("place", BOUNDED)
def test_bounds_are_never_left(method, place):
    position, bounds = BOUNDED[place]
    low, high = (np.inf * s if b is None else b for b, s in zip(bounds, (-1, 1), strict=True))

    def f(x):
        assert low <= x[0].real <= high
        assert low <= x[1].real <= high
        return np.exp(x[0]) + x[1] ** 2

    x = np.array([position, 0.5 * position])
    x[1] = min(max(x[1], low), high)
    result = accelnn.numerical_gradient(f, x, method=method, bounds=bounds, full_output=True)
    expected = [np.exp(x[0]), 2.0 * x[1]]
    tolerance = {"central": 1e-8, "richardson": 1e-9}.get(method, 1e-6)
    if place == "narrow":
        tolerance = 1e-5
    np.testing.assert_allclose(result.gradient, expected, rtol=tolerance, atol=tolerance)
    one_sided = bool(result.flags[0] & Flag.ONE_SIDED)
    if method in ("central", "richardson"):
        assert one_sided == (
            place not in ("in between", "no bound", *("narrow",) * (method == "x"))
        )


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((2.0, 3.0), r"x\[0\] is 1\.0, which is not within its bounds 2\.0 and 3\.0"),
        ((0.0, [5.0, 1.0]), r"x\[1\] is 2\.0, which is not within its bounds 0\.0 and 1\.0"),
        ([(0.0, 3.0), (3.0, 5.0), (0.0, 9.0)], r"bounds must be .* or a list of 2 pairs"),
        (3.0, r"bounds must be \(low, high\)"),
        ((np.nan, 3.0), "is not within its bounds"),
    ],
)
def test_x_must_be_within_its_bounds(bounds, message):
    with pytest.raises(ValueError, match=message):
        accelnn.numerical_gradient(np.sum, np.array([1.0, 2.0]), bounds=bounds)


@pytest.mark.parametrize("digits", [3, 4, 6])
def test_extrapolation_notices_that_values_are_rounded(digits):
    """Close to x such a function does not move at all, and its slope of zero looks certain."""
    held = 0
    for x in np.random.default_rng(1).uniform(-3.0, 3.0, 50):
        found = accelnn.numerical_gradient(
            lambda x: np.round(np.sin(x[0]), digits),
            np.array([x]),
            method="richardson",
            full_output=True,
        )
        held += abs(found.gradient[0] - np.cos(x)) <= found.error[0]
    assert held >= 40


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12])
def test_complex_steps_where_f_cancels(size):
    """f may not move at all at real steps, by rounding, while complex ones are exact."""
    for seed in range(20):
        weights = size * np.random.default_rng(seed).normal(size=7)
        x = np.random.default_rng(seed + 100).normal(size=7)
        found = accelnn.numerical_gradient(
            lambda x, w=weights: np.exp(w @ x) - 1.0, x, method="complex"
        )
        np.testing.assert_allclose(found, np.exp(weights @ x) * weights, rtol=1e-14)
