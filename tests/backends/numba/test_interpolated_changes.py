"""Numerical gradients that interpolate smooth changes, and differences in extended precision."""

from itertools import pairwise

import numpy as np
import pytest

import accelnn
from accelnn.testing._formulas import ACTIVATION_ROWS, NODES, WEIGHTS

long = np.longdouble
EPS = np.finfo(float).eps
METHODS = ("central", "forward", "backward")
# What a net of a few units and samples adds up in a partial derivative, terms rounded to a few
# units each, if they do not cancel; of the largest derivative of the layer where they do.
ROUNDING = 200.0 * EPS
SAMPLES = 3
# The reference of GELU is in double precision.
IN_EXTENDED_PRECISION = sorted({*ACTIVATION_ROWS} - {"gelu"})


@pytest.fixture
def fits(compiled, monkeypatch):  # noqa: ARG001 - skips without Numba
    """Return what the kernel of differences leaves, one tuple per call."""
    from accelnn.backends.numba.kernels.interpolation import Fits

    made, make = [], Fits.of
    monkeypatch.setattr(Fits, "of", lambda *args: made.append(make(*args)) or made[-1])
    return made


def _loss(flat, net, x, t):
    """Return the mean loss, computed in the dtype of the parameters."""
    row, start, sizes = ACTIVATION_ROWS[net.spec.activation], 0, net.spec.sizes
    for layer, (inputs, outputs) in enumerate(pairwise(sizes), start=2):
        weights = flat[start : start + inputs * outputs].reshape(inputs, outputs)
        start += (inputs + 1) * outputs
        x = (x[:, :, None] * weights).sum(axis=1) + flat[start - outputs : start]
        x = row.value(x) if layer < len(sizes) else x
    if net.spec.loss.name == "sum_squared_error":
        return 0.5 * ((x - t) ** 2).sum() / len(x)
    if net.spec.loss.name == "binary_cross_entropy":
        return (np.logaddexp(long(0), x) - t * x).sum() / len(x)
    top = x.max(axis=1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(x - top).sum(axis=1))
    return (t.sum(axis=1) * total - (t * x).sum(axis=1)).mean()


def _assert_right(net, x, t, step, method="central"):
    """Compare a gradient with the difference of two losses in extended precision."""
    found = net.backend.to_numpy(
        net.engine.numerical_gradient(net.flat, x, t, method=method, step=step)
    )
    flat, x, t = (array.astype(long) for array in (net.flat, x, t))
    above, below = {"central": (1, 1), "forward": (1, 0), "backward": (0, 1)}[method]
    wanted = np.empty(flat.size)
    for i in range(flat.size):
        losses = []
        for move in (above, -below):
            moved = flat.copy()
            moved[i] += move * long(step)
            losses.append(_loss(moved, net, x, t))
        wanted[i] = (losses[0] - losses[1]) / ((above + below) * long(step))
    # A loss adds up about 100 numbers of its size.
    noise = 100.0 * np.finfo(long).eps * abs(float(_loss(flat, net, x, t))) / step
    start = 0
    for inputs, outputs in pairwise(net.spec.sizes):
        layer = slice(start, start + (inputs + 1) * outputs)
        start = layer.stop
        allowed = ROUNDING * np.abs(wanted[layer]).max() + noise
        assert np.abs(found[layer] - wanted[layer]).max() <= allowed


def _net_and_data(sizes, backend, seed=0, scale=1.0, **options):
    draw = np.random.default_rng(seed)
    net = accelnn.MLP(list(sizes), dtype="float64", rng=seed, backend=backend, **options)
    net.flat[...] = draw.normal(size=net.size)
    x = draw.normal(size=(SAMPLES, sizes[0])) * scale
    return net, x, draw.uniform(0.1, 0.9, size=(SAMPLES, sizes[-1]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "sum_squared_error"])
@pytest.mark.parametrize("activation", IN_EXTENDED_PRECISION)
@pytest.mark.parametrize("sizes", [(5, 4, 3), (4, 6, 5, 3), (3, 2)])
def test_small_moves_are_interpolated(compiled, fits, sizes, activation, loss, method):
    net, x, t = _net_and_data(sizes, compiled, activation=activation, loss=loss)
    _assert_right(net, x, t, 1e-6, method)
    assert not fits[-1].apart.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh", "elu"])
def test_moves_beyond_the_limit_are_not(compiled, fits, activation, method):
    net, x, t = _net_and_data((5, 40, 3), compiled, activation=activation)
    _assert_right(net, x, t, 0.5, method)
    # A ReLU that is far below 0 does not move at all.
    assert (fits[-1].apart > 0).all() or activation == "relu"
    assert fits[-1].apart[-3:].all()
    # Some units and samples are, others not.
    _assert_right(net, x * np.array([[1e-4], [0.1], [30.0]]), t, 1e-3, method)
    assert (fits[-1].apart > 0).any()
    assert (fits[-1].apart < SAMPLES).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "sum_squared_error"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus", "silu"])
