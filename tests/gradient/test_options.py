"""Further arguments, relative steps, a value that is known, and bounds in every form."""

import numpy as np
import pytest
from functions_to_send import powers

import accelnn
from accelnn.gradient import Flag

DIFFERENCES = ("central", "central4", "forward", "backward", "richardson")
METHODS = (*DIFFERENCES, "complex")
_every_method = pytest.mark.parametrize("method", METHODS)
TOLERANCE = {"forward": 1e-6, "backward": 1e-6}


@_every_method
@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"workers": map}, {"batched": True}])
def test_further_arguments(method, options):
    x = np.array([1.0, 2.0])
    options = {"method": method, "args": (3.0,), "kwargs": {"power": 3}, **options}
    found = accelnn.numerical_gradient(powers, x, **options)
    tolerance = TOLERANCE.get(method, 1e-8)
    np.testing.assert_allclose(found, 9.0 * x**2, rtol=tolerance)
    hessian = accelnn.numerical_hessian(powers, x, **options)
    np.testing.assert_allclose(hessian, np.diag(18.0 * x), rtol=1e-3, atol=1e-3)


def test_further_arguments_of_every_door():
    x, v = np.array([1.0, 2.0]), np.array([1.0, -1.0])
    more = {"args": (3.0,), "kwargs": {"b": 2.0}}

    def f(x, a, b=1.0):
        return a * b * x**2

    def total(x, a, b=1.0):
        return np.sum(f(x, a, b))

    def slope(x, a, b=1.0):
        return 2.0 * a * b * x

    np.testing.assert_allclose(accelnn.numerical_diff(f, x, **more), 12.0 * x)
    np.testing.assert_allclose(
        accelnn.numerical_jacobian(f, x, **more), np.diag(12.0 * x), atol=1e-8
    )
    np.testing.assert_allclose(accelnn.numerical_jvp(f, x, v, **more), 12.0 * x * v, atol=1e-8)
    np.testing.assert_allclose(accelnn.numerical_hvp(total, x, v, **more), 12.0 * v, atol=1e-4)
    found = accelnn.numerical_hvp(None, x, v, grad=slope, **more)
    np.testing.assert_allclose(found, 12.0 * v, rtol=1e-8)
    assert accelnn.check_gradient(total, slope, x, **more).passed
    report = accelnn.check_gradient(
        total, lambda x, a, b=1.0: a * b * x, x, raises=False, mode="full", **more
    )
    assert report.worst.index == (1,)
    assert accelnn.check_gradient(
        lambda x, a, b: (total(x, a, b), slope(x, a, b)), grad=True, x=x, **more
    ).passed


@pytest.mark.parametrize(
    "args", [3.0, (3.0,), [3.0], np.array(3.0), np.array([3.0, 3.0])], ids=repr
)
def test_a_single_argument_needs_no_tuple(args):
    x = np.array([1.0, 2.0])
    found = accelnn.numerical_gradient(lambda x, a: np.sum(a * x**2), x, args=args)
    np.testing.assert_allclose(found, [6.0, 12.0], rtol=1e-8)


def test_a_closure_with_further_arguments_is_moved_in_place():
    x = np.array([1.0, 2.0])
    found = accelnn.numerical_gradient(lambda _, a: a * np.sum(x**2), x, args=(3.0,))
    np.testing.assert_allclose(found, 6.0 * x, rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("method", ["central", "central4", "forward", "backward"])
def test_relative_steps_differentiate_in_small_units(scale, method):
    x = scale * np.array([1.0, -2.0, 3.0])

    def f(x):
        return np.sum(np.sin(x / scale))

    part = {"central": 1e-5, "central4": 1e-3}.get(method, 1e-8)
    found = accelnn.numerical_gradient(f, x, method=method, rel_step=part, full_output=True)
    np.testing.assert_allclose(found.step, part * np.abs(x), rtol=1e-6)
    # Truncation and rounding of a value near 1 are both near the step here, or its square.
    tolerance = {"central": 1e-9, "central4": 1e-11}.get(method, 3e-7) / scale
    np.testing.assert_allclose(found.gradient, np.cos(x / scale) / scale, rtol=0.0, atol=tolerance)
    assert not (found.flags & Flag.LARGE_STEP).any()


def test_a_relative_step_where_x_is_0_is_the_default_one():
    found = accelnn.numerical_gradient(
        lambda x: np.sum(x**3), np.array([0.0, 1e-9]), rel_step=[0.1, 0.1], full_output=True
    )
    np.testing.assert_allclose(found.step, [2.0 ** (-52 / 3), 1e-10], rtol=1e-6)


def test_a_step_and_a_relative_step_are_not_given_together():
    for door in (accelnn.numerical_gradient, accelnn.numerical_jacobian, accelnn.numerical_hessian):
        with pytest.raises(ValueError, match="give step or rel_step, not both"):
            door(np.sum, np.ones(2), step=0.1, rel_step=0.1)
    for given in (0.0, -1.0, np.nan, [0.1, 0.1, 0.1]):
        with pytest.raises(ValueError, match="rel_step"):
            accelnn.numerical_gradient(np.sum, np.ones(2), rel_step=given)


@pytest.mark.parametrize("method", ["central", "forward"])
def test_steps_far_larger_than_x_are_flagged(method):
    x = np.array([1e-10, -3e-10])
    found = accelnn.numerical_gradient(lambda x: np.sum(x**2), x, method=method, full_output=True)
    assert (found.flags & Flag.LARGE_STEP).all()
    found = accelnn.numerical_gradient(
        lambda x: np.sum(x**2), np.array([1e-10, 1.0]), method=method, full_output=True
    )
    assert not (found.flags & Flag.LARGE_STEP).any()


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"workers": map}, {"batched": True}])
@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_a_value_that_is_known_is_taken(method, options):
    x = np.array([1.0, 2.0])
    plain = accelnn.numerical_gradient(powers, x, args=(1.0,), method=method, **options)
    found = accelnn.numerical_gradient(powers, x, args=(1.0,), method=method, f0=5.0, **options)
    np.testing.assert_array_equal(found, plain)
    if method == "forward" and "batched" not in options:
        # It enters this difference, and a wrong one is the caller's.
        wrong = accelnn.numerical_gradient(
            powers, x, args=(1.0,), method=method, f0=4.0, step=0.5, **options
        )
        np.testing.assert_allclose(wrong, 2.0 * x + 0.5 + 2.0)


