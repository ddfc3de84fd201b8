"""Gradients by differences, of a net on one batch and of black-box functions, and analytic ones."""

from collections.abc import Callable
from typing import Any

import numpy as np

import accelnn
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Calls, contestant
from accelnn.bench.contestants.data import SEED, load

__all__ = ["STEP", "BlackBox", "Gradient", "few", "rosenbrock"]

STEP = 1e-4
# Samples times hidden units up to which all sampled parameters are measured.
USUAL_WORK = 2_000
OF_SOME = ", as a function of these alone"
# Coordinates that `few` depends on.
FEW = 16
Gradients = Callable[[], Any]


class Gradient(Calls):
    """One gradient of the mean cross entropy in float64: an array, a sequence or a dict.

    It is compared with backpropagation in NumPy.
    """

    step: float | None = STEP

    def pose(self) -> None:
        data, case = load(self.case), self.case
        self.x, self.t = data.x[: case.batch].copy(), data.t[: case.batch].copy()
        net = self.net("numpy")
        self.flat = net.flat
        # Views into it.
        self.layers = list(net.params.values())
        exact = plain.gradient(self.layers, self.x, self.t, case.activation)
        self.exact = np.concatenate([part.ravel() for part in exact])

    def net(self, backend: Any) -> accelnn.TwoLayerNet:
        """Return the net."""
        return accelnn.TwoLayerNet(
            *self.case.sizes,
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
        self.notes = {"measured": f"{size:,} of {self.flat.size:,} parameters{note}"}
        return moved

    def loss(self) -> float:
        """Return the loss at the parameters as they are."""
        return plain.loss(self.layers, self.x, self.t, self.case.activation)

    def function(self, size: int) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
        """Return the loss as a function of some parameters, and these.

        Handing a library only some is in its favour: every step copies as many numbers as there
        are.
        """
        flat, moved = self.flat, self.sample(size, OF_SOME)
        first = flat[moved].copy()

        def loss(values: np.ndarray) -> float:
            flat[moved] = values
            try:
                return self.loss()
            finally:
                flat[moved] = first

        return loss, first


def rosenbrock(x: np.ndarray) -> Any:
    """Return the height of Rosenbrock's valley in n dimensions, at one point or at several."""
    a, b = x[..., 1:], x[..., :-1]
    return np.sum(100.0 * (a - b**2) ** 2 + (1.0 - b) ** 2, axis=-1)


def few(x: np.ndarray) -> Any:
    """Return the square of the first sixteen coordinates, which takes no time."""
    part = x[:FEW]
    return part.dot(part)


def _rosenbrock_in_a_loop(x: Any) -> Any:
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


def _few_in_a_loop(x: Any) -> Any:
    total = 0.0
    for i in range(FEW):
        total += x[i] * x[i]
    return total


def _calls(f: Any, x: Any, times: int) -> float:
    """Call f at different points, so that the compiler cannot eliminate calls."""
    total = 0.0
    for i in range(times):
        before = x[i % x.size]
        x[i % x.size] = before + 1e-6
        total += f(x)
        x[i % x.size] = before
    return total


# At one point, at k points, and in a form that Numba compiles.
FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "rosenbrock": (rosenbrock, rosenbrock, _rosenbrock_in_a_loop),
    "few": (few, lambda x: np.sum(x[:, :FEW] ** 2, axis=1), _few_in_a_loop),
}


class BlackBox(Calls):
    """One gradient by central differences, which is compared with a complex step.

    Its deviation is in relation to the largest derivative.
    """

    step: float | None = None

    def pose(self) -> None:
        self.f, self.of_many, self.in_a_loop = FUNCTIONS[self.case.do]
        self.x = np.random.default_rng(SEED).normal(size=self.case.sizes)
        self.exact = accelnn.numerical_gradient(
            self.of_many, self.x, method="complex", batched=True, backend="numpy"
        )
        self.unit = float(np.abs(self.exact).max())

    def function(self, _size: int) -> tuple[Callable[[np.ndarray], Any], np.ndarray]:
        """Return the function and the point."""
        return self.f, self.x


