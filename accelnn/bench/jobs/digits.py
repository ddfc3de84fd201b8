"""Correct digits of known derivatives, and evaluations, for each method."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import accelnn
from accelnn._typing import MethodName
from accelnn.bench.jobs.job import Job
from accelnn.testing import DERIVATIVE_CASES, DerivativeCase

__all__ = [
    "Central",
    "Complex",
    "Digits",
    "Forward",
    "Jacobi",
    "Numdifftools",
    "Richardson",
    "ScipyDifferentiate",
    "ScipyForward",
    "ScipyThreePoint",
]

# The digits of float64.
MOST_DIGITS = 16.0
# Points per function, so that no single rounding error decides.
POINTS = 40


class Found(NamedTuple):
    """The result of a method for one derivative; `held` says whether its error estimate held."""

    digits: float
    evaluations: int
    held: bool | None


class Digits(Job):
    """The derivatives of all `accelnn.testing.DERIVATIVE_CASES`; a unit is all of them.

    A contestant writes `derivative`, which returns a value, and an estimate of its error or None.
    """

    needs_complex = False

    def run(self, amount: int) -> None:
        """See `Job.run`."""
        for _ in range(amount):
            self.found = {case.name: self.measure(case) for case in DERIVATIVE_CASES}

    def facts(self) -> dict[str, Any]:
        """Return medians of digits and evaluations, and how often the error estimate held."""
        found = {name: results for name, results in self.found.items() if results}
        held = [r.held for results in found.values() for r in results if r.held is not None]

        def medians(what: str) -> dict[str, float]:
            return {
                name: statistics.median(getattr(r, what) for r in results)
                for name, results in found.items()
            }

        return {
            "digits": medians("digits"),
            "evaluations": medians("evaluations"),
            **({"held": f"{sum(held)} of {len(held)}"} if held else {}),
        }

    def measure(self, case: DerivativeCase) -> list[Found]:
        """Return the results near a case's x; none if the method does not apply."""
        if self.needs_complex and not case.is_analytic:
            return []
        return [self.measure_at(case, float(x)) for x in case.points(POINTS)]

    def measure_at(self, case: DerivativeCase, x: float) -> Found:
        """Return the result at one x."""
        evaluations = 0

        def counted(x: Any) -> Any:
            nonlocal evaluations
            evaluations += np.size(x)
            return case.f(x)

        with np.errstate(all="ignore"):
            exact = float(case.derivative(np.asarray(x)))
            value, error = self.derivative(counted, x)
        deviation = abs(value - exact)
        held = None if error is None else bool(deviation <= error)
        return Found(_digits(deviation, exact), evaluations, held)

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """Return f'(x) and an error estimate, if the method has one."""
        raise NotImplementedError


def _digits(deviation: float, exact: float) -> float:
    if not math.isfinite(deviation):
        return 0.0
    relative = deviation / abs(exact) if exact else deviation
    return min(MOST_DIGITS, max(0.0, -math.log10(max(relative, 1e-300))))


class _Ours(Digits):
    method: MethodName = "central"

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """See `Digits.derivative`."""
        point = np.array([x])
        found = accelnn.numerical_gradient(
            lambda x: f(x)[0], point, method=self.method, backend="numpy"
        )
        return float(found[0]), None


class Central(_Ours):
    """`accelnn.numerical_gradient`."""


class Forward(_Ours):
    """`accelnn.numerical_gradient`."""

    method = "forward"


class Complex(_Ours):
    """`accelnn.numerical_gradient`."""

    method = "complex"
    needs_complex = True


class Richardson(Digits):
    """`accelnn.numerical_gradient` with its error estimate."""

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """See `Digits.derivative`."""
        found = accelnn.numerical_gradient(
            lambda x: f(x)[0],
            np.array([x]),
            method="richardson",
            full_output=True,
            backend="numpy",
        )
        return float(found.gradient[0]), float(found.error[0])


class ScipyForward(Digits):
    """`approx_derivative`, two points."""

    method = "2-point"

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """See `Digits.derivative`."""
        from scipy.optimize._numdiff import approx_derivative

        found = approx_derivative(lambda x: f(x)[0], np.array([x]), method=self.method)
        return float(found[0]), None


class ScipyThreePoint(ScipyForward):
    """`approx_derivative`, three points."""

    method = "3-point"


class ScipyDifferentiate(Digits):
    """`scipy.differentiate.derivative`."""

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """See `Digits.derivative`."""
        from scipy.differentiate import derivative

        found = derivative(f, x)
        return float(found.df), float(found.error)


class Numdifftools(Digits):
    """`numdifftools.Derivative`."""

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """See `Digits.derivative`."""
        import numdifftools

        found = numdifftools.Derivative(f, full_output=True)(np.array([x]))
        value, error = (np.ravel(a)[0] for a in (found.estimate, found.error_estimate))
        return float(value), float(error)


class Jacobi(Digits):
    """`jacobi.jacobi`."""

    def derivative(self, f: Callable[[Any], Any], x: float) -> tuple[float, float | None]:
        """See `Digits.derivative`."""
        import jacobi

        value, error = jacobi.jacobi(lambda x: f(np.asarray([x]))[0], x)
        return float(np.ravel(value)[0]), float(np.ravel(error)[0])
