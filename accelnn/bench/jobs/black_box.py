"""Gradients of black-box functions: accelnn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import accelnn
from accelnn.bench._task import Task
from accelnn.bench.jobs.data import SEED
from accelnn.bench.jobs.job import Job

__all__ = ["Batched", "BlackBox", "CallsFromPython", "Serial", "Workers", "few", "rosenbrock"]

# Coordinates that `few` depends on.
FEW = 16


def rosenbrock(x: np.ndarray) -> Any:
    """Return the height of Rosenbrock's valley in n dimensions."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_of_many(x: np.ndarray) -> np.ndarray:
    """Return the height at k points."""
    a, b = x[:, 1:], x[:, :-1]
    values: np.ndarray = np.sum(100.0 * (a - b**2) ** 2 + (1.0 - b) ** 2, axis=1)
    return values


def few(x: np.ndarray) -> Any:
    """Return the square of the first sixteen coordinates, which takes no time."""
    part = x[:FEW]
    return part.dot(part)


def few_of_many(x: np.ndarray) -> np.ndarray:
    """Return the same at k points."""
    values: np.ndarray = np.sum(x[:, :FEW] ** 2, axis=1)
    return values


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "rosenbrock": (rosenbrock, rosenbrock_of_many),
    "few": (few, few_of_many),
}


class BlackBox(Job):
    """One gradient by central differences; a unit is one whole gradient.

    A contestant writes `gradient`. What it returns is compared with a complex step.
    """

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.f, self.many = FUNCTIONS[task.function]
        (n,) = task.sizes
        self.x = np.random.default_rng(SEED).normal(size=n)
        self.exact = accelnn.numerical_gradient(
            self.many, self.x, method="complex", batched=True, backend="numpy"
        )

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            self.found = self.gradient()

    def facts(self) -> dict[str, Any]:
        """Return the largest deviation in relation to the largest derivative."""
        largest = np.abs(self.exact).max()
        return {"deviation": float(np.abs(self.found - self.exact).max() / largest)}

    def gradient(self) -> np.ndarray:
        """Return the gradient."""
        raise NotImplementedError


class Serial(BlackBox):
    """One point after the other."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        found: np.ndarray = accelnn.numerical_gradient(self.f, self.x, backend="numpy")
        return found


class Batched(BlackBox):
    """Many points in one call."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        found: np.ndarray = accelnn.numerical_gradient(
            self.many, self.x, batched=True, backend="numpy"
        )
        return found


class Workers(BlackBox):
    """As many processes as threads, two at least."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        found: np.ndarray = accelnn.numerical_gradient(
            self.f, self.x, workers=max(2, self.threads), backend="numpy"
        )
        return found


class CallsFromPython(BlackBox):
    """2n calls alone, for comparison; their values are discarded."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        f, x = self.f, self.x
        for _ in range(2 * x.size):
            f(x)
        exact: np.ndarray = self.exact
        return exact
