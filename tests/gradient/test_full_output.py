"""What ``full_output=True`` tells."""

import numpy as np
import pytest

import accelnn
from accelnn.gradient import DerivativeResult, Flag

METHODS = ("central", "forward", "backward", "complex", "richardson")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batched", [False, True])
def test_the_error_estimate_holds_and_is_not_idle(method, batched):
    x = np.array([[0.3, -1.2], [2.5, 0.9]])
    result = accelnn.numerical_gradient(
        lambda x: np.sum(np.exp(x) * np.sin(x), axis=(-2, -1)),
        x,
        method=method,
        batched=batched,
        full_output=True,
    )
    assert isinstance(result, DerivativeResult)
    plain = accelnn.numerical_gradient(
        lambda x: np.sum(np.exp(x) * np.sin(x), axis=(-2, -1)), x, method=method, batched=batched
    )
    np.testing.assert_array_equal(result.gradient, plain)
    expected = np.exp(x) * (np.sin(x) + np.cos(x))
    assert result.error.shape == result.step.shape == result.flags.shape == x.shape
    assert (np.abs(result.gradient - expected) <= result.error).all()
    limit = {"forward": 1e-5, "backward": 1e-5, "central": 1e-7}.get(method, 1e-10)
    assert result.error.max() < limit
    assert not result.flags.any()


@pytest.mark.parametrize("method", METHODS)
def test_every_evaluation_is_counted(method):
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        return np.sum(x**3)

    for x in (np.array([1.0, 2.0]), [1.0, 2.0]):
        calls = 0
        result = accelnn.numerical_gradient(f, x, method=method, full_output=True)
        assert result.nfev == calls


def test_points_of_a_batch_are_counted():
    points = 0

    def f(x):
        nonlocal points
        points += len(x)
        return np.sum(x**3, axis=1)

    result = accelnn.numerical_gradient(f, np.ones(5), batched=True, full_output=True)
    assert result.nfev == points


@pytest.mark.parametrize("method", ["central", "forward", "backward", "richardson"])
@pytest.mark.parametrize("at", [0.0, 2.0])
def test_a_kink_is_flagged_and_curvature_is_not(method, at):
    def f(x):
        return np.abs(x[0] - at) + x[1] ** 2 + np.exp(10.0 * x[2]) + np.maximum(x[3], at) * 3.0

    x = np.array([at, 1.0, 1.0, at])
    result = accelnn.numerical_gradient(f, x, method=method, full_output=True)
    np.testing.assert_array_equal(result.flags & Flag.KINK, [Flag.KINK, 0, 0, Flag.KINK])
    assert "2 KINK" in str(result)


@pytest.mark.parametrize("method", ["central", "forward", "richardson"])
def test_what_is_not_finite_is_flagged(method):
    def f(x):
        with np.errstate(all="ignore"):
            return np.sum(x) + (0.0 if x[1] == 1.0 else np.nan)

    result = accelnn.numerical_gradient(f, np.array([2.0, 1.0]), method=method, full_output=True)
    np.testing.assert_array_equal(result.flags & Flag.NOT_FINITE, [0, Flag.NOT_FINITE])


def test_a_random_function_is_flagged():
    draw = np.random.default_rng(0)
    result = accelnn.numerical_gradient(
        lambda x: np.sum(x) + 1e-12 * draw.normal(), np.ones(2), full_output=True
    )
    assert (result.flags & Flag.RANDOM).all()


def test_a_table_is_as_long_as_its_function_needs():
    """Two evaluations tell what f reads, six measure its noise, and two confirm the limit."""
    smooth, wild = (
        accelnn.numerical_gradient(f, np.array([0.7]), method="richardson", full_output=True)
        for f in (lambda x: x[0] ** 2, lambda x: np.sin(1e3 * x[0]))
    )
    assert smooth.nfev == 1 + 2 + 6 + 2 * 3 + 2 + 1
    assert smooth.nfev < wild.nfev <= 54