@contestant("accelnn numpy", "gradient", "scaling", "gpu-gradient", kind=Gradient, backend="numpy")
@contestant("accelnn numba", "gradient", "scaling", "gpu-gradient", kind=Gradient, backend="numba")
@contestant("accelnn cupy", "gpu-gradient", kind=Gradient, backend="cupy")
def numerical(problem: Gradient, backend: Any) -> Gradients:
    """Return `net.numerical_gradient`."""
    net = problem.net(backend)
    x, t = (net.backend.asarray(part) for part in (problem.x, problem.t))
    problem.to_numpy = net.backend.to_numpy
    problem.events = "cupy" if backend == "cupy" else ""

    def gradient() -> Any:
        found = net.numerical_gradient(x, t, step=STEP)
        net.backend.synchronize()
        return found

    return gradient


@contestant("accelnn numba", "black-box", kind=BlackBox)
def of_a_compiled_function(problem: BlackBox) -> Gradients:
    """Return `accelnn.numerical_gradient` of a function compiled by Numba."""
    import numba

    f: Any = numba.njit(problem.in_a_loop)
    return lambda: accelnn.numerical_gradient(f, problem.x, backend="numba")


@contestant("accelnn workers", "black-box", kind=BlackBox, pooled=True)
@contestant("accelnn serial", "black-box", kind=BlackBox)
@contestant("accelnn batched", "black-box", kind=BlackBox, batched=True)
def of_a_function(problem: BlackBox, *, batched: bool = False, pooled: bool = False) -> Gradients:
    """Return `accelnn.numerical_gradient`, with as many workers as threads, two at least."""
    options: dict[str, Any] = {"batched": batched, "backend": "numpy"}
    options |= {"workers": max(2, problem.threads)} if pooled else {}
    f = problem.of_many if batched else problem.f
    return lambda: accelnn.numerical_gradient(f, problem.x, **options)


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


@contestant("SciPy workers", "black-box", kind=BlackBox, needs="scipy", pooled=True)
@contestant("SciPy", "black-box", kind=BlackBox, needs="scipy")
@contestant("SciPy", "gradient", kind=Gradient, needs="scipy")
def scipy(problem: Gradient | BlackBox, *, pooled: bool = False) -> Gradients:
    """Return `approx_derivative`, three points, alone or with the map of an existing pool."""
    from multiprocessing import Pool

    from scipy.optimize._numdiff import approx_derivative

    f, x = problem.function(1_000)
    options: dict[str, Any] = {"method": "3-point", "abs_step": problem.step}
    options |= {"workers": Pool(max(2, problem.threads)).map} if pooled else {}
    return lambda: approx_derivative(f, x, **options)


@contestant("numdifftools", "black-box", kind=BlackBox, needs="numdifftools")
@contestant("numdifftools", "gradient", kind=Gradient, needs="numdifftools")
def numdifftools(problem: Gradient | BlackBox) -> Gradients:
    """Return `numdifftools.Gradient` with one given step, without its search for the best."""
    import numdifftools

    f, x = problem.function(200)
    return lambda: numdifftools.Gradient(f, step=problem.step or 6e-6)(x)


@contestant("Python calls alone", "black-box", kind=BlackBox, compiled=False)
@contestant("compiled calls alone", "black-box", kind=BlackBox, compiled=True)
def calls_alone(problem: BlackBox, *, compiled: bool) -> Gradients:
    """Return 2n calls, for comparison, from Python or on one thread from compiled code."""
    f, x = problem.f, problem.x
    if compiled:
        import numba

        f, calls = numba.njit(problem.in_a_loop), numba.njit(_calls)
        return lambda: calls(f, x, 2 * x.size) and None

    def calls_from_python() -> None:
        for _ in range(2 * x.size):
            f(x)

    return calls_from_python


@contestant("NumPy analytic", "gradient", "scaling", kind=Gradient)
def analytic_by_hand(problem: Gradient) -> Gradients:
    """Return backpropagation by hand."""
    x, t, activation = problem.x, problem.t, problem.case.activation
    return lambda: plain.gradient(problem.layers, x, t, activation)


@contestant("accelnn numba analytic", "gradient", "scaling", kind=Gradient)
def analytic(problem: Gradient) -> Gradients:
    """Return `net.gradient`."""
    net = problem.net("numba")
    return lambda: net.gradient(problem.x, problem.t)
