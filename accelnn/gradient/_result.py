"""What is known of a derivative besides its value."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from accelnn._typing import Array

__all__ = ["DerivativeResult", "Flag"]


class Flag(enum.IntFlag):
    """What is wrong, or worth knowing, with the derivative along one coordinate."""

    OK = 0
    NOT_FINITE = 1
    """f was NaN or infinite beside x, or the derivative is."""
    KINK = 2
    """The slopes on both sides of x disagree however close they are taken."""
    RANDOM = 4
    """Two calls of f at the same x gave different values."""
    ONE_SIDED = 8
    """Bounds left no room on one side."""


@dataclass(frozen=True)
class DerivativeResult:
    """A derivative, and what was learnt while it was taken.

    Attributes
    ----------
    gradient : array
        The derivatives. Of `accelnn.numerical_jacobian` and `accelnn.numerical_hessian`, theirs.
    error : array
        An estimate of the absolute error of each: truncation and rounding.
    step : array of x's shape
        The step that was taken along each coordinate; of an extrapolation the smallest.
    nfev : int
        How often f was evaluated, one point each, in all.
    flags : numpy.ndarray of int, of x's shape
        For each coordinate, `accelnn.gradient.Flag` values added together; 0 where all is well.
    """

    gradient: Array
    error: Array
    step: Array
    nfev: int
    flags: np.ndarray

    def __str__(self) -> str:
        counts = {
            flag.name: int(np.count_nonzero(self.flags & flag)) for flag in Flag if flag != Flag.OK
        }
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{self.flags.size} coordinates, {self.nfev} evaluations, flags: {found or 'none'}"
