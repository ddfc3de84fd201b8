"""A user's activations and losses inside the kernels, and what they are compiled from."""

import logging
import math
import subprocess
import sys

import numpy as np
import pytest

import accelnn
from accelnn.testing import assert_equal_but_for_rounding

pytest.importorskip("numba")

from accelnn.backends.numba._jit import is_compiled, uncached_loop
from accelnn.backends.numba.engine import NumbaEngine
from accelnn.backends.numba.kernels.training import train
from accelnn.backends.numba.vectors import load, store, width

if not is_compiled(train):
    pytest.skip("NUMBA_DISABLE_JIT leaves plain functions", allow_module_level=True)


def softplus(x):
    return math.log1p(math.exp(x))


def mish(x):
    return x * math.tanh(softplus(x))


def mish_slope(x):
    t = math.tanh(softplus(x))
    return t + x * (1.0 - t * t) / (1.0 + math.exp(-x))


def bent(x):
    return x if x > 0.0 else math.expm1(x)


def bent_slope(x):
    return 1.0 if x > 0.0 else math.exp(x)


def scaled(factor):
    return lambda x: factor * x**3 + x, lambda x: 3 * factor * x**2 + 1


def log_cosh(a, t):
    return math.log(math.cosh(a - t))


def log_cosh_slope(a, t):
    return math.tanh(a - t)


ACTIVATIONS = {
    "as vectors, with a function of its own": (mish, mish_slope),
    "with branches": (bent, bent_slope),
    "with functions that vectors do not have": (math.atan, lambda x: 1.0 / (1.0 + x * x)),
    "with a closure, and a constant slope": (lambda x: 0.5 * x, lambda _: 0.5),
    "with powers": scaled(0.1),
}


def _run(activation, loss, dtype, backend, move):
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(60, 7)), draw.uniform(size=(60, 3))
    options = {"activation": activation, "loss": loss, "dtype": dtype}
    net = accelnn.MLP([7, 19, 6, 3], rng=1, backend=backend, **options)
    net.flat[...] = move(net.flat.copy())
    history = accelnn.fit(
        net, move(x.astype(dtype)), t, validation=(x, t), batch_size=7, epochs=3, rng=2
    )
    found = np.array([*history.loss, *history.test_loss], dtype)
    return net, (found, net.flat, net.predict(x), net.gradient(x, t)["W1"])


