"""Whether a function reads its argument, the array that the caller has, both or neither."""

import functools
import math

import numpy as np
import pytest

import accelnn
from accelnn.errors import AmbiguousFunctionError, ImpureFunctionError

DIFFERENCES = ("central", "central4", "forward", "backward", "richardson")
METHODS = (*DIFFERENCES, "complex")
_every_difference = pytest.mark.parametrize("method", DIFFERENCES)
_every_method = pytest.mark.parametrize("method", METHODS)
# At x near 3: truncation and rounding at the default step of a one-sided difference, and else.
TOLERANCE = {"forward": 1e-6, "backward": 1e-6}


def _frozen(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


def _near(method, found, expected):
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE.get(method, 1e-8), atol=1e-6)


@_every_method
def test_a_function_of_both_is_refused_and_both_ways_out_are_shown(method):
    x = np.array([3.0, 4.0])
    with pytest.raises(AmbiguousFunctionError) as raised:
        accelnn.numerical_gradient(lambda p: p @ x, x, method=method)
    message = str(raised.value)
    assert "in_place=True to move x itself, which gives the total derivative" in message
    assert "in_place=False to move the argument alone, which gives the partial one" in message
    assert isinstance(raised.value, ImpureFunctionError)
    np.testing.assert_array_equal(x, [3.0, 4.0])


@_every_difference
def test_the_total_derivative_of_a_function_of_both(method):
    x = np.array([3.0, 4.0])
    _near(
        method, accelnn.numerical_gradient(lambda p: p @ x, x, method=method, in_place=True), 2 * x
    )
    np.testing.assert_array_equal(x, [3.0, 4.0])


@_every_method
@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"workers": map}, {"batched": True}])
def test_the_partial_derivative_of_a_function_of_both(method, options):
    x = np.array([3.0, 4.0])
    found = accelnn.numerical_gradient(lambda p: p @ x, x, method=method, in_place=False, **options)
    _near(method, found, x)
    np.testing.assert_array_equal(x, [3.0, 4.0])


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": map}, {"batched": True}, {"method": "complex"}]
)
def test_x_itself_is_moved_call_by_call_only(options):
    x = np.array([3.0, 4.0])
    with pytest.raises(ValueError, match="in_place=True moves x itself, one call of f after the"):
        accelnn.numerical_gradient(lambda p: p @ x, x, in_place=True, **options)
    for point in ([3.0, 4.0], np.array([3, 4]), _frozen([3.0, 4.0]), 3.0):
        with pytest.raises(ValueError, match="pass x as a writable float array"):
            accelnn.numerical_gradient(np.sum, point, in_place=True)