def test_a_known_value_of_the_wrong_kind_is_refused():
    x = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="f0 is not a valid value of f: f must return one number"):
        accelnn.numerical_gradient(np.sum, x, f0=[1.0, 2.0])
    with pytest.raises(ValueError, match="f returned shape"):
        accelnn.numerical_jacobian(lambda x: x**2, x, f0=np.ones(3))
    found = accelnn.numerical_jacobian(lambda x: x**2, x, f0=x**2, method="forward")
    np.testing.assert_allclose(found, np.diag(2.0 * x), atol=1e-6)


LOW, HIGH = [1.0, 0.0, -np.inf], [4.0, 2.0, 3.0]
POINT = np.array([1.0, 2.0, 3.0])
BOUNDS = {
    "ends": (LOW, HIGH),
    "arrays": (np.array(LOW), np.array(HIGH)),
    "pairs": [(1.0, 4.0), (0.0, 2.0), (None, 3.0)],
    "lists": [[1.0, 4.0], [0.0, 2.0], [-np.inf, 3.0]],
    "tuple": ((1.0, 4.0), (0.0, 2.0), (-np.inf, 3.0)),
    "an array of pairs": np.array([LOW, HIGH]).T,
}


class OfScipy:
    """What has lb and ub, as scipy.optimize.Bounds."""

    lb, ub = np.array(LOW), np.array(HIGH)


@pytest.mark.parametrize("bounds", [*BOUNDS.values(), OfScipy()], ids=[*BOUNDS, "lb and ub"])
@pytest.mark.parametrize("method", DIFFERENCES)
def test_bounds_in_every_form(bounds, method):
    seen = []

    def f(x):
        seen.append(x.copy())
        return np.sum(x**3)

    found = accelnn.numerical_gradient(f, POINT, method=method, bounds=bounds, full_output=True)
    np.testing.assert_allclose(found.gradient, 3.0 * POINT**2, rtol=1e-5)
    assert ((np.array(seen) >= LOW) & (np.array(seen) <= HIGH)).all()
    if method in ("central", "central4", "richardson"):
        assert (found.flags & Flag.ONE_SIDED).all()


def test_bounds_of_scipy():
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    for bounds in (optimize.Bounds(LOW, HIGH), optimize.Bounds(-np.inf, 3.0), optimize.Bounds()):
        found = accelnn.numerical_gradient(
            lambda x: np.sum(x**3), POINT, bounds=bounds, full_output=True
        )
        np.testing.assert_allclose(found.gradient, 3.0 * POINT**2, rtol=1e-7)
        assert bool(found.flags[2] & Flag.ONE_SIDED) == np.isfinite(bounds.ub).all()


@pytest.mark.parametrize("bounds", [[(0.0, 3.0), (1.0, 4.0)], [[0.0, 1.0], [3.0, 4.0]]])
def test_bounds_of_two_variables_that_read_both_ways_are_refused(bounds):
    with pytest.raises(ValueError, match="can be read as") as raised:
        accelnn.numerical_gradient(np.sum, np.array([0.5, 3.5]), bounds=bounds)
    message = str(raised.value)
    (a, b), (c, d) = bounds
    assert f"(low, high) = ({[a, b]}, {[c, d]})" in message
    assert f"pairs, which is low = {[a, c]} and high = {[b, d]}" in message
    assert "scipy.optimize.Bounds(low, high)" in message


