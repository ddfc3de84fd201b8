"""The conformance suite, and what is torch's own: ``pytest -p accelnn.testing.pytest_plugin``."""

import numpy as np
import pytest
import torch

import accelnn
from accelnn.testing import BackendConformance


class TestTorch(BackendConformance):
    backend = "torch"


def test_gradients_of_autograd_are_checked():
    x = torch.tensor([0.5, -1.0], dtype=torch.float64)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def f(x):
        return scale * torch.sum(torch.sin(x))

    def grad(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(f(x), x)[0]

    assert accelnn.check_gradient(f, grad, x, backend="torch").passed
    with pytest.raises(accelnn.errors.GradientCheckError):
        accelnn.check_gradient(f, lambda x: grad(x) + 1.0, x, backend="torch")


def test_training_is_that_of_numpy():
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(60, 4)), draw.integers(0, 3, 60)
    curves = [
        accelnn.fit(
            accelnn.MLP([4, 5, 3], rng=1, dtype="float64", backend=backend), x, t, epochs=5, rng=2
        ).loss
        for backend in ("torch", "numpy")
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-12)
