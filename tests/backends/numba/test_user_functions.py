"""A user's functions compute on Numba what they compute on NumPy, or are not compiled."""

import math

import numpy as np
import pytest

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

X = np.random.default_rng(0).normal(size=(64, 5))
T = np.arange(64) % 3
FACTOR = 1.0


def _net(backend, **options):
    return accelnn.MLP([5, 7, 3], dtype="float64", rng=1, backend=backend, **options)


def _trained(backend, rule=None, move=lambda value: value, **options):
    net = _net(backend, **options)
    net.flat[...] = move(net.flat)
    rule = rule or accelnn.SGD(0.1)
    history = accelnn.fit(net, move(X), T, optimizer=rule, batch_size=10, iters=70, rng=3)
    return np.array([*history.loss, *net.flat])


def _assert_alike(compiled, rule=None, **options):
    found = _trained(compiled, rule, **options)
    assert_equal_but_for_rounding(
        [found], lambda move: [_trained("numpy", rule, move=move, **options)]
    )
    return found


@pytest.mark.parametrize(
    "function",
    [
        lambda p, g, rate, _k: p - rate * [g, p][0],
        lambda p, g, rate, _k: p - rate * [x * g for x in (1.0, 0.5)][1],
        lambda p, g, rate, _k: p - rate * {"g": g}["g"],
        lambda p, g, rate, _k: p - rate * max([g, 0.5 * g]),
    ],
    ids=["list", "comprehension", "dict", "list of a builtin"],
)
def test_containers_of_numbers(compiled, function):
    _assert_alike(compiled, accelnn.Rule("f", function, lr=0.1))


@pytest.mark.parametrize(
    "function",
    [
        lambda p, g, rate, k: p - rate * g * 2**-k,
        lambda p, g, rate, k: p - rate * g * 10**-k,
        lambda p, g, rate, k: p - rate * g / 2**k,
        lambda p, g, rate, k: p - rate * g / k**25,
    ],
)
def test_powers_of_the_number_of_the_update(compiled, function):
    _assert_alike(compiled, accelnn.Rule("f", function, lr=0.1))


def _scaled(x):
    return FACTOR * x


def _rule(p, g, rate, _k):
    return p - rate * _scaled(g)


def _value(x):
    return FACTOR * x * x / 10.0


def _slope(x):
    return FACTOR * x / 5.0


def _squared(a, t):
    return FACTOR * (a - t) ** 2


def _error(a, t):
    return 2.0 * FACTOR * (a - t)


def test_what_functions_look_up_may_change(compiled, monkeypatch):
    """As in a notebook: with the same objects, whose functions call another."""
    rule = accelnn.Rule("scaled", _rule, lr=0.1)
    activation = accelnn.Activation("quadratic", _value, _slope)
    loss = accelnn.Loss("squared", _squared, _error)
    found = []
    for factor in (1.0, 3.0, 1.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        runs = [_assert_alike(compiled, rule), _assert_alike(compiled, activation=activation)]
        runs.append(_assert_alike(compiled, accelnn.SGD(0.01), loss=loss))
        for options in ({"activation": activation}, {"loss": loss}):
            nets = [_net(backend, **options) for backend in (compiled, "numpy")]
            gradients = [net.numerical_gradient(X, np.eye(3)[T])["W1"] for net in nets]
            # Own formulas cancel: by the rounding of values over the step of 1e-4.
            np.testing.assert_allclose(*gradients, rtol=0, atol=1e-10)
            runs.append(gradients[0])
        found.append(np.concatenate([np.ravel(run) for run in runs]))
    assert (found[0] == found[2]).all()
    assert not np.isclose(found[0], found[1]).all()


def test_closures_may_change(compiled):
    factor = 1.0

    def rule(p, g, rate, _k):
        return p - factor * rate * g

    own = accelnn.Rule("closure", rule, lr=0.1)
    before = _assert_alike(compiled, own)
    factor = 2.0
    assert (_assert_alike(compiled, own) != before).any()


def _refused(p, g, rate, _k):
    if p > 0.5:
        message = "beyond a half"
        raise ValueError(message)
    return p - rate * g


def _caught(p, g, rate, _k):
    try:
        return p - rate * math.sqrt(g)
    except ValueError:
        return p


def test_exceptions_are_raised_and_caught(compiled):
    for backend in (compiled, "numpy"):
        with pytest.raises(ValueError, match="beyond a half"):
            _trained(backend, accelnn.Rule("refused", _refused, lr=0.1))
    _assert_alike(compiled, accelnn.Rule("caught", _caught, lr=0.1))


class Tripled(accelnn.Activation):
    """Computes something else than its functions say."""

    def _value(self, ops, x):
        return 3.0 * super()._value(ops, x)

    def _slope(self, ops, x):
        return 3.0 * super()._slope(ops, x)


def test_a_subclass_is_heeded(compiled):
    activation = Tripled("tripled", lambda x: 2.0 * x, lambda _x: 2.0)
    _assert_alike(compiled, accelnn.SGD(0.01), activation=activation)
    nets = [_net(backend, activation=activation) for backend in (compiled, "numpy")]
    gradients = [net.numerical_gradient(X, T)["W1"] for net in nets]
    # As above.
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-10)


def tanh(x):
    return math.tanh(x)


def test_a_function_called_like_one_of_math_is_compiled(compiled):
    activation = accelnn.Activation("tanh", tanh, lambda x: 1.0 - math.tanh(x) ** 2)
    assert type(_net(compiled, activation=activation).engine).__name__ == "NumbaEngine"
    _assert_alike(compiled, activation=activation)
