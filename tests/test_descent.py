"""`gradient_descent` against closed forms, and what it says when the step is wrong."""

import _thread
import functools
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accelnn
from accelnn.descent import DescentResult
from accelnn.errors import DivergenceWarning, ImpureFunctionError, StagnationWarning


def _squares(x):
    return np.sum(x**2)


def _twice(x):
    return 2.0 * x


def test_the_textbooks_example():
    start = np.array([-3.0, 4.0])
    x = accelnn.gradient_descent(_squares, start, lr=0.1, step_num=100)
    np.testing.assert_allclose(x, [-6.11110793e-10, 8.14814391e-10], rtol=1e-6)
    np.testing.assert_array_equal(start, [-3.0, 4.0])


@settings(deadline=None, max_examples=30)
@given(
    start=st.lists(st.floats(-100, 100), min_size=1, max_size=4),
    lr=st.floats(0.05, 0.9),
    steps=st.integers(0, 12),
)
def test_a_quadratic_follows_its_closed_form(start, lr, steps):
    weights = np.arange(1.0, len(start) + 1) / len(start)
    with warnings.catch_warnings():
        # A start next to the minimum but for one coordinate may truly stand still.
        warnings.simplefilter("ignore", StagnationWarning)
        x = accelnn.gradient_descent(
            lambda x: 0.5 * np.sum(weights * x**2), start, lr=lr, step_num=steps
        )
    expected = np.array(start) * (1.0 - lr * weights) ** steps
    np.testing.assert_allclose(x, expected, rtol=1e-7, atol=1e-7 * max(1.0, *np.abs(start)))


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_the_default_rate_and_number_of_steps(method):
    x = accelnn.gradient_descent(_squares, [1.0, -1.0], method=method)
    np.testing.assert_allclose(x, np.array([1.0, -1.0]) * 0.98**1000, atol=1e-7)


