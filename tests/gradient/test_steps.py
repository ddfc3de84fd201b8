"""Which steps are taken, and which are refused."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accelnn

METHODS = ("central", "forward", "backward")
_every_method = pytest.mark.parametrize("method", METHODS)


def _sum(x):
    return np.sum(x)


def _points_seen(x, **options):
    """Return the values that the only coordinate took, at x first.

    Before the differences are f(x), and two calls that tell what f reads: one with its argument
    moved, one with x itself moved; after them f(x) again.
    """
    seen = []

    def f(x):
        seen.append(float(x[0]))
        return float(x[0])

    accelnn.numerical_gradient(f, x, **options)
    here, _, still, *seen, last = seen
    assert here == still == last == x[0]
    return [here, *seen]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("x", [0.0, 0.5, -1.0, 100.0, -1e6])
def test_the_default_step_is_the_root_of_epsilon_in_proportion_to_x(x, dtype):
    eps = float(np.finfo(dtype).eps)
    scale = max(1.0, abs(x))
    _, above, below = _points_seen(np.array([x], dtype))
    assert above - x == pytest.approx(eps ** (1 / 3) * scale, rel=1e-3)
    assert x - below == pytest.approx(eps ** (1 / 3) * scale, rel=1e-3)
    _, above = _points_seen(np.array([x], dtype), method="forward")
    assert above - x == pytest.approx(eps**0.5 * scale, rel=1e-3)
    _, below = _points_seen(np.array([x], dtype), method="backward")
    assert x - below == pytest.approx(eps**0.5 * scale, rel=1e-3)


def test_the_less_precise_of_x_and_f_chooses_the_step():
    seen = []

    def f(x):
        seen.append(float(x[0]))
        return np.float32(x[0])

    accelnn.numerical_gradient(f, np.array([0.0]))
    assert max(seen[3:]) == pytest.approx(float(np.finfo(np.float32).eps) ** (1 / 3))


def test_a_given_step_is_taken_as_it_is():
    assert _points_seen(np.array([8.0]), step=0.25) == [8.0, 8.25, 7.75]


@_every_method
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_linear_function_is_exact_although_the_step_cannot_be_represented(method, dtype):
    x = np.array([0.1, 1.7, 123.456, 1e4], dtype)
    for step in (None, 0.1, 0.01):
        for i in range(4):
            one = x[i : i + 1].copy()
            gradient = accelnn.numerical_gradient(lambda x: x[0], one, method=method, step=step)
            assert gradient[0] == 1.0


@_every_method
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batched", [False, True])
def test_a_vanishing_step_is_refused_and_the_one_that_is_named_works(method, dtype, batched):
    x = np.array([-3.0, 0.7, 4.0], dtype)

    def f(x):
        return np.sum(x, axis=-1)

    options = {"method": method, "batched": batched}
    with pytest.raises(ValueError, match=r"step 1e-50 is too small: .* the difference") as raised:
        accelnn.numerical_gradient(f, x, step=1e-50, **options)
    named = re.search(r"smallest usable step here is (\S+);", str(raised.value)).group(1)
    gradient = accelnn.numerical_gradient(
        lambda x: f(np.asarray(x, np.longdouble)).astype(np.float64),
        x,
        step=float(named),
        **options,
    )
    np.testing.assert_allclose(gradient, np.ones(3), rtol=1e-6)
    with pytest.raises(ValueError, match="is too small"):
        accelnn.numerical_gradient(f, x, step=float(named) / 8.0, **options)


@_every_method
@settings(deadline=None, max_examples=80)
@given(
    x=st.floats(2.0**-60, 2.0**60, width=32) | st.floats(-(2.0**60), -(2.0**-60), width=32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_named_step_works_wherever_x_is(method, x, dtype):
    point = np.array([x], dtype)
    with pytest.raises(ValueError, match="is too small") as raised:
        accelnn.numerical_gradient(
            np.sum, point, step=float(np.spacing(np.abs(point[0]))) / 1e3, method=method
        )
    named = float(re.search(r"usable step here is (\S+);", str(raised.value)).group(1))
    moved = _points_seen(point, step=named, method=method)
    assert len(set(moved)) == (3 if method == "central" else 2)


def test_next_to_zero_every_step_can_be_taken():
    assert _points_seen(np.array([0.0]), step=1e-50) == [0.0, 1e-50, -1e-50]


@pytest.mark.parametrize("step", [0.0, -1e-4, float("inf"), float("nan")])
@pytest.mark.parametrize(
    "derivative", [accelnn.numerical_diff, accelnn.numerical_gradient], ids=["diff", "gradient"]
)
def test_a_step_must_be_positive_and_finite(derivative, step):
    with pytest.raises(ValueError, match="step must be positive and finite, got"):
        derivative(_sum, 1.0, step=step)


def test_a_step_that_overflows_the_dtype_is_refused():
    with pytest.raises(ValueError, match=r"step.* 1e\+39"):
        accelnn.numerical_gradient(_sum, np.ones(2, np.float32), step=1e39)


@pytest.mark.parametrize("method", [*METHODS, "central4"])
def test_a_step_whose_double_overflows_is_right_or_refused(method):
    try:
        found = accelnn.numerical_gradient(lambda x: 1e-3 * x[0], [1.0], method=method, step=1e308)
    except ValueError as error:
        found = np.array([1e-3 if "step" in str(error) else np.nan])
    np.testing.assert_allclose(found, [1e-3], rtol=1e-12)


def test_a_huge_x_still_moves():
    for dtype in (np.float32, np.float64):
        x = np.array([np.finfo(dtype).max / 2], dtype)
        gradient = accelnn.numerical_gradient(lambda x: x[0] / x.dtype.type(1e30), x)
        assert gradient[0] == pytest.approx(1e-30, rel=1e-3)


@pytest.mark.parametrize("step", [True, "a", [1e-4, "a"]])
def test_a_step_must_be_a_number(step):
    with pytest.raises((TypeError, ValueError), match="step"):
        accelnn.numerical_gradient(np.sum, np.ones(2), step=step)


def test_an_array_of_one_number_is_a_step():
    found = accelnn.numerical_gradient(lambda x: np.sum(x**3), np.ones(2), step=np.array(0.5))
    np.testing.assert_allclose(found, 3.25)
