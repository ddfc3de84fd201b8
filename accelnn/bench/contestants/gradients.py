"""Gradients of one net on one batch: accelnn, plain NumPy, and differences by others."""

from collections.abc import Callable
from typing import Any

import numpy as np

import accelnn
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Calls, contestant, cuda_events
from accelnn.bench.contestants.data import SEED, load

__all__ = ["STEP", "Gradient"]

STEP = 1e-4
# Samples times hidden units up to which all sampled parameters are measured.
USUAL_WORK = 2_000
OF_SOME = ", as a function of these alone"
Gradients = Callable[[], Any]


class Gradient(Calls):
    """One gradient of the mean cross entropy in float64: an array, a sequence or a dict.

    It is compared with backpropagation in NumPy.
    """

    def pose(self) -> None:
        data, case = load(self.case), self.case
        self.x, self.t = data.x[: case.batch].copy(), data.t[: case.batch].copy()
        self.flat = self.net("numpy").flat
        self.layers = plain.views(self.flat, case.sizes)
        exact = plain.backprop(self.layers, self.x, self.t, case.activation)
        self.exact = np.concatenate([part.ravel() for part in exact])
        self.measured: dict[str, str] = {}
        self.to_numpy: Callable[[Any], np.ndarray] = np.asarray

    def net(self, backend: Any) -> accelnn.TwoLayerNet:
        """Return the net."""
        inputs, hidden, outputs = self.case.sizes
        return accelnn.TwoLayerNet(
            inputs,
            hidden,
            outputs,
            activation=self.case.activation,
            dtype="float64",
            rng=SEED,
            backend=backend,
        )

    def sample(self, size: int, note: str = "") -> np.ndarray:
        """Let the gradient be that of evenly spaced parameters, and scale the time to all.

        The time for one parameter does not depend on which it is, so that of all is proportional.
        In larger nets and batches fewer are measured, so that a repeat takes as long.
        """
        work = max(1.0, self.case.batch * self.case.sizes[1] / USUAL_WORK)
        size = min(max(size // 10, int(size / work)), self.flat.size)
        moved = np.linspace(0, self.flat.size - 1, size).astype(np.int64)
        self.scale = self.flat.size / size
        self.exact = self.exact[moved]
        self.measured = {"measured": f"{size:,} of {self.flat.size:,} parameters{note}"}
        return moved

    def loss(self) -> float:
        """Return the loss at the parameters as they are."""
        return plain.loss(self.layers, self.x, self.t, self.case.activation)

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation from backpropagation, and how much was measured."""
        if self.found is None:
            return self.measured
        parts = self.found.values() if isinstance(self.found, dict) else self.found
        found = np.concatenate([self.to_numpy(part).ravel() for part in parts])
        return {"deviation": float(np.abs(found - self.exact).max()), **self.measured}


@contestant("accelnn numpy", "gradient", "scaling", "gpu-gradient", kind=Gradient, backend="numpy")
@contestant("accelnn numba", "gradient", "scaling", "gpu-gradient", kind=Gradient, backend="numba")
@contestant("accelnn cupy", "gpu-gradient", kind=Gradient, backend="cupy")
def numerical(problem: Gradient, backend: Any) -> Gradients:
    """Return `net.numerical_gradient`."""
    net = problem.net(backend)
    x, t = (net.backend.asarray(part) for part in (problem.x, problem.t))
    problem.to_numpy = net.backend.to_numpy
    if backend == "cupy":
        problem.clock = cuda_events("cupy")

    def gradient() -> Any:
        found = net.numerical_gradient(x, t, step=STEP)
        net.backend.synchronize()
        return found

    return gradient


@contestant("NumPy loop", "gradient", "scaling", "numerical-training", kind=Gradient)
def loop(problem: Gradient) -> Gradients:
    """Return the textbook's loop: two forward passes for every parameter."""
    flat, moved = problem.flat, problem.sample(2_000)
    found = np.empty(moved.size)

    def gradient() -> Any:
        for i, place in enumerate(moved):
            value = flat[place]
            flat[place] = value + STEP
            above = problem.loss()
            flat[place] = value - STEP
            below = problem.loss()
            flat[place] = value
            found[i] = (above - below) / (2 * STEP)
        return found

    return gradient


def _of_some(problem: Gradient, size: int) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
    """Return the loss as a function of some parameters, and these.

    Handing a library only some is in its favour: every step copies as many numbers as there are.
    """
    flat, moved = problem.flat, problem.sample(size, OF_SOME)
    first = flat[moved].copy()

    def loss(values: np.ndarray) -> float:
        flat[moved] = values
        try:
            return problem.loss()
        finally:
            flat[moved] = first

    return loss, first


@contestant("SciPy", "gradient", kind=Gradient, needs="scipy")
def scipy(problem: Gradient) -> Gradients:
    """Return `approx_derivative`, three points."""
    from scipy.optimize._numdiff import approx_derivative

    loss, x = _of_some(problem, 1_000)
    return lambda: approx_derivative(loss, x, method="3-point", abs_step=STEP)


@contestant("numdifftools", "gradient", kind=Gradient, needs="numdifftools")
def numdifftools(problem: Gradient) -> Gradients:
    """Return `numdifftools.Gradient` with the same step as all others, without its search."""
    import numdifftools

    loss, x = _of_some(problem, 200)
    return lambda: numdifftools.Gradient(loss, step=STEP)(x)


@contestant("NumPy analytic", "gradient", "scaling", kind=Gradient)
def analytic_by_hand(problem: Gradient) -> Gradients:
    """Return backpropagation by hand."""
    x, t, activation = problem.x, problem.t, problem.case.activation
    return lambda: plain.backprop(problem.layers, x, t, activation)


@contestant("accelnn numba analytic", "gradient", "scaling", kind=Gradient)
def analytic(problem: Gradient) -> Gradients:
    """Return `net.gradient`."""
    net = problem.net("numba")
    return lambda: net.gradient(problem.x, problem.t)