STARTS = {
    "integers": np.array([-3, 4]),
    "list": [-3.0, 4.0],
    "list of integers": [-3, 4],
    "single": np.array([-3, 4], np.float32),
    "matrix": np.array([[-3.0], [4.0]]),
    "view": np.arange(-3.0, 5.0)[::7],
    "number": 5.0,
    "0-d": np.array(5.0),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", STARTS)
def test_the_start_is_kept_and_gives_its_shape(kind, frozen):
    start = STARTS[kind]
    if frozen:
        start = np.array(start)
        start.flags.writeable = False
    before = np.array(start)
    result = accelnn.gradient_descent(_squares, start, lr=0.1, step_num=5, full_output=True)
    assert result.x.shape == before.shape
    assert result.x.dtype == (np.float32 if kind == "single" else np.float64)
    np.testing.assert_allclose(result.x, before * 0.8**5, rtol=1e-3 if kind == "single" else 1e-8)
    np.testing.assert_array_equal(start, before)
    assert not np.shares_memory(result.x, start)
    assert not np.shares_memory(result.trajectory, start)


def test_it_is_no_pair():
    """As it is in the textbook; x of two elements would be taken apart without a word."""
    for start in ([1.0], [1.0, 2.0], [1.0, 2.0, 3.0], [[1.0], [2.0]]):
        before = np.array(start)
        with pytest.raises(TypeError, match="pass full_output=True"):
            _x, _history = accelnn.gradient_descent(_squares, before, step_num=1)
        with pytest.raises(TypeError, match="give it a name first"):
            [_x, (_a, _b)] = accelnn.gradient_descent(f=_squares, init_x=before, step_num=1)


def test_x_may_be_taken_apart_in_other_ways():
    x = accelnn.gradient_descent(_squares, [1.0, 2.0], lr=0.5, step_num=1, grad=_twice)
    a, b = x
    assert (a, b) == (0.0, 0.0)
    a, b, c = accelnn.gradient_descent(_squares, [1.0, 2.0, 3.0], step_num=0)
    assert (a, b, c) == (1.0, 2.0, 3.0)
    (a, b), c = list(accelnn.gradient_descent(_squares, [1.0, 2.0], step_num=0)), 0
    assert (a, b) == (1.0, 2.0)
    found = [*accelnn.gradient_descent(_squares, [1.0, 2.0], step_num=0)]
    assert found == [1.0, 2.0]
    descend = functools.partial(accelnn.gradient_descent, _squares, step_num=0)
    assert [a + b for a, b in map(descend, ([1.0, 2.0], [3.0, 4.0]))] == [3.0, 7.0]


def test_it_needs_no_caller_in_python():
    found = []
    start, done = np.array([1.0, 2.0]), threading.Event()

    def gradient(x):
        found.append(x)
        done.set()
        return 2.0 * x

    arguments = {"step_num": 1, "grad": gradient}
    _thread.start_new_thread(accelnn.gradient_descent, (_squares, start), arguments)
    assert done.wait(30.0)


def test_full_output():
    start = np.array([[1.0, -2.0, 3.0]])
    result = accelnn.gradient_descent(
        _squares, start, lr=0.25, step_num=6, grad=_twice, full_output=True
    )
    assert isinstance(result, DescentResult)
    assert result.steps == 6
    assert not result.diverged
    assert not result.stagnated
    assert result.trajectory.shape == (7, 1, 3)
    np.testing.assert_array_equal(result.trajectory[0], start)
    np.testing.assert_array_equal(result.trajectory[1:], 0.5 * result.trajectory[:-1])
    np.testing.assert_array_equal(result.trajectory[-1], result.x)
    np.testing.assert_array_equal(result.gradient, 2.0 * result.x)
    assert result.value == _squares(result.x)


def test_numerical_trajectories_are_consistent():
    result = accelnn.gradient_descent(
        lambda x: np.sum(np.cosh(x)), [1.0, -0.5], lr=0.3, step_num=20, full_output=True
    )
    expected = result.trajectory[:-1] - 0.3 * np.sinh(result.trajectory[:-1])
    np.testing.assert_allclose(result.trajectory[1:], expected, rtol=0.0, atol=1e-9)


def test_no_step_returns_a_copy_of_the_start():
    start = np.array([1.0, 2.0])
    result = accelnn.gradient_descent(_squares, start, step_num=0, full_output=True)
    np.testing.assert_array_equal(result.x, start)
    assert not np.shares_memory(result.x, start)
    assert result.trajectory.shape == (1, 2)
    assert result.steps == 0
    assert result.value == 5.0
    np.testing.assert_allclose(result.gradient, [2.0, 4.0])


@pytest.mark.parametrize("grad", [None, _twice])
def test_a_rate_that_is_too_large_diverges_and_the_last_good_iterate_comes_back(grad):
    start = np.array([-3.0, 4.0])
    with pytest.warns(
        DivergenceWarning, match=r"diverged at update \d+ of 100, because lr=10.0 is too la"
    ):
        result = accelnn.gradient_descent(
            _squares, start, lr=10.0, step_num=100, grad=grad, full_output=True
        )
    assert result.diverged
    assert not result.stagnated
    assert np.isfinite(result.trajectory).all()
    assert 0 < result.steps < 100
    assert result.trajectory.shape == (result.steps + 1, 2)
    np.testing.assert_array_equal(result.x, result.trajectory[-1])
    # Every step multiplies by 1 - 2 lr; the one after the last would be a million times farther.
    np.testing.assert_allclose(result.x, start * (-19.0) ** result.steps, rtol=1e-5)
    assert np.linalg.norm(result.x) <= 5e6 < 19.0 * np.linalg.norm(result.x)


OVERFLOWING = {
    "exp": (lambda x: np.sum(np.exp(x**2)), 1.0),
    "quartic": (lambda x: np.sum(x**4), 10.0),
    "log of a negative": (lambda x: np.sum(x - np.log(x)), 30.0),
    "nan at once": (lambda x: np.sum(np.where(x == 2.0, 4.0, np.nan)), 0.1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", OVERFLOWING)
def test_overflow_is_reported_as_divergence_and_as_nothing_else(kind, dtype):
    f, lr = OVERFLOWING[kind]
    start = np.array([2.0], dtype)
    with warnings.catch_warnings(record=True) as given_warnings:
        warnings.simplefilter("always")
        x = accelnn.gradient_descent(f, start, lr=lr, step_num=50)
    assert [w.category for w in given_warnings] == [DivergenceWarning]
    assert given_warnings[0].filename == __file__
    assert np.isfinite(x).all()


def test_a_distant_minimum_is_no_divergence():
    x = accelnn.gradient_descent(
        lambda x: np.sum((x - 1e9) ** 2), [0.0], lr=0.4, step_num=60, grad=lambda x: 2 * (x - 1e9)
    )
    np.testing.assert_allclose(x, [1e9])


@pytest.mark.parametrize("grad", [None, _twice])
def test_a_rate_that_is_too_small_stagnates(grad):
    start = np.array([-3.0, 4.0])
    with pytest.warns(
        StagnationWarning, match=r"100 updates moved x by less .* lr=1e-10 is too small"
    ):
        result = accelnn.gradient_descent(
            _squares, start, lr=1e-10, step_num=100, grad=grad, full_output=True
        )
    assert result.stagnated
    assert not result.diverged
    assert result.steps == 100
    np.testing.assert_allclose(result.x, start, rtol=1e-6)


@pytest.mark.parametrize(
    ("f", "start"),
    [
        (_squares, [0.0, 0.0]),
        (_squares, np.zeros(2)),
        (lambda x: np.sum((x - 5.0) ** 2), np.full(3, 5.0)),
        (lambda x: 1e10 + np.sum((x - 1e8) ** 2), np.array([1e8])),
        (lambda x: np.sum(np.cosh(x)), np.array([1e-12])),
    ],
)
def test_a_start_at_the_minimum_is_no_stagnation(f, start):
    result = accelnn.gradient_descent(f, start, full_output=True)
    assert not result.stagnated
    np.testing.assert_allclose(result.x, start, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("lr", [0.0, -0.1, np.nan, np.inf])
def test_the_rate_must_be_positive_and_finite(lr):
    with pytest.raises(ValueError, match="lr must be positive and finite, got"):
        accelnn.gradient_descent(_squares, [1.0], lr=lr)


@pytest.mark.parametrize(
    ("step_num", "error", "message"),
    [
        (-1, ValueError, "step_num must not be negative, got -1"),
        (10.0, TypeError, "step_num must be an integer, got 10.0"),
        (True, TypeError, "step_num must be an integer, got True"),
    ],
)
def test_the_number_of_steps_must_be_a_whole_number(step_num, error, message):
    with pytest.raises(error, match=message):
        accelnn.gradient_descent(_squares, [1.0], step_num=step_num)
    x = accelnn.gradient_descent(_squares, [1.0], lr=0.5, step_num=np.int64(1), grad=_twice)
    assert float(x[0]) == 0.0


@pytest.mark.parametrize("start", [[np.nan], [np.inf, 1.0]])
def test_the_start_must_be_finite(start):
    with pytest.raises(ValueError, match=r"init_x must be finite, but init_x\[0\] is"):
        accelnn.gradient_descent(_squares, start)


def test_the_start_must_be_real():
    with pytest.raises(TypeError, match="init_x must hold real numbers"):
        accelnn.gradient_descent(_squares, [1j])


@pytest.mark.parametrize("gradient", [1.0, np.ones(1), np.ones((2, 2)), np.ones((1, 2))])
def test_a_gradient_of_another_shape_is_refused(gradient):
    with pytest.raises(ValueError, match=r"grad\(x\) has shape .*, x has \(2,\)"):
        accelnn.gradient_descent(_squares, np.ones(2), grad=lambda _: gradient)


def test_a_gradient_that_writes_to_its_argument_does_not_bend_the_path():
    def gradient(x):
        x *= 2.0
        return x

    result = accelnn.gradient_descent(
        _squares, np.ones(2), lr=0.25, step_num=3, grad=gradient, full_output=True
    )
    np.testing.assert_array_equal(result.trajectory[:, 0], [1.0, 0.5, 0.25, 0.125])


@pytest.mark.parametrize("full_output", [False, True])
def test_batched_takes_the_same_path(full_output):
    def many(x):
        return np.sum(np.cosh(x), axis=1)

    serial, batched = (
        accelnn.gradient_descent(
            f, np.array([1.0, -2.0]), lr=0.1, step_num=30, batched=b, full_output=full_output
        )
        for f, b in ((lambda x: many(x[None])[0], False), (many, True))
    )
    if full_output:
        assert batched.value == pytest.approx(serial.value, rel=1e-12)
        np.testing.assert_allclose(batched.trajectory, serial.trajectory, rtol=1e-9)
    else:
        np.testing.assert_allclose(batched, serial, rtol=1e-9)


START = np.array([3.0, 4.0])
FROZEN = START.copy()
FROZEN.flags.writeable = False


@pytest.mark.parametrize("start", [START, FROZEN, np.array([3, 4])], ids=["float", "frozen", "int"])
@pytest.mark.parametrize("batched", [False, True])
def test_a_closure_that_ignores_its_argument_is_refused(start, batched):
    """It would never see the iterates, which are copies."""
    before = start.copy()
    if batched and not start.flags.writeable:
        pytest.skip(
            "it reads how many points there are, and nobody can tell that from reading them"
        )
    f = {
        False: lambda _: _squares(start),
        True: lambda p: np.full(len(p), _squares(start)),
    }[batched]
    with pytest.raises(ImpureFunctionError, match=r"on its argument alone|never responded"):
        accelnn.gradient_descent(f, start, batched=batched)
    np.testing.assert_array_equal(start, before)


def test_a_function_may_write_to_its_argument():
    def f(x):
        x -= 3.0
        return np.sum(x**2)

    for start in (np.ones(2), [1.0, 1.0]):
        x = accelnn.gradient_descent(f, start, lr=0.1, step_num=100)
        # Each step leaves 1 - 2 lr = 0.8 of the distance: 2 * 0.8**100 = 4e-10 of it after all.
        np.testing.assert_allclose(x, [3.0, 3.0], rtol=1e-8)
        np.testing.assert_array_equal(start, [1.0, 1.0])


def test_an_edge_beyond_which_f_is_infinite_is_left_on_the_side_that_is_there():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = accelnn.gradient_descent(
            lambda x: np.sum(np.where(x <= 2.0, x, np.inf)), [2.0], lr=0.1, step_num=5
        )
    np.testing.assert_allclose(x, [1.5], rtol=1e-9)


def test_a_step_too_small_is_noticed_from_the_origin_too():
    with pytest.warns(StagnationWarning, match="lr=1e-10 is too small"):
        accelnn.gradient_descent(
            lambda x: np.sum((x - 3.0) ** 2), np.zeros(2), lr=1e-10, step_num=100
        )


def test_a_gradient_that_is_nan_is_named_as_the_cause():
    with pytest.warns(DivergenceWarning, match="because the gradient is NaN"):
        accelnn.gradient_descent(np.sum, np.ones(2), grad=lambda x: x * np.nan, step_num=3)


def test_a_descent_that_goes_to_and_fro_does_not_stand_still():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = accelnn.gradient_descent(lambda x: np.sum(x**2), np.ones(2), lr=1.0, step_num=100)
    np.testing.assert_allclose(x, np.ones(2), rtol=1e-6)


@pytest.mark.parametrize("full_output", [False, True])
def test_an_iterate_outside_the_domain_is_not_returned(full_output):
    with pytest.warns(DivergenceWarning, match="the gradient is NaN"):
        result = accelnn.gradient_descent(
            lambda x: np.log(x[0]), np.ones(1), lr=1.5, step_num=5, full_output=full_output
        )
    np.testing.assert_array_equal(result.x if full_output else result, [1.0])
    if full_output:
        assert (result.steps, result.trajectory.shape) == (0, (1, 1))
        assert result.value == 0.0


def test_a_last_iterate_outside_the_domain_is_reported_too():
    with pytest.warns(DivergenceWarning, match="after update 1 of 1, because the gradient is NaN"):
        result = accelnn.gradient_descent(
            lambda x: np.log(x[0]), np.ones(1), lr=1.5, step_num=1, full_output=True
        )
    assert (result.steps, result.diverged, result.value) == (0, True, 0.0)
    np.testing.assert_array_equal(result.trajectory, [[1.0]])
