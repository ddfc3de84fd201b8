"""What `check_gradient` takes besides a scalar function and its gradient."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from functions_to_send import rosenbrock

import accelnn
from accelnn.errors import GradientCheckError, ImpureFunctionError

MODES = ("directional", "sampled", "full")
_everywhere = pytest.mark.parametrize("mode", MODES)
X = np.array([1.0, -2.0, 3.0, 0.5])
MATRIX = np.arange(1.0, 9.0).reshape(2, 4)


def f(x):
    return np.sum(x**3)


def right(x):
    return 3.0 * x**2


def vector(x):
    return np.sin(MATRIX @ x)


def jacobian(x):
    return np.cos(MATRIX @ x)[:, None] * MATRIX


@_everywhere
def test_a_jacobian(mode):
    for grad in (jacobian, jacobian(X)):
        report = accelnn.check_gradient(vector, grad, X.copy(), mode=mode)
        assert report.verdict == "right"


@_everywhere
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (1, 3)])
def test_a_wrong_entry_of_a_jacobian_is_named(place, mode):
    wrong = jacobian(X)
    wrong[place] += 0.1
    with pytest.raises(GradientCheckError) as raised:
        accelnn.check_gradient(vector, wrong, X.copy(), mode=mode)
    worst = raised.value.report.worst
    assert worst.index == place
    assert worst.analytic == pytest.approx(wrong[place])
    assert worst.numerical == pytest.approx(jacobian(X)[place], rel=1e-6, abs=1e-8)
    assert f"worst at x[{place[0]}, {place[1]}]" in str(raised.value)


def test_a_jacobian_has_the_shapes_of_f_and_x():
    x = X.reshape(2, 2)

    def matrix(x):
        return np.stack([x.ravel() ** 2] * 3)

    exact = np.zeros((3, 4, 2, 2))
    for i in range(4):
        exact[:, i, i // 2, i % 2] = 2.0 * x.flat[i]
    assert accelnn.check_gradient(matrix, exact, x, mode="full").passed
    wrong = exact.copy()
    wrong[2, 1, 0, 1] += 1.0
    report = accelnn.check_gradient(matrix, wrong, x, mode="full", raises=False)
    assert report.worst.index == (2, 1, 0, 1)
    with pytest.raises(ValueError, match=r"must have shape \(3, 4, 2, 2\)"):
        accelnn.check_gradient(matrix, exact.reshape(12, 4), x)
    with pytest.raises(ValueError, match=r"must have shape \(2, 4\)"):
        accelnn.check_gradient(vector, jacobian(X).T, X.copy())


@_everywhere
def test_second_derivatives(mode):
    """The gradient's Jacobian is the Hessian."""
    assert accelnn.check_gradient(right, lambda x: np.diag(6.0 * x), X.copy(), mode=mode).passed
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(right, lambda x: np.diag(5.9 * x), X.copy(), mode=mode)


@_everywhere
@pytest.mark.parametrize("kind", [tuple, list])
def test_a_function_that_gives_its_gradient_too(kind, mode):
    assert accelnn.check_gradient(
        lambda x: kind([f(x), right(x)]), grad=True, x=X.copy(), mode=mode
    ).passed
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(
            lambda x: kind([f(x), 1.01 * right(x)]), grad=True, x=X.copy(), mode=mode
        )


@pytest.mark.parametrize("value", [1.0, (1.0,), (1.0, 2.0, 3.0)])
def test_a_function_that_should_give_its_gradient_and_does_not(value):
    with pytest.raises(TypeError, match=r"with grad=True f must return \(value, gradient\)"):
        accelnn.check_gradient(lambda _: value, grad=True, x=X.copy())


@pytest.mark.parametrize("mode", ["sampled", "full"])
def test_an_absolute_tolerance_allows_for_that_error_alone(mode):
    for error, passes in ((1e-3, True), (3e-3, False)):
        report = accelnn.check_gradient(
            f, lambda x, e=error: right(x) + e, X.copy(), mode=mode, atol=2e-3, raises=False
        )
        assert report.passed == passes
        assert report.worst.tolerance == pytest.approx(2e-3, rel=1e-2)
    plain = accelnn.check_gradient(f, lambda x: right(x) + 1e-3, X.copy(), mode=mode, raises=False)
    assert not plain.passed


@pytest.mark.parametrize("atol", [-1.0, float("nan"), float("inf"), "a"])
def test_an_absolute_tolerance_must_be_one(atol):
    with pytest.raises(ValueError, match="atol must be None or a finite number >= 0"):
        accelnn.check_gradient(f, right, X.copy(), atol=atol)


def test_a_relative_tolerance_allows_for_that_part():
    for part, passes in ((0.01, True), (0.03, False)):
        report = accelnn.check_gradient(
            f, (1.0 + part) * right(X), X.copy(), mode="full", rtol=0.02, raises=False
        )
        assert report.passed == passes