def test_both_sides_of_the_limit(compiled, fits, activation, loss, method):
    for seed in range(4):
        net, x, t = _net_and_data((3, 2, 2), compiled, seed, activation=activation, loss=loss)
        _assert_right(net, x, t, 1e-9, method)
        limits = fits[-1].limits[: SAMPLES * 2].reshape(SAMPLES, 2)
        reach = np.maximum(1.0, np.abs(x).max(axis=1))
        largest = (limits / reach[:, None]).min()
        hidden = []
        for step in (0.999 * largest, 1.001 * largest):
            _assert_right(net, x, t, step, method)
            hidden.append(int(fits[-1].apart[:2].sum()))
        assert hidden[0] == 0
        assert hidden[1] > 0


@pytest.mark.parametrize("sizes", [(2, 2, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_moves_across_a_kink(compiled, fits, activation, sizes):
    step, seen = 1e-5, set()
    for place in (0.0, 1e-12, 0.4, 0.97, 0.9999, 1.0001, 2.0, 20.0):
        for sign in (1.0, -1.0):
            net, x, t = _net_and_data(sizes, compiled, activation=activation)
            x = np.abs(x) / np.abs(x).max(axis=1, keepdims=True)
            x[:, 0] = 1.0
            # The last hidden layer's first unit is so many steps from the kink in the first sample.
            bias = net.params[f"b{len(sizes) - 2}"]
            inner = x[0]
            if len(sizes) == 4:
                row = ACTIVATION_ROWS[activation]
                inner = row.value(x[0] @ net.params["W1"] + net.params["b1"])
            bias[0] = sign * place * step - inner @ net.params[f"W{len(sizes) - 2}"][:, 0]
            for method in METHODS:
                _assert_right(net, x, t, step, method)
                seen.add(bool(fits[-1].apart.any()))
    assert seen == {True, False}


@pytest.mark.parametrize("loss", ["cross_entropy", "sum_squared_error"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
@pytest.mark.parametrize("bias", [40.0, -40.0])
def test_saturated_units(compiled, activation, loss, bias):
    net, x, t = _net_and_data((3, 2, 2), compiled, activation=activation, loss=loss)
    # Inexact sums would move the pre-activation, on whose exponential everything depends.
    net.params["W1"] = np.array([[1.0, -2.0], [0.5, 0.25], [1.0, 1.0]])
    net.params["b1"] = np.array([bias, 1.0])
    x = np.array([[1.0, 0.0, 0.5], [0.25, 1.0, 0.0], [0.0, 0.5, 0.125]])
    for method in METHODS:
        _assert_right(net, x, t, 2.0**-13, method)
        gradient = net.numerical_gradient(x, t, method=method, step=2.0**-13)
        exact = net.gradient(x, t)
        # The slope is off by the step times the curvature, of the slope's own size.
        for key in ("W1", "b1"):
            np.testing.assert_allclose(
                gradient[key][..., 0], exact[key][..., 0], rtol=2.0**-12, atol=0.0
            )


@pytest.mark.parametrize("scale", [1e-12, 1e-130, 1e3])
def test_inputs_of_any_size(compiled, scale):
    net, x, t = _net_and_data((4, 3, 2), compiled, scale=scale)
    x[0] = 0.0
    _assert_right(net, x, t, 1e-4)
    # Compared with the biases, weights of tiny inputs have no gradient, and alone they do.
    net, x, t = _net_and_data((4, 2), compiled, scale=scale)
    found, exact = net.numerical_gradient(x, t, step=1e-6)["W1"], net.gradient(x, t)["W1"]
    # Truncation is below h² / 6 times the third power of the input.
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-12 / 6.0 * scale**3)


def test_many_samples_and_units_of_every_remainder(compiled):
    draw = np.random.default_rng(0)
    for width in (1, 7, 8, 9, 16, 17, 33):
        net = accelnn.MLP([3, width, 2], dtype="float64", rng=0, backend=compiled)
        x, t = draw.normal(size=(70, 3)), draw.integers(0, 2, 70)
        x[draw.uniform(size=x.shape) < 0.5] = 0.0
        found, exact = net.numerical_gradient(x, t, step=1e-5), net.gradient(x, t)
        for key, wanted in exact.items():
            # The third derivative of the loss is below 1 here, and the truncation h² / 6 of it.
            np.testing.assert_allclose(found[key], wanted, rtol=0.0, atol=1e-10 / 6.0)


def _slope(name, z):
    """Return the slope of an activation's branch at complex z."""
    if name == "gelu":
        bell = np.exp(-0.5 * (z[..., None] * NODES.astype(float)) ** 2) @ WEIGHTS.astype(float)
        normal = 0.5 + z * bell / np.sqrt(2.0 * np.pi)
        return normal + z * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    if name == "elu":
        return np.exp(z)
    return ACTIVATION_ROWS[name].slope(z)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "gelu", "silu", "softplus"])
def test_slopes_in_the_circle_are_bounded(compiled, name):
    assert compiled.name == "numba"
    from accelnn.backends.numba.own import bend_of_activation

    formula = accelnn.activations.ACTIVATIONS[name]
    curvature, gain, gain_below, growth, _ = bend_of_activation(formula)
    # Where an ELU is not linear, and the quadrature for GELU is exact.
    x = np.linspace(-6.0, 0.0 if name == "elu" else 6.0, 1001)
    circle = np.exp(2j * np.pi * np.arange(64) / 64)
    z = x[:, None] + circle / (curvature + growth * np.abs(x[:, None]))
    largest = np.abs(_slope(name, z)).max(axis=1)
    assert (largest <= np.where(x > 0.0, gain, gain_below)).all()
