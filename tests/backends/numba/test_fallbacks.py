"""What compiled code does not cover takes the portable route, and is right."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import accelnn
from accelnn.backends import Engine, NetSpec
from accelnn.backends.numba.kernels import losses as kernels
from accelnn.losses import LOSSES, CrossEntropy, SumSquaredError
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused")


class Absolute:
    """A loss of one's own: Σ |a - t|."""

    name = "absolute"
    output = "identity"
    classifies = False

    def value(self, a, t, *, backend=None):  # noqa: ARG002 - the signature of all losses
        return np.sum(np.abs(a - t), axis=-1)

    def grad(self, a, t, *, backend=None):  # noqa: ARG002
        return np.sign(a - t)

    def delta(self, a, d, t, *, backend=None):
        return self.value(a + d, t, backend=backend) - self.value(a, t, backend=backend)


@dataclass(frozen=True)
class Halved(CrossEntropy):
    """A loss that has a name of ours, and is another one."""

    def value(self, a, t, *, backend=None):
        return 0.5 * super().value(a, t, backend=backend)

    def grad(self, a, t, *, backend=None):
        return 0.5 * super().grad(a, t, backend=backend)

    def delta(self, a, d, t, *, backend=None):
        return 0.5 * super().delta(a, d, t, backend=backend)


class SignDescent:
    """An optimiser of one's own: θ ← θ - η sign(g), and a count of updates."""

    slots = 1

    def update(self, params, grads, slots, step, xp):  # noqa: ARG002 - the signature of all
        params -= 0.01 * xp.sign(grads)
        slots[0] += 1.0


@dataclass(frozen=True)
class Decayed(accelnn.SGD):
    """A subclass that does something else."""

    decay: ClassVar[float] = 0.5

    def update(self, params, grads, slots, step, xp):
        super().update(params, grads + self.decay * params, slots, step, xp)


class Adam(accelnn.SGD):
    """A class that has a name of ours, and is another one."""


def _data(dtype):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(33, 6)) * (draw.random((33, 6)) < 0.3)
    return x.astype(dtype), draw.uniform(size=(33, 3)).astype(dtype)


def _nets(compiled, dtype, **options):
    return [
        accelnn.MLP([6, 35, 3], activation="tanh", dtype=dtype, rng=2, backend=b, **options)
        for b in (compiled, "numpy")
    ]


def _assert_alike(compiled, dtype, optimizer, **options):
    """Assert that losses and parameters are those of the NumPy backend, after steps of size."""
    data = _data(dtype)

    def run(net, move=lambda value: value):
        start = net.flat.copy()
        net.flat[...] = move(start)
        rule = move(optimizer)
        history = accelnn.fit(net, *map(move, data), optimizer=rule, batch_size=7, epochs=4, rng=3)
        assert np.abs(net.flat - start).max() > 1e-3
        return np.array(history.loss, dtype), net.flat, net.predict(data[0])

    fused, _ = _nets(compiled, dtype, **options)
    assert_equal_but_for_rounding(
        run(fused), lambda move: run(_nets(compiled, dtype, **options)[1], move)
    )
    return fused


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [Absolute(), Halved()])
def test_a_loss_of_ones_own(compiled, loss, dtype):
    net = _assert_alike(compiled, dtype, accelnn.Momentum(0.01), loss=loss)
    assert type(net.engine) is Engine


@pytest.mark.parametrize("loss", [Absolute(), Halved()])
def test_differences_of_a_loss_of_ones_own(compiled, loss):
    x, t = _data("float64")
    net, _ = _nets(compiled, "float64", loss=loss)
    numerical = net.numerical_gradient(x, t)
    for name, gradient in net.gradient(x, t).items():
        # Those of |a - t| are exact unless a step crosses zero, which none does here.
        np.testing.assert_allclose(gradient, numerical[name], rtol=0.0, atol=1e-8)


def test_our_losses_are_ours_however_they_are_made(compiled):
    for loss in (*kernels.LOSSES, CrossEntropy(), SumSquaredError()):
        (net, _) = _nets(compiled, "float32", loss=loss)
        assert type(net.engine) is not Engine


def test_an_activation_of_ones_own(compiled):
    class Softplus(type(compiled)):
        """A backend with one op more."""

        def softplus(self, x):
            return np.logaddexp(x, 0.0)

        softplus_grad = staticmethod(type(compiled)(1).sigmoid)

        def softplus_delta(self, x, d):
            return self.softplus(x + d) - self.softplus(x)

    spec = NetSpec((6, 5, 3), "softplus", LOSSES["sum_squared_error"])
    x, t = _data("float64")
    params = np.random.default_rng(2).normal(size=spec.size)
    engine, out = Softplus().engine(spec, "float64"), np.empty(spec.size)
    engine.loss_and_gradient(params, x, t, out)
    numerical = engine.numerical_gradient(params, x, t, method="central", step=1e-4)
    np.testing.assert_allclose(out, numerical, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [
        SignDescent(),
        Decayed(0.1),
        Adam(0.1),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_an_optimizer_of_ones_own(compiled, optimizer, dtype):
    _assert_alike(compiled, dtype, optimizer)


def test_without_compilation(python):
    code = """
import numpy as np, accelnn
from accelnn.backends import Dataset, Engine

draw = np.random.default_rng(0)
x, t = draw.normal(size=(40, 5)) * (draw.random((40, 5)) < 0.2), np.arange(40) % 3
found = []
for backend in ("numba", "numpy"):
    net = accelnn.MLP([5, 8, 3], rng=0, backend=backend)
    assert type(net.engine) is Engine
    assert type(accelnn.prepare(x, t, backend=backend)) is Dataset
    history = accelnn.fit(net, x, t, validation=(x, t), epochs=3, batch_size=7, rng=0)
    gradient = net.numerical_gradient(x, t)["W1"].ravel()
    found.append([history.test_accuracy, np.hstack([history.loss, net.flat, gradient])])
print(found[0][0] == found[1][0], np.allclose(found[0][1], found[1][1], rtol=0.0, atol=1e-6))
"""
    assert python(code, NUMBA_DISABLE_JIT="1") == "True True"