def test_every_door_tells_the_total_from_the_partial_derivative():
    x, v = np.array([3.0, 4.0]), np.array([1.0, 2.0])
    doors = {
        "jacobian": (
            lambda **o: accelnn.numerical_jacobian(lambda p: p * x, x, **o),
            np.diag(2 * x),
            np.diag(x),
        ),
        "hessian": (
            lambda **o: accelnn.numerical_hessian(lambda p: np.sum(p**2 * x), x, **o),
            np.diag(6 * x),
            np.diag(2 * x),
        ),
        "jvp": (lambda **o: accelnn.numerical_jvp(lambda p: p @ x, x, v, **o), 22.0, 11.0),
        "hvp": (
            lambda **o: accelnn.numerical_hvp(lambda p: np.sum(p**2 * x), x, v, **o),
            6 * x * v,
            2 * x * v,
        ),
    }
    for name, (door, total, partial) in doors.items():
        with pytest.raises(AmbiguousFunctionError):
            door()
        # Second differences at their step are good to 1e-7 of f, which is near 100.
        np.testing.assert_allclose(door(in_place=True), total, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(door(in_place=False), partial, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(x, [3.0, 4.0])


def test_a_check_tells_the_total_from_the_partial_derivative():
    x = np.array([3.0, 4.0])
    with pytest.raises(AmbiguousFunctionError):
        accelnn.check_gradient(lambda p: p @ x, x, x)
    assert accelnn.check_gradient(lambda p: p @ x, 2 * x, x, in_place=True).passed
    assert accelnn.check_gradient(lambda p: p @ x, 1 * x, x, in_place=False).passed
    for in_place, other in ((True, 1 * x), (False, 2 * x)):
        report = accelnn.check_gradient(lambda p: p @ x, other, x, in_place=in_place, raises=False)
        assert report.verdict == "WRONG"


@_every_difference
def test_x_is_moved_for_one_probe_alone_where_f_reads_its_argument(method):
    x = np.array([3.0, 4.0])
    moved = []

    def f(p):
        moved.append(not (x == [3.0, 4.0]).all())
        return np.sum(p**3)

    accelnn.numerical_gradient(f, x, method=method)
    assert sum(moved) == 1
    assert moved[2]


def test_a_closure_sees_one_coordinate_move_at_a_time():
    x = np.array([3.0, 4.0, 5.0])
    seen = []

    def f(_):
        seen.append(np.flatnonzero(x != [3.0, 4.0, 5.0]).tolist())
        return np.sum(x**3)

    accelnn.numerical_gradient(f, x)
    # f(x); its argument moved, x moved; the differences; and f(x).
    assert seen == [[], [], [0, 1, 2], [0], [0], [1], [1], [2], [2], []]


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
@pytest.mark.parametrize("call", range(1, 8))
def test_a_closure_that_raises_in_any_call_leaves_x_as_it_was(call, error):
    x, calls = np.array([-0.0, 1e-300, np.pi]), 0

    def f(_):
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return np.sum(x)

    with pytest.raises(error):
        accelnn.numerical_gradient(f, x, method="forward")
    assert x.tobytes() == np.array([-0.0, 1e-300, np.pi]).tobytes()


CANNOT_MOVE = {
    "number": -3.0,
    "integer": -3,
    "list": [-1.0, -2.0],
    "nested": [[-1.0], [-2.0]],
    "read-only": _frozen([-1.0, -2.0]),
}
_every_point = pytest.mark.parametrize("x", CANNOT_MOVE.values(), ids=CANNOT_MOVE)


@_every_point
@pytest.mark.parametrize("method", DIFFERENCES)
def test_a_flat_function_has_gradient_zero(x, method):
    found = accelnn.numerical_gradient(lambda p: np.sum(np.maximum(p, 0.0)), x, method=method)
    np.testing.assert_array_equal(found, np.zeros(np.shape(x)))


class Constant:
    def __call__(self, _):
        return 5.0

    def method(self, _):
        return 5.0

    def flat(self, *points):
        return 0.0 * points[0].sum()


CONSTANTS = {
    "lambda": lambda _: 5.0,
    "object": Constant(),
    "method": Constant().method,
    "reads *args": Constant().flat,
    "partial": functools.partial(lambda weight, _: weight, 2.0),
}


@_every_point
@pytest.mark.parametrize("f", CONSTANTS.values(), ids=CONSTANTS)
def test_a_constant_has_gradient_zero(x, f):
    np.testing.assert_array_equal(accelnn.numerical_gradient(f, x), np.zeros(np.shape(x)))


LIST = [-1.0, -2.0]


def _weighted(weight, _):
    return weight * LIST[0]


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda _: np.sum(LIST), LIST),
        (lambda _: LIST[0] ** 2, LIST),
        (functools.partial(_weighted, 2.0), LIST),
        (math.floor, 0.5),
    ],
    ids=["call", "global", "partial", "builtin"],
)
@pytest.mark.parametrize("options", [{}, {"workers": map}])
def test_what_may_read_something_else_is_refused_and_both_readings_are_named(f, x, options):
    with pytest.raises(ImpureFunctionError) as raised:
        accelnn.numerical_gradient(f, x, **options)
    message = str(raised.value)
    assert "it is constant, or it ignores its argument and reads an array" in message
    assert "pass x as a writable float array" in message


@pytest.mark.parametrize("options", [{}, {"workers": map}])
def test_a_compiled_function_without_a_response_is_refused(options):
    numba = pytest.importorskip("numba", reason="numba is not installed")
    constant = numba.njit(lambda _: 5.0)
    for x in ([1.0, 2.0], np.array([1.0, 2.0])):
        with pytest.raises(ImpureFunctionError, match="f never responded"):
            accelnn.numerical_gradient(constant, x, **options)


@pytest.mark.parametrize("x", [np.ones(3), np.ones(3, np.float32), np.array([1, 2])], ids=repr)
@pytest.mark.parametrize("options", [{}, {"workers": 2}])
def test_a_constant_is_0_where_x_can_be_moved_however_it_is_made(x, options):
    found = accelnn.numerical_gradient(lambda _: np.sum([1.0, 2.0]), x, **options)
    np.testing.assert_array_equal(found, np.zeros(x.shape))


def test_a_flat_function_in_a_batch_has_gradient_zero():
    for x in ([-1.0, -2.0], np.array([-1, -2]), np.array([-1.0, -2.0])):
        found = accelnn.numerical_gradient(
            lambda p: np.maximum(p, 0.0).sum(axis=1), x, batched=True
        )
        np.testing.assert_array_equal(found, [0.0, 0.0])


@pytest.mark.parametrize("method", DIFFERENCES)
@pytest.mark.parametrize("x", [np.zeros(3), np.array([2.0, -1.0, 0.5])], ids=["minimum", "beside"])
def test_a_function_that_responds_far_from_x_only_is_flat_and_no_closure(method, x):
    """A step of 1e-8 moves no cube at 0, and the argument is read nevertheless."""
    found = accelnn.numerical_gradient(lambda p: np.sum(p**3), x, method=method, in_place=None)
    _near(method, found, 3.0 * x**2)
