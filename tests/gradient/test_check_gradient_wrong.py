"""`check_gradient` finds wrong gradients, and says where and by how much."""

import math
import re
import warnings

import numpy as np
import pytest

import accelnn
from accelnn.errors import GradientCheckError, ImpureFunctionError, InconclusiveCheckWarning
from accelnn.gradient import GradientReport

MODES = ("directional", "sampled", "full")
_everywhere = pytest.mark.parametrize("mode", MODES)
_both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
A = np.array([[1.0, 2.0, -1.0], [0.5, -1.5, 3.0], [2.0, 1.0, 0.25]])


def _f(x):
    return np.sum(np.sin(x) * np.arange(1.0, x.size + 1).reshape(x.shape).astype(x.dtype))


def _right(x):
    return np.cos(x) * np.arange(1.0, x.size + 1).reshape(x.shape).astype(x.dtype)


def _one_wrong(x):
    g = _right(x)
    g[1, 2] += 0.5
    return g


WRONG = {
    "factor 2": lambda x: 2 * _right(x),
    "sign": lambda x: -_right(x),
    "missing 1/N": lambda x: x.shape[0] * _right(x),
    "transposed": lambda x: np.ascontiguousarray(_right(x).T),
    "off by one index": lambda x: np.roll(_right(x), 1),
    "one coordinate": _one_wrong,
    "one coordinate forgotten": lambda x: _right(x) * (np.arange(9) != 4).reshape(3, 3),
    "zero": np.zeros_like,
    "five per cent": lambda x: 1.05 * _right(x),
    "the derivative beside x": lambda x: _right(x + x.dtype.type(0.1)),
    "rounded to integers": lambda x: np.rint(_right(x)),
    "infinite": lambda x: np.where(np.arange(9).reshape(3, 3) == 5, np.inf, _right(x)),
}


@_everywhere
@_both_dtypes
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_gradients_fail(kind, dtype, mode):
    x = A.astype(dtype)
    for grad in (WRONG[kind], WRONG[kind](x)):
        with pytest.raises(GradientCheckError) as raised:
            accelnn.check_gradient(_f, grad, x, mode=mode)
        report = raised.value.report
        assert isinstance(report, GradientReport)
        assert not report.passed
        assert report.mode == mode
        index = report.index
        assert WRONG[kind](x)[index] != _right(x)[index]
        assert report.analytic == pytest.approx(float(WRONG[kind](x)[index]), rel=1e-3)
        assert report.numerical == pytest.approx(float(_right(x)[index]), rel=1e-2)
    np.testing.assert_array_equal(x, A.astype(dtype))


@_everywhere
@pytest.mark.parametrize("index", [(0, 0), (1, 2), (2, 1)])
def test_the_message_names_the_worst_coordinate_both_values_and_the_noise_floor(index, mode):
    wrong = _right(A)
    wrong[index] += 1.0
    with pytest.raises(GradientCheckError) as raised:
        accelnn.check_gradient(_f, wrong, A.copy(), mode=mode)
    message, report = str(raised.value), raised.value.report
    assert message == str(report)
    assert message.startswith(f"WRONG gradient ({mode}, ")
    assert f"worst at x[{index[0]}, {index[1]}]: " in message
    numbers = [
        float(re.search(rf"{name} (\S+?)(,|$)", message).group(1))
        for name in ("analytic", "numerical", "error", "tolerance", "noise floor")
    ]
    assert numbers == pytest.approx(
        [report.analytic, report.numerical, report.error, report.tolerance, report.noise_floor],
        rel=1e-2,
    )
    assert report.analytic == pytest.approx(wrong[index], rel=1e-12)
    assert report.numerical == pytest.approx(wrong[index] - 1.0, rel=1e-8)


def test_the_report_is_consistent():
    report = accelnn.check_gradient(_f, _right, A.copy(), mode="full")
    assert (report.passed, report.mode, report.comparisons) == (True, "full", 9)
    assert report.error == abs(report.analytic - report.numerical)
    assert 0.0 <= report.noise_floor <= report.tolerance
    assert str(report).startswith("right gradient (full, 9 compared); worst at x[")
    counts = {"directional": 3, "sampled": 4}
    for mode, count in counts.items():
        options = {"mode": mode, "directions": 3, "samples": 4}
        report = accelnn.check_gradient(_f, _right, A.copy(), **options)
        assert report.comparisons == count
        assert (report.index is None) == (mode == "directional")


def test_more_samples_than_coordinates_is_all_of_them():
    assert accelnn.check_gradient(_f, _right, A.copy(), mode="sampled").comparisons == 9


@_both_dtypes
def test_one_wrong_coordinate_of_five_thousand_is_found_and_named(dtype):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(50, 100)).astype(dtype)
    for place in [(0, 0), (17, 93), (49, 99)]:
        wrong = np.cos(x)
        wrong[place] += 1.0
        message = re.escape(f"worst at x[{place[0]}, {place[1]}]: ")
        with pytest.raises(GradientCheckError, match=message):
            accelnn.check_gradient(lambda x: np.sum(np.sin(x)), wrong, x)


