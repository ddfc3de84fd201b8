"""What a program that asks NumPy to raise for underflow gets: the results it gets without."""

import numpy as np
import pytest

import accelnn
from accelnn.activations import ACTIVATIONS
from accelnn.losses import LOSSES

FUNCTIONS = [
    name for name in accelnn.functions.__all__ if not name.endswith("_error") and name != "identity"
]
SCALES = [1.0, 100.0, 800.0, 1e30]


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return request.param


@pytest.fixture
def raises():
    with np.errstate(all="raise"):
        yield


def wide(scale):
    return np.linspace(-scale, scale, 12).reshape(3, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, dtype, backend):
    function = getattr(accelnn, name)
    for scale in SCALES:
        x = wide(scale).astype(dtype)
        usual = function(x, backend=backend)
        with np.errstate(all="raise"):
            np.testing.assert_array_equal(function(x, backend=backend), usual)


@pytest.mark.usefixtures("raises")
def test_errors_of_functions():
    tiny = np.full((2, 3), 1e-200)
    assert accelnn.sum_squared_error(tiny, 0.0 * tiny) == 0.0
    assert accelnn.cross_entropy_error(np.full((1, 2), 0.5), np.full((1, 2), 1e-310)) >= 0.0


@pytest.mark.usefixtures("raises")
@pytest.mark.parametrize("formulas", [ACTIVATIONS, LOSSES], ids=["activations", "losses"])
def test_formulas(formulas):
    for scale in SCALES[:3]:
        x = wide(scale)
        for formula in formulas.values():
            if formulas is LOSSES:
                t = np.eye(4)[:3]
                formula.value(x, t), formula.grad(x, t), formula.delta(x, 1e-3 * x, t)
            else:
                formula.value(x), formula.slope(x), formula.change(x, 1e-3 * x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "gelu", "softplus"])
def test_nets(activation, loss, dtype, backend):
    """At ordinary weights and at such that saturate every unit."""
    x, t = np.random.default_rng(0).normal(size=(9, 6)), np.eye(3)[np.arange(9) % 3]
    for scale in (1.0, 100.0, 1000.0):
        usual, net = (
            accelnn.MLP([6, 5, 3], activation=activation, loss=loss, dtype=dtype, rng=0, backend=b)
            for b in (backend, backend)
        )
        usual.flat[...] *= scale
        net.flat[...] *= scale
        rule = accelnn.Adam(1e-6)
        expected = [usual.predict(x), usual.loss(x, t), *usual.gradient(x, t).values()]
        expected += usual.numerical_gradient(x, t).values()
        expected += [accelnn.fit(usual, x, t, iters=2, rng=0, optimizer=rule).loss, usual.flat]
        with np.errstate(all="raise"):
            found = [net.predict(x), net.loss(x, t), *net.gradient(x, t).values()]
            found += net.numerical_gradient(x, t).values()
            found += [accelnn.fit(net, x, t, iters=2, rng=0, optimizer=rule).loss, net.flat]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("raises")
def test_optimisers():
    for rule in (accelnn.SGD(1e-200), accelnn.Momentum(), accelnn.Adam(), accelnn.RMSprop()):
        params = {"W": np.ones((2, 2))}
        state = rule.init(params)
        for _ in range(2):
            rule.update(params, {"W": np.full((2, 2), 1e-200)}, state)


@pytest.mark.usefixtures("raises")
def test_overflow_is_raised_as_ever():
    net = accelnn.MLP([2, 3, 2], activation="identity", dtype="float64", rng=0)
    net.flat[...] = 1e200
    with pytest.raises(FloatingPointError, match="overflow"):
        net.predict([[1e200, 1e200]])


@pytest.mark.usefixtures("raises")
def test_a_function_of_the_user_s_keeps_its_setting():
    with pytest.raises(FloatingPointError, match="underflow"):
        accelnn.numerical_gradient(lambda x: np.exp(-1e4 * x).sum(), np.ones(3))
