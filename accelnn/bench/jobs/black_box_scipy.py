"""Gradients by SciPy and numdifftools."""

from __future__ import annotations

import multiprocessing

import numpy as np

from accelnn.bench._task import Task
from accelnn.bench.jobs.black_box import BlackBox

__all__ = ["Numdifftools", "Scipy", "ScipyWorkers"]


class Scipy(BlackBox):
    """`approx_derivative`, three points."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        from scipy.optimize._numdiff import approx_derivative

        return np.asarray(approx_derivative(self.f, self.x, method="3-point"))


class ScipyWorkers(BlackBox):
    """`approx_derivative` with the map of an existing pool."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.pool = multiprocessing.Pool(max(2, threads))

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        from scipy.optimize._numdiff import approx_derivative

        found = approx_derivative(self.f, self.x, method="3-point", workers=self.pool.map)
        return np.asarray(found)


class Numdifftools(BlackBox):
    """`numdifftools.Gradient` with one given step, without its search for the best."""

    def gradient(self) -> np.ndarray:
        """See `BlackBox.gradient`."""
        import numdifftools

        return np.asarray(numdifftools.Gradient(self.f, step=6e-6)(self.x))