def test_a_wrong_gradient_costs_a_bounded_number_of_evaluations():
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        return np.sum(np.sin(x))

    x = np.linspace(-1.0, 1.0, 4000)
    accelnn.check_gradient(f, np.cos, x)
    # f(x), its argument moved and x moved, two along each of eight directions, and f(x) again.
    assert calls == 1 + 2 + 2 * 8 + 1
    calls = 0
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(f, lambda x: 2 * np.cos(x), x)
    assert calls < 1500


@_everywhere
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_fails_at_its_place(bad, mode):
    wrong = _right(A)
    wrong[2, 0] = bad
    with pytest.raises(GradientCheckError, match=r"worst at x\[2, 0\]: analytic -?(nan|inf)"):
        accelnn.check_gradient(_f, wrong, A.copy(), mode=mode)


@_everywhere
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_function_that_is_not_finite_at_x_is_said_to_be(value, mode):
    with pytest.raises(ValueError, match=f"f is {value} at x: there is no gradient to check"):
        accelnn.check_gradient(lambda _: value, np.ones(3), np.ones(3), mode=mode)
    with pytest.raises(ValueError, match=f"f is {value} at x"):
        accelnn.check_gradient(
            lambda x: np.where(x == 1.0, value, x), np.eye(3), np.arange(3.0), mode=mode
        )


@_everywhere
def test_a_function_that_is_finite_at_x_alone_fails(mode):
    x = np.ones(3)
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(
            lambda x: 1.0 if (x == 1.0).all() else math.inf, np.ones(3), x, mode=mode
        )


@pytest.mark.parametrize("halvings", range(50, 60))
def test_a_function_that_is_finite_close_to_x_alone_does_not_hide_an_error(halvings):
    radius = 1.5 * 2.0 ** (-52 / 3) * 0.5**halvings
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(
            lambda x: x[0] if abs(x[0]) < radius else math.inf, [3.0], np.zeros(1), mode="full"
        )


@_everywhere
@_both_dtypes
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1.1, 2.0, -1.0])
def test_wrong_gradients_of_difficult_functions_fail(factor, dtype, mode):
    for f, gradient, x in (
        (lambda x: np.sum(np.log(x)), lambda x: 1 / x, [0.05, 0.3, 2.0]),
        (lambda x: np.sum(np.sin(30 * x)), lambda x: 30 * np.cos(30 * x), [0.1, 0.7, -0.4]),
        (lambda x: np.sum(np.abs(x)), np.sign, [0.1, -0.5, 2.0]),
        (lambda x: 1e6 * np.sum(x**2), lambda x: 2e6 * x, [1e3, 2e3, -3e3]),
    ):
        x = np.array(x, dtype)  # noqa: PLW2901 - the point in the dtype under test
        with pytest.raises(GradientCheckError):
            accelnn.check_gradient(f, x.dtype.type(factor) * gradient(x), x, mode=mode)


@_everywhere
@pytest.mark.parametrize("slope", [-0.3, 1.3, 2.0])
def test_a_slope_outside_those_of_a_kinks_sides_fails(slope, mode):
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(
            lambda x: np.sum(np.maximum(x, 0.0)), np.full(4, slope), np.zeros(4), mode=mode
        )


def test_near_a_minimum_a_small_wrong_gradient_is_still_wrong():
    x = 1.0 + 1e-6 * np.arange(1.0, 6.0)
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(lambda x: np.sum((x - 1) ** 2), lambda x: 3 * (x - 1), x)


def test_a_tighter_tolerance_may_be_asked_for():
    slightly = _right(A) * (1.0 + 1e-8)
    assert accelnn.check_gradient(_f, slightly, A.copy(), mode="full").passed
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(_f, slightly, A.copy(), mode="full", rtol=0.0)
    assert accelnn.check_gradient(_f, 1.05 * _right(A), A.copy(), rtol=0.1).passed


@_everywhere
@pytest.mark.parametrize("shape", [(9,), (3, 1), (), (3, 3, 1)])
def test_a_gradient_of_another_shape_is_a_value_error(shape, mode):
    message = re.escape(f"the gradient has shape {shape}, x has (3, 3)")
    with pytest.raises(ValueError, match=message):
        accelnn.check_gradient(_f, np.ones(shape), A.copy(), mode=mode)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="unknown mode 'all'; known modes are 'directional', 'sam"):
        accelnn.check_gradient(_f, _right, A, mode="all")
    with pytest.raises(ValueError, match=r"x has shape \(0, 2\): there is no coordinate to check"):
        accelnn.check_gradient(np.sum, np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"x must be finite, but x\[0\] is nan"):
        accelnn.check_gradient(np.sum, np.ones(1), [np.nan])
    with pytest.raises(TypeError, match="gradient must hold real numbers, got dtype complex128"):
        accelnn.check_gradient(_f, A * 1j, A)
    for option in ("directions", "samples"):
        mode = "directional" if option == "directions" else "sampled"
        with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
            accelnn.check_gradient(_f, _right, A.copy(), mode=mode, **{option: 0})


