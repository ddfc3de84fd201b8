"""Gradients of black-box functions: accelnn, SciPy and numdifftools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import accelnn
from accelnn.bench.contestants.base import Calls, contestant
from accelnn.bench.contestants.data import SEED

__all__ = ["BlackBox", "few", "rosenbrock"]

Gradients = Callable[[], Any]

# Coordinates that `few` depends on.
FEW = 16


def rosenbrock(x: np.ndarray) -> Any:
    """Return the height of Rosenbrock's valley in n dimensions."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def few(x: np.ndarray) -> Any:
    """Return the square of the first sixteen coordinates, which takes no time."""
    part = x[:FEW]
    return part.dot(part)


def _rosenbrock_of_many(x: np.ndarray) -> np.ndarray:
    a, b = x[:, 1:], x[:, :-1]
    values: np.ndarray = np.sum(100.0 * (a - b**2) ** 2 + (1.0 - b) ** 2, axis=1)
    return values


def _few_of_many(x: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.sum(x[:, :FEW] ** 2, axis=1)
    return values


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
    "rosenbrock": (rosenbrock, _rosenbrock_of_many, _rosenbrock_in_a_loop),
    "few": (few, _few_of_many, _few_in_a_loop),
}


class BlackBox(Calls):
    """One gradient by central differences, which is compared with a complex step."""

    def pose(self) -> None:
        self.f, self.of_many, self.in_a_loop = FUNCTIONS[self.case.do]
        (n,) = self.case.sizes
        self.x = np.random.default_rng(SEED).normal(size=n)
        self.exact = accelnn.numerical_gradient(
            self.of_many, self.x, method="complex", batched=True, backend="numpy"
        )

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation in relation to the largest derivative."""
        if self.found is None:
            return {}
        largest = np.abs(self.exact).max()
        return {"deviation": float(np.abs(self.found - self.exact).max() / largest)}


@contestant("accelnn workers", "black-box", kind=BlackBox, way="workers")
@contestant("accelnn serial", "black-box", kind=BlackBox, way="serial")
@contestant("accelnn batched", "black-box", kind=BlackBox, way="batched")
@contestant("accelnn numba", "black-box", kind=BlackBox, way="compiled")
def ours(problem: BlackBox, way: str) -> Gradients:
    """Return `accelnn.numerical_gradient`, with as many workers as threads, two at least."""
    f: Any = problem.f
    options: dict[str, Any] = {"backend": "numba" if way == "compiled" else "numpy"}
    if way == "compiled":
        import numba

        f = numba.njit(problem.in_a_loop)
    elif way == "batched":
        f, options["batched"] = problem.of_many, True
    elif way == "workers":
        options["workers"] = max(2, problem.threads)
    return lambda: accelnn.numerical_gradient(f, problem.x, **options)


@contestant("SciPy workers", "black-box", kind=BlackBox, needs="scipy", pooled=True)
@contestant("SciPy", "black-box", kind=BlackBox, needs="scipy", pooled=False)
def scipy(problem: BlackBox, *, pooled: bool) -> Gradients:
    """Return `approx_derivative`, three points, alone or with the map of an existing pool."""
    from multiprocessing import Pool

    from scipy.optimize._numdiff import approx_derivative

    options = {"workers": Pool(max(2, problem.threads)).map} if pooled else {}
    return lambda: approx_derivative(problem.f, problem.x, method="3-point", **options)


@contestant("numdifftools", "black-box", kind=BlackBox, needs="numdifftools")
def numdifftools(problem: BlackBox) -> Gradients:
    """Return `numdifftools.Gradient` with one given step, without its search for the best."""
    import numdifftools

    return lambda: numdifftools.Gradient(problem.f, step=6e-6)(problem.x)


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