@pytest.mark.parametrize("step", [1e-3, 1e-5])
def test_the_step_is_that_in_units_of_x(step):
    seen = []

    def recorded(x):
        seen.append(x.copy())
        return np.sum(x**2)

    accelnn.check_gradient(recorded, lambda x: 2 * x, X.copy(), mode="full", step=step)
    moved = np.abs(np.array(seen[3:-1]) - X)
    assert (np.count_nonzero(moved, axis=1) == 1).all()
    # Rounding x + h to float64 changes h by eps / step of itself at most, here 2e-11.
    np.testing.assert_allclose(moved.max(axis=0), step * np.maximum(1.0, np.abs(X)), rtol=1e-6)


def test_a_list_of_all_failures():
    wrong = right(X)
    wrong[[1, 3]] += [0.1, 10.0]
    report = accelnn.check_gradient(f, wrong, X.copy(), mode="full", raises=False)
    assert report.verdict == "WRONG"
    assert not report.passed
    # The worst in units of its tolerance comes first.
    assert [failure.index for failure in report.failures] == [(3,), (1,)]
    severities = [failure.severity for failure in report.failures]
    assert severities == sorted(severities, reverse=True)
    assert report.worst == report.failures[0]
    for failure in report.failures:
        assert failure.name == "x"
        assert failure.analytic == wrong[failure.index]
        assert failure.numerical == pytest.approx(right(X)[failure.index], rel=1e-7)
        assert failure.error == abs(failure.analytic - failure.numerical)
    assert accelnn.check_gradient(f, right, X.copy(), mode="full").failures == ()


def test_no_more_than_a_hundred_failures_of_one_array():
    x = np.linspace(1.0, 2.0, 300)
    report = accelnn.check_gradient(f, 2 * right(x), x, mode="full", raises=False)
    assert len(report.failures) == 100


def test_failures_of_several_arrays():
    point = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    report = accelnn.check_gradient(
        lambda p: np.sum(p["a"] ** 2) * p["b"][0],
        lambda p: {"a": 2 * p["a"] * p["b"] + [0.0, 0.5], "b": np.sum(p["a"] ** 2) + np.ones(1)},
        point,
        mode="full",
        raises=False,
    )
    assert {(failure.name, failure.index) for failure in report.failures} == {
        ("a", (1,)),
        ("b", (0,)),
    }


@_everywhere
def test_workers(mode):
    x = np.linspace(-1.0, 2.0, 12)
    gradient = accelnn.numerical_gradient(rosenbrock, x, method="complex")
    serial = accelnn.check_gradient(rosenbrock, gradient, x, mode=mode)
    with ThreadPoolExecutor(2) as threads:
        for workers in (2, map, threads):
            report = accelnn.check_gradient(rosenbrock, gradient, x, mode=mode, workers=workers)
            assert report == serial
            with pytest.raises(GradientCheckError):
                accelnn.check_gradient(rosenbrock, 1.1 * gradient, x, mode=mode, workers=workers)
    with pytest.raises(ImpureFunctionError):
        accelnn.check_gradient(lambda _: np.sum(x**2), 2 * x, x, workers=map)


@_everywhere
def test_oscillation_far_from_0(mode):
    """A step in proportion to x would go through a whole wave."""
    for seed in range(25):
        x = np.random.default_rng(seed).normal(scale=1000.0, size=2)
        report = accelnn.check_gradient(
            lambda x: np.sum(np.cos(x)), lambda x: -np.sin(x), x, mode=mode
        )
        assert report.verdict == "right"
        with pytest.raises(GradientCheckError):
            accelnn.check_gradient(
                lambda x: np.sum(np.cos(x)), lambda x: -1.1 * np.sin(x), x, mode=mode
            )


def test_an_eps_in_a_logarithm_is_said_to_be_the_difference():
    """The book's own backward pass leaves out the eps that its loss adds."""
    scores, target = np.array([-6.0, 2.0, 3.0]), 0

    def softmax(x):
        e = np.exp(x - x.max())
        return e / e.sum()

    def loss(x):
        return -np.log(softmax(x)[target] + 1e-7)

    def gradient(x):
        return softmax(x) - np.eye(3)[target]

    report = accelnn.check_gradient(loss, gradient, scores, mode="full", raises=False)
    assert "eps in a log" in str(report) or "eps inside a log" in str(report)
    wrong = accelnn.check_gradient(loss, 1.1 * gradient(scores), scores, mode="full", raises=False)
    assert "eps" not in str(wrong)


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (0.0, ValueError, "step must be positive and finite, got 0.0"),
        (-1e-4, ValueError, "step must be positive and finite"),
        (np.nan, ValueError, "step must be positive and finite"),
        (np.inf, ValueError, "step must be positive and finite"),
        (1e-50, ValueError, "step 1e-50 is too small: in units of max"),
        (1e-320, ValueError, "is too small"),
        ("1e-4", TypeError, "step must be a number, got '1e-4'"),
        (True, TypeError, "step must be a number"),
    ],
)
def test_a_step_that_cannot_be_meant_is_refused(step, error, message, mode):
    """A right gradient was wrong by a step of infinity, and one of zero was a traceback."""
    with pytest.raises(error, match=message):
        accelnn.check_gradient(
            lambda x: (x**2).sum(), lambda x: 2 * x, np.ones(3), step=step, mode=mode
        )
