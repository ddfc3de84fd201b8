"""`check_gradient` finds nothing wrong with right gradients."""

import functools
from fractions import Fraction

import numpy as np
import pytest

import accelnn
from accelnn.errors import GradientCheckError
from accelnn.gradient._steps import symmetric_points

MODES = ("directional", "sampled", "full")
DTYPES = ("float32", "float64")
_everywhere = pytest.mark.parametrize("mode", MODES)
_both_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def _normal(n, scale=1.0, shift=0.0):
    return lambda draw: shift + scale * draw.normal(size=n)


def _positive(n, low=0.1, high=5.0):
    return lambda draw: draw.uniform(low, high, size=n)


def _rosenbrock_gradient(x):
    g = np.zeros_like(x)
    g[:-1] += -400.0 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2.0 * (1.0 - x[:-1])
    g[1:] += 200.0 * (x[1:] - x[:-1] ** 2)
    return g


def _scales(x):
    return 10.0 ** (np.arange(x.size) % 9 - 4).astype(x.dtype)


def _softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


# f, its gradient, where
FUNCTIONS = {
    "squares": (lambda x: np.sum(x**2), lambda x: 2 * x, _normal(30)),
    "cubes": (lambda x: np.sum(x**3), lambda x: 3 * x**2, _normal(60)),
    "linear": (np.sum, np.ones_like, _normal(30)),
    "constant": (lambda x: 3.0 + 0.0 * x[0], np.zeros_like, _normal(5)),
    "zero": (lambda x: 0.0 * x[0], np.zeros_like, _normal(5)),
    "at a minimum": (lambda x: np.sum((x - 1) ** 2), lambda x: 2 * (x - 1), _normal(40, 0.0, 1.0)),
    "at a minimum below zero": (
        lambda x: np.sum((x + 1) ** 2),
        lambda x: 2 * (x + 1),
        _normal(40, 0.0, -1.0),
    ),
    "exp": (lambda x: np.sum(np.exp(x)), np.exp, _normal(30, 3.0)),
    "steep exp": (lambda x: np.exp(20 * x[0]), lambda x: 20 * np.exp(20 * x), _normal(1)),
    "log": (lambda x: np.sum(np.log(x)), lambda x: 1 / x, _positive(30)),
    "log near its pole": (lambda x: np.sum(np.log(x)), lambda x: 1 / x, _positive(30, 2e-3, 0.1)),
    "oscillation": (lambda x: np.sum(np.sin(100 * x)), lambda x: 100 * np.cos(100 * x), _normal(9)),
    "x of 1e8": (lambda x: np.sum(x**2), lambda x: 2 * x, _normal(20, 1e8)),
    "x of 1e-8": (lambda x: np.sum(x**2), lambda x: 2 * x, _normal(20, 1e-8)),
    "f of 1e8": (lambda x: 1e8 * np.sum(np.sin(x)), lambda x: 1e8 * np.cos(x), _normal(20)),
    "f of 1e-8": (lambda x: 1e-8 * np.sum(np.sin(x)), lambda x: 1e-8 * np.cos(x), _normal(20)),
    "an offset of 1e8": (lambda x: 1e8 + np.sum(x**2), lambda x: 2 * x, _normal(20)),
    "all scales": (
        lambda x: np.sum(_scales(x) * np.sin(x)),
        lambda x: _scales(x) * np.cos(x),
        _normal(60),
    ),
    "large terms that cancel": (
        lambda x: np.sum(1e4 * x) - 1e4 * np.sum(x) + np.sum(np.sin(x)),
        np.cos,
        _normal(50),
    ),
    "norm": (lambda x: np.sqrt(np.sum(x**2)), lambda x: x / np.sqrt(np.sum(x**2)), _normal(30)),
    "logsumexp": (lambda x: np.log(np.sum(np.exp(x))), _softmax, _normal(30, 3.0)),
    "rosenbrock": (
        lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        _rosenbrock_gradient,
        _normal(20),
    ),
    "product": (np.prod, lambda x: np.prod(x) / x, _positive(8)),
    "absolute values": (lambda x: np.sum(np.abs(x)), np.sign, _normal(40)),
}


# Where single precision leaves nothing to compare, that is said, and nothing is found wrong.
@pytest.mark.filterwarnings("ignore::accelnn.errors.InconclusiveCheckWarning")
@_everywhere
@_both_dtypes
@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_gradients_pass(name, dtype, mode):
    f, gradient, where = FUNCTIONS[name]
    for seed in range(5):
        x = where(np.random.default_rng(seed)).astype(dtype)
        for grad in (gradient, gradient(x)):
            report = accelnn.check_gradient(f, grad, x, mode=mode, rng=seed)
            assert report.passed
            assert report.error <= report.tolerance or report.error == 0.0


