"""Gradients of functions that Numba compiles."""

from __future__ import annotations

import numba
import numpy as np

import accelnn
from accelnn.bench._task import Task
from accelnn.bench.jobs.black_box import FEW, BlackBox

__all__ = ["Calls", "Compiled"]


@numba.njit
def rosenbrock(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """See `accelnn.bench.jobs.black_box.rosenbrock`."""
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


@numba.njit
def few(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """See `accelnn.bench.jobs.black_box.few`."""
    total = 0.0
    for i in range(FEW):
        total += x[i] * x[i]
    return total


@numba.njit
def call(f, x, times):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Call f at different points, so that the compiler cannot eliminate calls."""
    total = 0.0
    for i in range(times):
        before = x[i % x.size]
        x[i % x.size] = before + 1e-6
        total += f(x)
        x[i % x.size] = before
    return total


FUNCTIONS = {"rosenbrock": rosenbrock, "few": few}


class _Compiled(BlackBox):
    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.compiled = FUNCTIONS[task.function]


class Compiled(_Compiled):
    """A compiled loop on all threads."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        found: np.ndarray = accelnn.numerical_gradient(self.compiled, self.x, backend="numba")
        return found


class Calls(_Compiled):
    """2n calls alone in a compiled loop on one thread, for comparison."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        call(self.compiled, self.x, 2 * self.x.size)
        exact: np.ndarray = self.exact
        return exact
