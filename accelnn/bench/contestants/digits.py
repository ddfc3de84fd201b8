"""Correct digits of known derivatives, and evaluations, for each method."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import accelnn
from accelnn.bench._case import Case
from accelnn.bench.contestants.base import Contestant, contestant

if TYPE_CHECKING:
    from accelnn.testing import DerivativeCase

__all__ = ["Digits", "Found"]

# The digits of float64.
MOST_DIGITS = 16.0
# Points per function, so that no single rounding error decides.
POINTS = 40
Derivative = tuple[float, float | None]


class Found(NamedTuple):
    """The result of a method for one derivative; `held` says whether its error estimate held."""

    digits: float
    evaluations: int
    held: bool | None


def _ours(f: Callable[[Any], Any], x: float, method: Any) -> Derivative:
    found = accelnn.numerical_gradient(
        lambda x: f(x)[0], np.array([x]), method=method, full_output=True, backend="numpy"
    )
    return float(found.gradient[0]), float(found.error[0]) if method == "richardson" else None


def _approx_derivative(f: Callable[[Any], Any], x: float, method: str) -> Derivative:
    from scipy.optimize._numdiff import approx_derivative

    return float(approx_derivative(lambda x: f(x)[0], np.array([x]), method=method)[0]), None


def _scipy_differentiate(f: Callable[[Any], Any], x: float) -> Derivative:
    from scipy.differentiate import derivative

    found = derivative(f, x)
    return float(found.df), float(found.error)


def _numdifftools(f: Callable[[Any], Any], x: float) -> Derivative:
    import numdifftools

    found = numdifftools.Derivative(f, full_output=True)(np.array([x]))
    value, error = (np.ravel(a)[0] for a in (found.estimate, found.error_estimate))
    return float(value), float(error)


def _jacobi(f: Callable[[Any], Any], x: float) -> Derivative:
    import jacobi

    value, error = jacobi.jacobi(lambda x: f(np.asarray([x]))[0], x)
    return float(np.ravel(value)[0]), float(np.ravel(error)[0])


@contestant("SciPy 2-point", "digits", derivative=partial(_approx_derivative, method="2-point"))
@contestant("SciPy 3-point", "digits", derivative=partial(_approx_derivative, method="3-point"))
@contestant("scipy.differentiate", "digits", derivative=_scipy_differentiate)
@contestant("jacobi", "digits", derivative=_jacobi)
@contestant("numdifftools", "digits", derivative=_numdifftools)
@contestant("accelnn forward", "digits", derivative=partial(_ours, method="forward"))
@contestant("accelnn central", "digits", derivative=partial(_ours, method="central"))
@contestant("accelnn complex", "digits", derivative=partial(_ours, method="complex"))
@contestant("accelnn richardson", "digits", derivative=partial(_ours, method="richardson"))
class Digits(Contestant):
    """The derivatives of all `accelnn.testing.DERIVATIVE_CASES`; a unit is all of them.

    Parameters
    ----------
    derivative : callable
        ``derivative(f, x)`` returns a value, and an estimate of its error or None.
    """

    def __init__(self, case: Case, threads: int, derivative: Any) -> None:
        from accelnn.testing import DERIVATIVE_CASES

        super().__init__(case, threads)
        self.derivative = derivative
        self.cases = DERIVATIVE_CASES
        options = getattr(derivative, "keywords", {})
        self.needs_complex = options.get("method") == "complex"

    def run(self, amount: int) -> None:
        for _ in range(amount):
            self.found = {case.name: self.measure(case) for case in self.cases}

    def facts(self) -> dict[str, Any]:
        """Return medians of digits and evaluations, and how often the error estimate held."""
        found = {name: results for name, results in self.found.items() if results}
        held = [r.held for results in found.values() for r in results if r.held is not None]

        def medians(what: str) -> dict[str, float]:
            return {
                name: float(np.median([getattr(r, what) for r in results]))
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


def _digits(deviation: float, exact: float) -> float:
    if not math.isfinite(deviation):
        return 0.0
    relative = deviation / abs(exact) if exact else deviation
    return min(MOST_DIGITS, max(0.0, -math.log10(max(relative, 1e-300))))