@_both_dtypes
@pytest.mark.parametrize("mode", ["directional", "sampled"])
@pytest.mark.parametrize("name", ["cubes", "exp", "log", "oscillation", "norm"])
def test_right_gradients_of_five_thousand_coordinates_pass(name, dtype, mode):
    f, gradient, _ = FUNCTIONS[name]
    where = _positive(5000) if name == "log" else _normal(5000)
    x = where(np.random.default_rng(0)).astype(dtype)
    assert accelnn.check_gradient(f, gradient, x, mode=mode).passed


def test_single_digit_coordinates_beside_huge_ones_are_not_swamped():
    x = np.array([1e8, 0.5, -0.3])
    assert accelnn.check_gradient(
        lambda x: x[0] * 1e-8 + np.exp(10 * x[1]) + np.sin(20 * x[2]),
        lambda x: np.array([1e-8, 10 * np.exp(10 * x[1]), 20 * np.cos(20 * x[2])]),
        x,
    ).passed


def test_a_logarithm_far_below_the_first_step_passes():
    x = np.array([1e-8, 3e-7, 2.0])
    for mode in MODES:
        assert accelnn.check_gradient(lambda x: np.sum(np.log(x)), lambda x: 1 / x, x, mode=mode)


@_everywhere
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_at_a_kink_any_slope_between_those_of_its_sides_passes(slope, mode):
    x = np.zeros(4)
    assert accelnn.check_gradient(
        lambda x: np.sum(np.maximum(x, 0.0)), np.full(4, slope), x, mode=mode
    ).passed


@_everywhere
@_both_dtypes
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("loss", ["cross_entropy", "sum_squared_error"])
def test_nets_pass(loss, activation, dtype, mode):
    draw = np.random.default_rng(2)
    net = accelnn.MLP((6, 8, 3), activation=activation, loss=loss, dtype=dtype, rng=1)
    x = draw.normal(size=(12, 6)).astype(dtype)
    t = draw.uniform(size=(12, 3)).astype(dtype)
    for key, parameter in net.params.items():
        assert accelnn.check_gradient(
            lambda _: net.loss(x, t), net.gradient(x, t)[key], parameter, mode=mode
        ).passed


@functools.cache
def _false_alarms(activation, mode):
    alarms = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        net = accelnn.MLP((20, 30, 10), activation=activation, dtype="float32", rng=seed)
        x, t = draw.normal(size=(50, 20)).astype(np.float32), draw.integers(0, 10, size=50)
        gradient = net.gradient(x, t)["W1"]
        try:
            accelnn.check_gradient(
                lambda _, net=net, x=x, t=t: net.loss(x, t),
                gradient,
                net.params["W1"],
                mode=mode,
                samples=20,
                rng=seed,
            )
        except accelnn.errors.GradientCheckError:
            alarms += 1
    return alarms


@pytest.mark.parametrize("mode", ["directional", "sampled"])
def test_smooth_nets_in_single_precision_never_raise_an_alarm(mode):
    assert _false_alarms("sigmoid", mode) == _false_alarms("tanh", mode) == 0


# That noise hides whether there is a kink is no alarm.
@pytest.mark.filterwarnings("ignore::accelnn.errors.InconclusiveCheckWarning")
@pytest.mark.parametrize("mode", ["directional", "sampled"])
def test_kinked_nets_in_single_precision_seldom_raise_an_alarm(mode):
    """Kinks closer to x than single precision resolves look like a wrong gradient."""
    assert _false_alarms("relu", mode) <= 4


