"""What is known of a derivative besides its value."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """Bounds left no room on one side, or f is not finite there."""
    FIXED = 16
    """The bounds are equal: the coordinate cannot move, and its derivative is 0."""
    LARGE_STEP = 32
    """Steps are far larger than x in every coordinate; see ``rel_step``."""
    UNSETTLED = 64
    """Differences at two scales disagree by more than their errors allow."""


@dataclass(frozen=True)
class DerivativeResult:
    """A derivative, and what was learnt while it was taken.

    Attributes
    ----------
    gradient : array
        The derivatives; of every door its own.
    error : array
        An estimate of the absolute error of each: truncation and rounding.
    step : array of x's shape
        The step that was taken along each coordinate; of an extrapolation the smallest.
    nfev : int
        How often f was evaluated, one point each, in all.
    flags : numpy.ndarray of int, of x's shape
        For each coordinate, `accelnn.gradient.Flag` values added together; 0 where all is well.
    how : str
        Where f was evaluated: one call after the other, in so many processes or threads, ...
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
