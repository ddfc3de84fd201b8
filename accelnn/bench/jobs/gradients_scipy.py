"""Differences by SciPy and by numdifftools, of the loss as a function of some parameters.

Handing them only some is in their favour: every step copies as many numbers as there are.
"""

from typing import Any

import numpy as np

from accelnn.bench.jobs.gradients import STEP, Loop

__all__ = ["Numdifftools", "Scipy"]


class _OfSome(Loop):
    def facts(self) -> dict[str, Any]:
        """See `Sampled.facts`."""
        facts = super().facts()
        return facts | {"measured": f"{facts['measured']}, as a function of these alone"}

    def loss_at(self, values: np.ndarray) -> float:
        """Return the loss with the sampled parameters at `values`."""
        before = self.flat[self.moved]
        self.flat[self.moved] = values
        try:
            return self.loss()
        finally:
            self.flat[self.moved] = before


class Scipy(_OfSome):
    """`approx_derivative`, three points."""

    sample = 1_000

    def gradient(self) -> np.ndarray:
        """See `Gradient.gradient`."""
        from scipy.optimize._numdiff import approx_derivative

        values = self.flat[self.moved]
        found = approx_derivative(self.loss_at, values, method="3-point", abs_step=STEP)
        return np.asarray(found)


class Numdifftools(_OfSome):
    """`numdifftools.Gradient` with the same step as all others, without its search."""

    sample = 200

    def gradient(self) -> np.ndarray:
        """See `Gradient.gradient`."""
        import numdifftools

        differences = numdifftools.Gradient(self.loss_at, step=STEP)
        return np.asarray(differences(self.flat[self.moved]))
