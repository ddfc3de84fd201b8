"""Gradients of several arrays, of nets, and from libraries that are no backends."""

import dataclasses
import importlib.util
import json

import array_api_strict
import numpy as np
import pytest

import accelnn
from accelnn.errors import GradientCheckError

POINT = {"a": np.array([1.0, -2.0]), "b": np.array([[0.5], [3.0]]), "c": np.array(4.0)}


def f(p):
    return p["c"] * np.sum(p["a"] ** 2) + np.sum(p["b"] ** 3)


def right(p):
    return {"a": 2.0 * p["c"] * p["a"], "b": 3.0 * p["b"] ** 2, "c": np.sum(p["a"] ** 2)}


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
def test_several_arrays(mode):
    before = {key: value.copy() for key, value in POINT.items()}
    report = accelnn.check_gradient(f, right, POINT, mode=mode)
    assert report.passed
    assert report.name in POINT
    assert report.comparisons == {"directional": 24, "sampled": 5, "full": 5}[mode]
    assert accelnn.check_gradient(f, right(POINT), POINT, mode=mode).passed
    for key, value in POINT.items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
def test_the_wrong_array_is_named(mode):
    gradient = right(POINT)
    gradient["b"] = gradient["b"] + np.array([[0.0], [1.0]])
    with pytest.raises(GradientCheckError, match=r"worst at b\[1, 0\]: analytic 28\b") as raised:
        accelnn.check_gradient(f, gradient, POINT, mode=mode)
    report = raised.value.report
    assert (report.name, report.index) == ("b", (1, 0))
    assert report.numerical == pytest.approx(27.0)
    # As data, and nothing in it that JSON does not know.
    assert json.loads(json.dumps(dataclasses.asdict(report)))["worst"]["name"] == "b"


@pytest.mark.parametrize(
    ("gradient", "found"),
    [({"a": 1.0}, r"the keys \['a'\]"), (np.ones(3), "no keys"), ({}, r"the keys \[\]")],
)
def test_keys_must_be_those_of_x(gradient, found):
    with pytest.raises(ValueError, match=rf"x has the keys \['a', 'b', 'c'\], .* has {found}"):
        accelnn.check_gradient(f, gradient, POINT)
    with pytest.raises(ValueError, match="x is empty"):
        accelnn.check_gradient(f, {}, {})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_net_checks_itself(dtype, monkeypatch):
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(5, 4)), draw.integers(0, 3, 5)
    net = accelnn.MLP([4, 6, 3], activation="tanh", dtype=dtype, rng=0)
    kept = net.flat.copy()
    for mode in ("directional", "sampled", "full"):
        assert net.check_gradient(x, t, mode=mode).passed
    np.testing.assert_array_equal(net.flat, kept)

    exact = type(net).gradient

    def off(self, x, t):
        gradient = {key: value.copy() for key, value in exact(self, x, t).items()}
        gradient["W2"][3, 1] += 0.1
        return gradient

    monkeypatch.setattr(type(net), "gradient", off)
    with pytest.raises(GradientCheckError, match=r"worst at W2\[3, 1\]"):
        net.check_gradient(x, t)


def test_a_library_that_is_no_backend():
    xp = array_api_strict
    x = xp.asarray([1.0, -2.0, 3.0])

    def cubes(x):
        assert isinstance(x, type(xp.asarray(0.0)))
        return xp.sum(x**3)

    assert accelnn.check_gradient(cubes, lambda x: 3.0 * x**2, x, mode="full").passed
    with pytest.raises(GradientCheckError, match=r"worst at x\[\d\]"):
        accelnn.check_gradient(cubes, lambda x: 2.0 * x**2, x)
    # Its gradient of a function of ours.
    at = np.array([1.0, -2.0, 3.0])
    assert accelnn.check_gradient(
        lambda x: np.sum(x**3), lambda x: 3.0 * xp.asarray(x) ** 2, at
    ).passed


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch():
    import torch

    def f(x):
        return torch.sum(torch.sin(x) * x)

    def grad(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(f(x), x)[0]

    x = torch.tensor([[0.5, -1.5], [2.0, 0.1]], dtype=torch.float64, requires_grad=True)
    assert accelnn.check_gradient(f, grad, x, mode="full").passed
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(f, lambda x: 2.0 * grad(x), x)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax():
    import jax

    def f(x):
        return jax.numpy.sum(jax.numpy.sin(x) * x)

    x = jax.numpy.asarray([[0.5, -1.5], [2.0, 0.1]])
    assert accelnn.check_gradient(f, jax.grad(f), x, mode="full").passed
    with pytest.raises(GradientCheckError):
        accelnn.check_gradient(f, lambda x: 2.0 * jax.grad(f)(x), x)


def test_a_gradient_that_writes_to_its_argument_leaves_x_alone():
    x = {"a": np.array([1.0, 2.0]), "b": np.array(3.0)}

    def gradient(p):
        found = {"a": np.full(2, p["b"]), "b": np.sum(p["a"])}
        p["a"][...] = 7.0
        return found

    assert accelnn.check_gradient(lambda p: p["b"] * np.sum(p["a"]), gradient, x).passed
    np.testing.assert_array_equal(x["a"], [1.0, 2.0])