def test_a_closure_over_integers_is_refused():
    x = np.array([1, 2, 3])
    with pytest.raises(ImpureFunctionError):
        accelnn.check_gradient(lambda _: float(np.sum(x**2)), lambda x: 2 * x, x)
    np.testing.assert_array_equal(x, [1, 2, 3])


def test_a_gradient_check_error_is_an_assertion():
    assert issubclass(GradientCheckError, AssertionError)


def test_the_same_seed_gives_the_same_report():
    reports = [
        accelnn.check_gradient(_f, _right, A.copy(), rng=rng)
        for rng in (3, 3, np.random.default_rng(3), 4)
    ]
    assert reports[0] == reports[1] == reports[2] != reports[3]


@pytest.mark.parametrize("factor", [-3.0, 0.5, 2.0])
def test_truncation_does_not_hide_a_wrong_factor_in_single_precision(factor):
    x = np.array([1, 2, 3], np.float32) * np.float32(1e-5)
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(lambda x: np.sum(x**3), factor * 3.0 * x**2, x, mode="full")


@pytest.mark.parametrize("factor", [-3.0, 0.5, 0.99, 1.01, 1.5, 2.0])
def test_truncation_does_not_hide_a_wrong_factor_in_double_precision(factor):
    x = np.array([1.0, 2.0, 3.0]) * 1e-9
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(lambda x: np.sum(x**3), factor * 3.0 * x**2, x, mode="full")


def test_the_worst_coordinate_is_one_that_was_looked_at_closely():
    x = np.full(20, 2e-7)
    wrong = 1.0 / x
    wrong[7] *= 1.5
    with np.errstate(all="ignore"), pytest.raises(GradientCheckError, match=r"worst at x\[7\]: "):
        accelnn.check_gradient(lambda x: np.sum(np.log(x)), wrong, x, mode="full")


@pytest.mark.parametrize("rtol", [-1.0, float("inf"), float("nan"), "a"])
def test_a_tolerance_must_be_one(rtol):
    with pytest.raises(ValueError, match="rtol must be None or a finite number >= 0"):
        accelnn.check_gradient(np.sum, np.ones(2), np.ones(2), rtol=rtol)


@_everywhere
@pytest.mark.parametrize("offset", [1e3, 1e5, 1e6])
def test_a_zero_gradient_does_not_hide_in_the_noise_of_single_precision(offset, mode):
    """At usual steps 1e6 + x² moves by less than its rounding, at longer ones it does not."""
    x = np.array([1.0, -2.0, 0.5], np.float32)

    def f(x):
        return np.float32(offset) + np.sum(x**2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconclusiveCheckWarning)
        assert accelnn.check_gradient(f, lambda x: 2 * x, x, mode=mode).passed
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(f, np.zeros_like, x, mode=mode)


@_everywhere
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_noise_that_hides_every_slope_is_said(factor, mode):
    x = np.array([1.0, -2.0, 0.5], np.float32)

    def f(x):
        return np.float32(1e8) + np.sum(x**2)

    with pytest.warns(InconclusiveCheckWarning, match="more precise dtype"):
        report = accelnn.check_gradient(f, lambda x: np.float32(2 * factor) * x, x, mode=mode)
    assert report.verdict == "inconclusive"
    assert report.passed
    assert not report.is_conclusive
    assert str(report).startswith("inconclusive gradient")


@_everywhere
def test_one_array_of_several_may_be_inconclusive(mode):
    x = {"a": np.float64([1.0, 2.0]), "b": np.float32([1.0, 2.0])}

    def f(p):
        return np.sum(p["a"] ** 2) + float(np.float32(1e9) + np.sum(p["b"] ** 2))

    with pytest.warns(InconclusiveCheckWarning):
        report = accelnn.check_gradient(f, lambda p: {k: 2 * v for k, v in p.items()}, x, mode=mode)
    assert report.passed
    assert report.verdict == "inconclusive"


@_everywhere
@pytest.mark.parametrize("factor", [1.0, 1.1])
@pytest.mark.parametrize("kind", ["single precision", "six decimals"])
def test_a_function_less_precise_than_its_dtype(kind, factor, mode):
    """It returns float64, which does not show in what precision it was computed."""

    def f(x):
        if kind == "six decimals":
            return round(float(np.sum(np.exp(x))), 6)
        return float(np.sum(np.exp(x.astype(np.float32))))

    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=20)
        if factor == 1.0:
            assert accelnn.check_gradient(f, np.exp, x, mode=mode).verdict == "right"
        else:
            with pytest.raises(GradientCheckError):
                accelnn.check_gradient(f, lambda x: factor * np.exp(x), x, mode=mode)


@_everywhere
@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0, -1.0])
def test_noise_of_a_millionth_hides_no_wrong_factor(factor, mode):
    def f(x):
        return np.sum(np.sin(x) + 1e-6 * np.sin(1e12 * x))

    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=20)
        assert accelnn.check_gradient(f, np.cos, x, mode=mode).passed
        with pytest.raises(GradientCheckError):
            accelnn.check_gradient(f, lambda x: factor * np.cos(x), x, mode=mode)
