"""What derivatives and gradient checks return besides plain arrays."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

__all__ = ["DerivativeResult", "Flag", "GradientFailure", "GradientReport", "Mode", "joined"]

Mode: TypeAlias = Literal["directional", "sampled", "full"]

# A relative error below this may come from a small constant that f adds, as an eps in a logarithm.
SMALL_ERROR = 1e-2


class Flag(enum.IntFlag):
    """What is wrong, or worth knowing, with the derivative along one coordinate."""

    OK = 0
    NOT_FINITE = 1
    """f was NaN or infinite near x, or the derivative is."""
    KINK = 2
    """The slopes on the two sides of x differ however small the step."""
    RANDOM = 4
    """Two calls of f at the same x gave different values."""
    ONE_SIDED = 8
    """One-sided, because bounds leave no room on the other side or f is not finite there."""
    FIXED = 16
    """Both bounds are equal: the coordinate cannot move, and its derivative is 0."""
    LARGE_STEP = 32
    """Steps are far larger than x in every coordinate; see ``rel_step``."""
    UNSETTLED = 64
    """Differences at two step sizes disagree by more than their estimated errors."""


@dataclass(frozen=True)
class DerivativeResult:
    """A derivative with an error estimate and diagnostics.

    Attributes
    ----------
    gradient : array
        What the function returns without ``full_output``: gradient, Jacobian, Hessian, ...
    error : array
        The estimated absolute error of each derivative, truncation and rounding together.
    step : array of x's shape
        The step taken along each coordinate; with extrapolation the smallest.
    nfev : int
        The number of points at which f was evaluated.
    flags : numpy.ndarray of int, of x's shape
        For each coordinate, `accelnn.gradient.Flag` values combined with ``|``; 0 where all is
        well.
    how : str
        How f was evaluated: one call after the other, in so many processes or threads, ...
    """

    gradient: Any
    error: Any
    step: Any
    nfev: int
    flags: np.ndarray
    how: str = ""

    def __str__(self) -> str:
        counts = {
            flag.name: int(np.count_nonzero(self.flags & flag)) for flag in Flag if flag != Flag.OK
        }
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{self.flags.size} coordinates, {self.nfev} evaluations, flags: {found or 'none'}"


@dataclass(frozen=True)
class GradientFailure:
    """One comparison of a gradient with differences of f.

    Attributes
    ----------
    name : str
        The array that was compared; "x" unless there are several.
    index : tuple of int or None
        The coordinate, for a Jacobian after the index of the value; None for a direction.
    analytic, numerical : float
        The two derivatives.
    error : float
        Their absolute difference.
    tolerance : float
        The largest difference that counts as agreement.
    noise_floor : float
        The part of `tolerance` that is rounding noise of f; a smaller error is not significant.
    """

    name: str
    index: tuple[int, ...] | None
    analytic: float
    numerical: float
    error: float
    tolerance: float
    noise_floor: float

    @property
    def relative_error(self) -> float:
        """The error relative to the larger derivative."""
        largest = max(abs(self.analytic), abs(self.numerical))
        return self.error / largest if largest > 0.0 else math.nan if self.error else 0.0

    @property
    def severity(self) -> float:
        """The error in units of the tolerance."""
        if self.error == 0.0:
            return 0.0
        is_number = math.isfinite(self.error) and self.tolerance > 0.0
        return self.error / self.tolerance if is_number else math.inf

    def __str__(self) -> str:
        if self.index is None:
            where = "along a direction" + f" of {self.name}" * (self.name != "x")
        else:
            where = f"at {self.name}[{', '.join(map(str, self.index))}]"
        return (
            f"{where}: analytic {self.analytic:.10g}, numerical {self.numerical:.10g}, "
            f"error {self.error:.3g}, relative {self.relative_error:.2g}, "
            f"tolerance {self.tolerance:.3g}, noise floor {self.noise_floor:.3g}"
        )


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` found.

    Attributes
    ----------
    passed : bool
        Whether every comparison stayed within its tolerance.
    mode : {"directional", "sampled", "full"}
        What was compared.
    worst : GradientFailure
        The worst comparison, whether or not it failed.
    comparisons : int
        Number of directions or coordinates compared.
    is_conclusive : bool
        False where nothing was proven wrong, but noise or a lack of smoothness of `f` may hide an
        error of 1 % of the gradient.
    failures : tuple of GradientFailure
        The comparisons that failed, worst first; at most 100 for each array.
    """

    passed: bool
    mode: Mode
    worst: GradientFailure
    comparisons: int
    is_conclusive: bool = True
    failures: tuple[GradientFailure, ...] = field(default=(), repr=False)

    @property
    def verdict(self) -> Literal["right", "WRONG", "inconclusive"]:
        """The result in a word."""
        if not self.passed:
            return "WRONG"
        return "right" if self.is_conclusive else "inconclusive"

    @property
    def name(self) -> str:
        """`name` of the worst comparison."""
        return self.worst.name

    @property
    def index(self) -> tuple[int, ...] | None:
        """`index` of the worst comparison."""
        return self.worst.index

    @property
    def analytic(self) -> float:
        """`analytic` of the worst comparison."""
        return self.worst.analytic

    @property
    def numerical(self) -> float:
        """`numerical` of the worst comparison."""
        return self.worst.numerical

    @property
    def error(self) -> float:
        """`error` of the worst comparison."""
        return self.worst.error

    @property
    def tolerance(self) -> float:
        """`tolerance` of the worst comparison."""
        return self.worst.tolerance

    @property
    def noise_floor(self) -> float:
        """`noise_floor` of the worst comparison."""
        return self.worst.noise_floor

    @property
    def severity(self) -> float:
        """`severity` of the worst comparison."""
        return self.worst.severity

    def __str__(self) -> str:
        text = (
            f"{self.verdict} gradient ({self.mode}, {self.comparisons} compared); "
            f"worst {self.worst}"
        )
        if not self.passed and 0.0 < self.worst.relative_error < SMALL_ERROR:
            text += (
                ". An error this small is typical of an eps inside a logarithm or a root: if f "
                "adds a small constant, as in log(y + 1e-7), the gradient must include it"
            )
        return text


def joined(mode: Mode, reports: Sequence[GradientReport]) -> GradientReport:
    """Return one report on several arrays."""
    if len(reports) == 1:
        return reports[0]
    failures = sorted(
        (failure for report in reports for failure in report.failures),
        key=lambda failure: failure.severity,
        reverse=True,
    )
    return GradientReport(
        passed=all(report.passed for report in reports),
        mode=mode,
        worst=max(
            failures[:1] or [report.worst for report in reports], key=lambda worst: worst.severity
        ),
        comparisons=sum(report.comparisons for report in reports),
        is_conclusive=all(report.is_conclusive for report in reports),
        failures=tuple(failures),
    )
