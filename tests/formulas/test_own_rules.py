"""Update rules from functions of one parameter."""

import copy
import logging
import math
import pickle

import numpy as np
import pytest

import accelnn


def lion(p, g, rate, _k, m):
    moved = 0.9 * m + 0.1 * g
    sign = math.copysign(1.0, moved) if moved != 0.0 else 0.0
    return p - rate * sign, 0.99 * m + 0.01 * g


def plain(p, g, rate, _k):
    return p - rate * g


def adam(p, g, rate, k, first, second):
    first = 0.9 * first + 0.1 * g
    second = 0.999 * second + 0.001 * g * g
    corrected = math.sqrt(second / (1.0 - 0.999**k))
    return p - rate * (first / (1.0 - 0.9**k)) / (corrected + 1e-8), first, second


LION = accelnn.Rule("lion", lion, lr=0.01, state=("average",))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_lion_is_lion(backend):
    """As its authors wrote it, on whole arrays."""
    draw = np.random.default_rng(0)
    params = {"W1": draw.normal(size=(4, 3)), "b1": draw.normal(size=3)}
    expected = {name: p.copy() for name, p in params.items()}
    averages = {name: np.zeros_like(p) for name, p in params.items()}
    state = LION.init(params)
    with accelnn.use_backend(accelnn.get_backend(backend)):
        for update in range(30):
            grads = {name: draw.normal(size=p.shape) for name, p in params.items()}
            grads["b1"][update % 3] = 0.0
            LION.update(params, grads, state)
            for name, g in grads.items():
                expected[name] -= 0.01 * np.sign(averages[name] * 0.9 + g * (1 - 0.9))
                averages[name] = averages[name] * 0.99 + g * (1 - 0.99)
    assert state["updates"] == 30
    for name, p in params.items():
        # Both add up 30 updates of 0.01, in one order.
        np.testing.assert_allclose(p, expected[name], rtol=0.0, atol=1e-14)
        np.testing.assert_allclose(state["average"][name], averages[name], rtol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("own", "ours"),
    [
        (accelnn.Rule("sgd", plain, lr=0.1), accelnn.SGD(0.1)),
        (
            accelnn.Rule("adam", adam, lr=0.01, state=("a", "b"), weight_decay=0.1),
            accelnn.Adam(0.01, weight_decay=0.1),
        ),
    ],
)
def test_it_is_as_a_rule_of_ours(own, ours, backend):
    x, t = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3
    found = []
    for rule in (own, ours):
        net = accelnn.MLP([5, 4, 3], rng=1, dtype="float64", backend=backend)
        rates = {"rates": 0.01 * np.arange(1, 9)}
        data = accelnn.prepare(x, t, backend=backend, dtype="float64")
        history = accelnn.fit(net, data, optimizer=rule, batch_size=10, epochs=5, rng=0)
        state = accelnn.backends.TrainingState(net.flat, rule, "analytic", net.backend)
        net.engine.train(state, data, np.arange(40), 5, **rates)
        found.append((history.loss, net.flat))
    for mine, theirs in zip(*found, strict=True):
        # 28 updates, each of which rounds a few times.
        np.testing.assert_allclose(mine, theirs, rtol=1e-11)


def test_two_are_equal_if_their_parts_are():
    twin = accelnn.Rule("lion", lion, lr=0.01, state=("average",))
    assert twin == LION
    assert hash(twin) == hash(LION)
    assert twin != accelnn.Rule("lion", lion, lr=0.02, state=("average",))
    assert copy.deepcopy(LION) == LION == pickle.loads(pickle.dumps(LION))  # noqa: S301
    assert repr(LION) == "accelnn.Rule('lion', ..., lr=0.01)"
    assert LION.slots == 1


WRONG = [
    (("", plain), {"lr": 0.1}, TypeError, "name must be a text"),
    (("sgd", 3), {"lr": 0.1}, TypeError, "function must be a function of plain numbers, got 3"),
    (("sgd", plain), {"lr": 0.0}, ValueError, "lr must be positive"),
    (("sgd", plain), {"lr": 0.1, "weight_decay": -1.0}, ValueError, "weight_decay"),
    (("lion", lion), {"lr": 0.1, "state": "m"}, TypeError, r"a tuple of names, such as"),
    (("adam", adam), {"lr": 0.1, "state": ("m", "m")}, ValueError, "different names"),
    (("lion", lion), {"lr": 0.1, "state": ("updates",)}, ValueError, "none of them 'updates'"),
    (("lion", lion), {"lr": 0.1}, TypeError, "missing 1 required positional argument"),
    (
        ("sgd", lambda p, g, rate, k: (p - rate * g, k)),
        {"lr": 0.1},
        TypeError,
        r"the function of accelnn.Rule\('sgd', ..., lr=0.1\) must return a number, got \(",
    ),
    (
        ("sgd", lambda p, g, rate, _k, _m: p - rate * g),
        {"lr": 0.1, "state": ("m",)},
        TypeError,
        "must return a tuple of 2 numbers, p and its state, got 0.475",
    ),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), WRONG)
def test_what_is_wrong_is_said(arguments, options, error, message):
    with pytest.raises(error, match=message):
        accelnn.Rule(*arguments, **options)


def test_numpy_says_once_that_it_is_slow(caplog):
    def unheard(p, g, rate, _k):
        return p - rate * g

    rule = accelnn.Rule("unheard", unheard, lr=0.1)
    net = accelnn.MLP([5, 4, 3], rng=0)
    with caplog.at_level(logging.WARNING, "accelnn"):
        accelnn.fit(net, np.ones((6, 5)), np.arange(6) % 3, optimizer=rule, epochs=3, rng=0)
    assert sum("unheard" in message for message in caplog.messages) == 1


def test_a_run_goes_on_in_pieces():
    """With the state of before."""
    x, t = np.random.default_rng(0).normal(size=(20, 5)), np.arange(20) % 3
    found = []
    for backend in ("numpy", "numba"):
        net = accelnn.MLP([5, 4, 3], rng=1, dtype="float64", backend=backend)
        data = accelnn.prepare(x, t, backend=backend, dtype="float64")
        state = accelnn.backends.TrainingState(net.flat, LION, "analytic", net.backend)
        for start in (0, 10):
            net.engine.train(state, data, np.arange(start, start + 10), 5)
        assert state.step == 4
        found.append((net.flat, state.slots[0]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-15)