def _assert_as_on_numpy(activation, loss, dtype):
    net, found = _run(activation, loss, dtype, "numba", lambda a: a)
    assert type(net.engine) is NumbaEngine
    assert_equal_but_for_rounding(
        found, lambda move: _run(activation, loss, dtype, "numpy", move)[1]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("functions", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_own_activations_train_in_the_kernels(functions, dtype, caplog):
    if functions[0] is math.atan:
        functions = (lambda x: math.atan(x)), functions[1]  # noqa: PLW0108 - a builtin has no source
    with caplog.at_level(logging.WARNING, "accelnn"):
        _assert_as_on_numpy(accelnn.Activation("own", *functions), "huber", dtype)
    assert "cannot compile" not in caplog.text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_own_losses_and_layers_with_activations_of_their_own(dtype):
    loss = accelnn.Loss("log_cosh", log_cosh, log_cosh_slope)
    own = accelnn.Activation("mish", mish, mish_slope)
    for activation in (["gelu", "tanh"], [own, "relu"], ["elu", own]):
        _assert_as_on_numpy(activation, loss, dtype)


def test_functions_are_told_apart_by_what_they_look_up():
    """Their source is one, and so is the type of what they are called with."""
    losses = {}
    for factor in (0.1, 0.2):
        own = accelnn.Activation("cubic", *scaled(factor))
        losses[factor] = _run(own, "huber", "float64", "numba", lambda a: a)[1][0]
        _assert_as_on_numpy(own, "huber", "float64")
    assert (losses[0.1] != losses[0.2]).any()


SCRIPT = """
import sys
import numpy as np
import accelnn

FACTOR = {factor}
{functions}
net = accelnn.MLP([3, 4, 2], activation=accelnn.Activation("linear", value, slope), rng=0,
                  loss="huber", dtype="float64", backend="numba")
x = np.linspace(-1, 1, 60).reshape(20, 3)
accelnn.fit(net, x, x[:, :2], epochs=2, rng=0)
print(repr(float(net.flat.sum())))
"""


LOOKED_UP = {
    "by the function": """
def value(x):
    return FACTOR * x

def slope(x):
    return FACTOR
""",
    "by a function inside it": """
def value(x):
    def scaled(y):
        return FACTOR * y
    return scaled(x)

def slope(x):
    def scaled(y):
        return FACTOR * y
    return scaled(1.0)
""",
    "in another module": """
import types
settings = types.ModuleType("settings")
settings.FACTOR = FACTOR

def value(x):
    return settings.FACTOR * x

def slope(x):
    return settings.FACTOR
""",
    "as a default": """
def value(x, factor=FACTOR):
    return factor * x

def slope(x, factor=FACTOR):
    return factor
""",
}


@pytest.mark.parametrize("where", LOOKED_UP)
def test_the_cache_does_not_mix_up_what_a_name_meant(where):
    """A constant may be another one in the next process."""

    def run(factor):
        script = SCRIPT.format(factor=factor, functions=LOOKED_UP[where])
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        return float(done.stdout), "accelnn compiles accelnn.Activation" in done.stderr

    # Something new, which no cache has.
    factor = float(np.random.default_rng().uniform(0.5, 1.0))
    (first, was_new), (again, is_new), (other, _) = run(factor), run(factor), run(factor / 2)
    assert first == again != other
    assert was_new
    assert is_new == (where == "in another module")


def test_what_cannot_be_compiled_is_portable_and_right(caplog):
    table = {1: 0.5}

    def value(x):
        return table[1] * x

    own = accelnn.Activation("lookup", value, lambda _: 0.5)
    with caplog.at_level(logging.WARNING, "accelnn"):
        net, found = _run(own, "huber", "float64", "numba", lambda a: a)
    assert type(net.engine) is not NumbaEngine
    assert_equal_but_for_rounding(
        found, lambda move: _run(own, "huber", "float64", "numpy", move)[1]
    )


POINTS = np.concatenate(
    [np.random.default_rng(0).normal(size=2048) * 3.0, np.geomspace(1e-30, 30.0, 2048)]
)
FUNCTIONS = {
    "exp": (lambda x: math.exp(x), np.exp, POINTS),  # noqa: PLW0108
    "expm1": (lambda x: math.expm1(x), np.expm1, POINTS),  # noqa: PLW0108
    "log": (lambda x: math.log(x), np.log, np.geomspace(1e-37, 1e37, 4096)),  # noqa: PLW0108
    "log1p": (lambda x: math.log1p(x), np.log1p, np.abs(POINTS)),  # noqa: PLW0108
    "tanh": (lambda x: math.tanh(x), np.tanh, POINTS),  # noqa: PLW0108
    "sqrt": (lambda x: math.sqrt(x), np.sqrt, np.abs(POINTS)),  # noqa: PLW0108
    "abs": (lambda x: abs(x), np.abs, POINTS),  # noqa: PLW0108
    "fabs": (lambda x: math.fabs(x), np.abs, POINTS),  # noqa: PLW0108
    "neg": (lambda x: -x, np.negative, POINTS),
    "pos": (lambda x: +x, np.positive, POINTS),
    "cube": (lambda x: x**3, lambda x: x * x * x, POINTS),
}


def _of_vectors(function):
    function = uncached_loop(function)

    @uncached_loop
    def kernel(x, out):
        for i in range(0, x.size, width(x)):
            store(out, i, function(load(x, i)))

    return kernel


def _wider(dtype):
    return np.float64 if dtype == np.float32 else np.longdouble


def _assert_within_units(found, expected):
    # Each rounds a few times: the last step by half a unit, and errors before it by another two.
    unit = np.spacing(np.abs(expected).astype(found.dtype))
    assert (np.abs(found - expected) <= 2.5 * unit).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_vectors(name, dtype):
    function, reference, points = FUNCTIONS[name]
    x = points.astype(dtype)
    out = np.empty_like(x)
    _of_vectors(function)(x, out)
    _assert_within_units(out, reference(x.astype(_wider(dtype))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["log", "log1p", "tanh"])
def test_functions_of_vectors_at_the_ends(name, dtype):
    info = np.finfo(dtype)
    ends = [0.0, np.inf, -np.inf, np.nan, -1.0, -2.0, info.tiny, info.smallest_subnormal, info.max]
    x = np.resize(np.array(ends, dtype), 64)
    out = np.empty_like(x)
    _of_vectors(FUNCTIONS[name][0])(x, out)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name][1](x.astype(_wider(dtype)))
    is_finite = np.isfinite(expected)
    np.testing.assert_array_equal(out[~is_finite], expected[~is_finite])
    _assert_within_units(out[is_finite], expected[is_finite])
