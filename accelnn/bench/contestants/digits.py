"""Correct digits of known derivatives, and evaluations, for each method."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import accelnn
from accelnn.bench._case import Case
from accelnn.bench.contestants.base import Contestant, contestant

if TYPE_CHECKING:
    from accelnn.testing import DerivativeCase

__all__ = ["Digits"]

# The digits of float64.
MOST_DIGITS = 16.0
# Points per function, so that no single rounding error decides.
POINTS = 40
Derivative = tuple[float, float | None]


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

    ``derivative(f, x)`` returns a value, and an estimate of its error or None.
    """

    def __init__(self, case: Case, threads: int, derivative: Any) -> None:
        from accelnn.testing import DERIVATIVE_CASES

        super().__init__(case, threads)
        self.derivative = derivative
        needs_complex = getattr(derivative, "keywords", {}).get("method") == "complex"
        self.cases = [c for c in DERIVATIVE_CASES if c.is_analytic or not needs_complex]

    def run(self, amount: int) -> None:
        for _ in range(amount):
            self.found = {
                case.name: [self.measure(case, float(x)) for x in case.points(POINTS)]
                for case in self.cases
            }

    def facts(self) -> dict[str, Any]:
        """Return medians of digits and evaluations, and how often the error estimate held."""
        held = [r[2] for results in self.found.values() for r in results if r[2] is not None]
        digits, evaluations = (
            {name: float(np.median([r[i] for r in rs])) for name, rs in self.found.items()}
            for i in (0, 1)
        )
        said = {"held": f"{sum(held)} of {len(held)}"} if held else {}
        return {"digits": digits, "evaluations": evaluations, **said}

    def measure(self, case: DerivativeCase, x: float) -> tuple[float, int, bool | None]:
        """Return digits and evaluations at one x, and whether the error estimate held."""
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
        if not math.isfinite(deviation):
            return 0.0, evaluations, held
        relative = deviation / abs(exact) if exact else deviation
        digits = min(MOST_DIGITS, max(0.0, -math.log10(max(relative, 1e-300))))
        return digits, evaluations, held
