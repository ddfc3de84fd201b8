"""A user's update rules inside the kernels."""

import logging
import math
import subprocess
import sys

import numpy as np
import pytest

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

pytest.importorskip("numba")

from accelnn.backends import Engine
from accelnn.backends.numba._jit import is_compiled
from accelnn.backends.numba.kernels.training import train

if not is_compiled(train):
    pytest.skip("NUMBA_DISABLE_JIT leaves plain functions", allow_module_level=True)


def no_state(p, g, rate, k):
    return p - rate * g / (1.0 + 0.01 * k)


def drifting(p, g, rate, _k):
    return p - rate * (g + 0.1)


def adam(p, g, rate, k, first, second):
    first = 0.9 * first + 0.1 * g
    second = 0.99 * second + 0.01 * g * g
    root = math.sqrt(second / (1.0 - 0.99**k))
    return p - rate * first / (1.0 - 0.9**k) / (root + 1e-8), first, second


def three(p, g, rate, _k, a, b, c):
    a = 0.9 * a + g
    b = 0.9 * b + a
    c = 0.5 * c + b
    return p - rate * c, a, b, c


def branching(p, g, rate, _k, m):
    if g > 0.1:
        return p - rate * 0.1, m
    return p - rate * g - 0.01 * rate * m, 0.9 * m + g


def starting(p, g, rate, _k, m):
    """0 / 0 in what fills the panels up, where no gradient ever is."""
    return p - rate * g * g / abs(g), m + g * g / abs(g)


RULES = {
    "no state": (no_state, 0.1, ()),
    "what moves without a gradient": (drifting, 0.1, ()),
    "two arrays": (adam, 0.01, ("first", "second")),
    "three arrays": (three, 0.001, ("a", "b", "c")),
    "branches": (branching, 0.1, ("m",)),
    "a quotient of gradients": (starting, 0.01, ("m",)),
}


def _run(rule, dtype, backend, move):
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(60, 7)), draw.uniform(size=(60, 3))
    options = {"activation": "tanh", "loss": "sum_squared_error", "dtype": dtype}
    net = accelnn.MLP([7, 19, 6, 3], rng=1, backend=backend, **options)
    net.flat[...] = move(net.flat.copy())
    history = accelnn.fit(
        net, move(x.astype(dtype)), t, optimizer=rule, batch_size=7, epochs=3, rng=2
    )
    return np.array(history.loss, dtype), net.flat


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_own_rules_train_in_the_kernels(name, dtype, decay, monkeypatch):
    function, rate, state = RULES[name]
    rule = accelnn.Rule(name, function, lr=rate, state=state, **decay)
    with monkeypatch.context() as patched:
        # Nothing is left to the portable engine.
        patched.setattr(Engine, "_update", None)
        found = _run(rule, dtype, "numba", lambda a: a)
    assert_equal_but_for_rounding(found, lambda move: _run(rule, dtype, "numpy", move), terms=1.0)


def test_biases_decay_if_they_are_to():
    runs = []
    for biases in (False, True):
        options = {"lr": 0.1, "weight_decay": 0.5, "decay_biases": biases}
        rule = accelnn.Rule("no state", no_state, **options)
        found = _run(rule, "float64", "numba", lambda a: a)
        assert_equal_but_for_rounding(
            found, lambda move, rule=rule: _run(rule, "float64", "numpy", move)
        )
        runs.append(found[1])
    assert (runs[0] != runs[1]).any()


SCRIPT = """
import logging
import numpy as np
import accelnn

FACTOR = {factor}

def rule(p, g, rate, k{arguments}):
    return p - FACTOR * rate * g{results}

net = accelnn.MLP([3, 4, 2], rng=0, loss="huber", dtype="float64", backend="numba")
x = np.linspace(-1, 1, 60).reshape(20, 3)
rule = accelnn.Rule("mine", rule, lr=0.1, state={state})
accelnn.fit(net, x, x[:, :2], optimizer=rule, epochs=2, rng=0)
print(repr(float(net.flat.sum())))
"""


@pytest.mark.parametrize("state", [(), ("m",), ("m", "v")])
def test_the_cache_does_not_mix_up_what_a_name_meant(state):
    """A constant may be another one in the next process."""
    names = "".join(f", {name}" for name in state)

    def run(factor):
        script = SCRIPT.format(factor=factor, arguments=names, results=names, state=state)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        return float(done.stdout), "accelnn compiles accelnn.Rule('mine'" in done.stderr

    factor = float(np.random.default_rng().uniform(0.5, 1.0))
    (first, was_new), (again, is_new), (other, _) = run(factor), run(factor), run(factor / 2)
    assert first == again != other
    assert was_new
    assert not is_new


def test_what_cannot_be_compiled_is_portable_and_right(caplog):
    table = {1: 0.5}

    def looked_up(p, g, rate, _k, m):
        return p - table[1] * rate * g, m + g

    rule = accelnn.Rule("looked up", looked_up, lr=0.1, state=("m",))
    with caplog.at_level(logging.WARNING, "accelnn"):
        found = _run(rule, "float64", "numba", lambda a: a)
        again = _run(rule, "float64", "numba", lambda a: a)
    assert sum("Numba cannot compile accelnn.Rule" in text for text in caplog.messages) <= 1
    assert any("Numba cannot compile" in text for text in caplog.messages)
    np.testing.assert_array_equal(found[1], again[1])
    assert_equal_but_for_rounding(found, lambda move: _run(rule, "float64", "numpy", move))


def test_what_the_kernels_lack_calls_it_in_a_compiled_loop(caplog):
    """Clipping and dropout, of which the portable engine does the updates."""
    rule = accelnn.Rule("adam", adam, lr=0.01, state=("first", "second"))
    x, t = np.random.default_rng(0).normal(size=(20, 5)), np.arange(20) % 3

    def trained(backend, move):
        net = accelnn.MLP([5, 4, 3], rng=1, dtype="float64", backend=backend)
        net.flat[...] = move(net.flat)
        data = accelnn.prepare(move(x), t, backend=backend, dtype="float64")
        state = accelnn.backends.TrainingState(net.flat, rule, "analytic", net.backend)
        net.engine.train(state, data, np.arange(20), 5, clip=0.1)
        return [net.flat]

    found = trained("numba", lambda value: value)
    assert not any("one number after another" in text for text in caplog.messages)
    assert_equal_but_for_rounding(found, lambda move: trained("numpy", move))