@_everywhere
@pytest.mark.parametrize(
    ("f", "gradient"),
    [
        (np.log, lambda x: 1.0 / x),
        (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
        (np.reciprocal, lambda x: -1.0 / x**2),
    ],
    ids=["log", "sqrt", "1 / x"],
)
def test_coordinates_far_below_the_first_step(f, gradient, mode):
    for seed in range(20):
        x = 1e-10 * np.random.default_rng(seed).uniform(0.5, 2.0, size=4)
        assert accelnn.check_gradient(lambda x: np.sum(f(x)), gradient, x, mode=mode).passed


@_everywhere
@pytest.mark.parametrize(
    "x",
    [[1.0, 2.0], [1, 2], np.array([1, 2]), np.float32(2.0), 3, np.array([[1.0, 2.0]])],
    ids=repr,
)
def test_points_of_every_kind(x, mode):
    report = accelnn.check_gradient(lambda x: np.sum(x**3), lambda x: 3 * x**2, x, mode=mode)
    assert report.passed


def test_a_closure_over_x_is_checked_in_place():
    x = np.array([1.0, -2.0])
    assert accelnn.check_gradient(lambda _: np.sum(x**3), lambda _: 3 * x**2, x).passed


@pytest.mark.parametrize("frozen", [False, True])
def test_x_and_the_gradient_are_left_alone(frozen):
    x, g = np.array([1.0, -0.0, 3.0]), np.array([3.0, 0.0, 27.0])
    x.flags.writeable = g.flags.writeable = not frozen
    bits = x.tobytes(), g.tobytes()
    accelnn.check_gradient(lambda x: np.sum(x**3), g, x, mode="full")
    assert (x.tobytes(), g.tobytes()) == bits


def test_x_comes_back_from_functions_that_write_to_it():
    x = np.array([1.0, 2.0])

    def f(x):
        x *= x
        return np.sum(x)

    def gradient(x):
        x *= 2.0
        return x

    assert accelnn.check_gradient(f, gradient, x, mode="full").passed
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_x_comes_back_when_f_raises():
    x = np.array([1.0, 2.0])
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ArithmeticError
        return np.sum(x)

    with pytest.raises(ArithmeticError):
        accelnn.check_gradient(f, np.ones(2), x)
    np.testing.assert_array_equal(x, [1.0, 2.0])


@_both_dtypes
@pytest.mark.parametrize("x", [1.0, -1.0, 2.0, -4.0, 0.1, -3.7, 1e5])
def test_the_points_compared_lie_evenly_about_x(x, dtype):
    """Else their difference would be the derivative somewhere beside x."""
    point = np.array([x], dtype)
    for factor in np.linspace(1.0, 1.7, 40):
        move = np.array([np.finfo(dtype).eps ** (1 / 3) * abs(x) * factor], dtype)
        wide = (point.astype(np.float64), move.astype(np.float64))
        ends = symmetric_points(*wide, lambda x: x.astype(dtype).astype(np.float64))
        upper, lower = (Fraction(float(p[0])) for p in ends)
        assert upper + lower == 2 * Fraction(float(point[0]))
        assert upper - lower == pytest.approx(2.0 * float(move[0]), rel=1e-3)


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
@pytest.mark.parametrize("seed", range(4))
def test_a_function_that_is_partly_float32(mode, seed):
    """A net in float32 and its weight decay in float64, which goes on where the first stands."""
    draw = np.random.default_rng(seed)
    x, weights = draw.normal(size=5), draw.normal(size=(5, 7))

    def f(x):
        scores = np.tanh(np.float32(x) @ np.float32(weights))
        return float(scores.sum()) + 1e-3 * float(np.sum(x**2))

    def gradient(x):
        return weights @ (1.0 - np.tanh(x @ weights) ** 2) + 2e-3 * x

    assert accelnn.check_gradient(f, gradient, x, mode=mode).verdict == "right"
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(f, lambda x: 0.9 * gradient(x), x, mode=mode)


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
@pytest.mark.parametrize("score", [5.0, 20.0, 30.0, 34.0, 37.0, 50.0, 300.0])
@pytest.mark.filterwarnings("ignore::accelnn.errors.InconclusiveCheckWarning")
def test_the_loss_of_a_net_that_is_sure_of_itself(score, mode):
    """It is 0 to rounding, and does not move: that proves nothing of a gradient of 1e-16."""

    def probabilities(x):
        exponents = np.exp(x - np.max(x))
        return exponents / np.sum(exponents)

    def gradient(x):
        return probabilities(x) - [1.0, 0.0, 0.0]

    losses = [
        lambda x: -np.log(probabilities(x)[0]),
        lambda x: np.max(x) + np.log(np.sum(np.exp(x - np.max(x)))) - x[0],
    ]
    x = np.array([score, 0.3, -0.5])
    for loss in losses:
        report = accelnn.check_gradient(loss, gradient, x, mode=mode)
        assert report.verdict == ("right" if score < 30.0 else "inconclusive")
        with pytest.raises(GradientCheckError):
            accelnn.check_gradient(
                loss, lambda x: gradient(x) + np.array([0.0, 0.0, 0.1]), x, mode=mode
            )


@pytest.mark.parametrize("mode", ["directional", "full"])
@pytest.mark.parametrize("decimals", [4, 6, 10])
def test_a_function_that_is_rounded_to_decimals(decimals, mode):
    def f(x):
        return round(float(np.sum(np.sin(x))), decimals)

    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=6)
        assert accelnn.check_gradient(f, np.cos, x, mode=mode).verdict == "right"
        with pytest.raises(GradientCheckError):
            accelnn.check_gradient(f, lambda x: 1.5 * np.cos(x), x, mode=mode)