def test_ways_out_of_the_tie():
    x = np.array([0.0, 4.0])
    for bounds in ((np.array([0.0, 1.0]), np.array([3.0, 4.0])), (0.0, 4.0), (0.0, None)):
        found = accelnn.numerical_gradient(
            lambda x: np.sum(x**2), x, bounds=bounds, full_output=True
        )
        assert found.flags[0] == Flag.ONE_SIDED
        np.testing.assert_allclose(found.gradient, 2.0 * x, atol=1e-8)


def test_bounds_that_are_the_same_both_ways_are_no_tie():
    x = np.array([0.0, 4.0])
    for bounds in ([(0.0, None), (None, 4.0)], (None, None)):
        found = accelnn.numerical_gradient(
            lambda x: np.sum(x**2), x, bounds=bounds, full_output=True
        )
        np.testing.assert_allclose(found.gradient, 2.0 * x, atol=1e-8)


@pytest.mark.parametrize("shape", [(3, 2), (5,), (6, 1)])
def test_bounds_and_steps_of_another_shape_are_refused(shape):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="bounds"):
        accelnn.numerical_gradient(np.sum, x, bounds=(np.zeros(shape), None))
    with pytest.raises(ValueError, match="step"):
        accelnn.numerical_gradient(np.sum, x, step=np.full(shape, 0.1))


@_every_method
def test_a_coordinate_without_room_has_derivative_zero_and_is_flagged(method):
    x = np.array([1.0, 2.0, 3.0])
    bounds = (np.array([0.0, 2.0, 0.0]), np.array([5.0, 2.0, 5.0]))
    seen = []

    def f(x):
        seen.append(float(np.real(x[1])))
        return np.sum(x**3)

    found = accelnn.numerical_gradient(f, x, method=method, bounds=bounds, full_output=True)
    np.testing.assert_allclose(found.gradient, [3.0, 0.0, 27.0], rtol=1e-6)
    np.testing.assert_array_equal(found.flags, [0, Flag.FIXED, 0])
    assert found.gradient[1] == found.error[1] == 0.0
    assert set(seen[:1] + seen[3:]) == {2.0}
    jacobian = accelnn.numerical_jacobian(lambda x: x**3, x, method=method, bounds=bounds)
    assert (jacobian[:, 1] == 0.0).all()
    if method != "complex":
        hessian = accelnn.numerical_hessian(f, x, method=method, bounds=bounds)
        np.testing.assert_allclose(hessian, np.diag([6.0, 0.0, 18.0]), atol=2e-3)
        product = accelnn.numerical_hvp(f, x, [1.0, 0.0, 1.0], method=method, bounds=bounds)
        np.testing.assert_allclose(product, [6.0, 0.0, 18.0], atol=2e-3)


def test_all_coordinates_without_room():
    x = np.array([1.0, 2.0])
    found = accelnn.numerical_gradient(lambda x: np.sum(x**3), x, bounds=(x, x), full_output=True)
    np.testing.assert_array_equal(found.gradient, [0.0, 0.0])
    assert (found.flags == Flag.FIXED).all()


NARROW = {
    "above": ([0.3, 0.5], [0.3, 0.5], [0.3 + 1e-9, 0.6]),
    "below": ([0.3, 1.0], [0.3 - 1e-9, 1.0 - 1e-9], [0.3, 1.0]),
    "both": ([0.0, 2.0], [-1e-9, 2.0 - 1e-5], [1e-9, 2.0 + 1e-5]),
    "small": ([1e-3, 1e-8], [-np.inf, 9e-9], [0.101, 1.001e-5]),
}


@pytest.mark.parametrize("place", NARROW)
@pytest.mark.parametrize("method", DIFFERENCES)
@pytest.mark.parametrize("full_output", [False, True])
@pytest.mark.parametrize("power", [3.0, 2.5])
def test_narrow_bounds_are_never_left(place, method, full_output, power):
    """Not by a rounding, nor where a side of x is taken because f has none on the other."""
    x, low, high = (np.array(part) for part in NARROW[place])

    def f(x):
        assert ((x >= low) & (x <= high)).all()
        with np.errstate(invalid="ignore"):
            return np.sum(np.abs(x) ** power if power == 3.0 else x**power)

    options = {"method": method, "bounds": (low, high), "full_output": full_output}
    accelnn.numerical_gradient(f, x, **options)
    accelnn.numerical_hessian(f, x, **options)
    accelnn.numerical_jacobian(f, x, **options)
    accelnn.numerical_jvp(f, x, [1.0, -1.0], **options)
    del options["full_output"]
    accelnn.numerical_hvp(f, x, [1.0, -1.0], **options)
