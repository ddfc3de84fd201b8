"""Longer steps, where the noise of a function hides its slopes at the usual ones."""

from __future__ import annotations

import math
from typing import NamedTuple

from accelnn.gradient._probe import Comparison, Place, Probe

__all__ = ["Sight", "is_hidden", "look_further"]

# What noise and truncation may have in an error that counts.
DOUBT = 0.2
# With so much of a slope, they cannot hide that half of it is missing.
CLEAR = 0.5 * DOUBT
# Where one side is closer to the analytic slope than this part of the error, there may be a kink.
LEANING = 0.5
# Each step is so many times the one before, and the longest this part of the size of x.
GROWTH = 2.0
LONGEST = 1.0
# Steps in a row that must agree.
AGREEING = 4


class Sight(NamedTuple):
    """What can be seen at a place.

    Attributes
    ----------
    comparison : Comparison
        At the usual step, or at a longer one that shows the gradient to be wrong.
    is_clear : bool
        False where noise hides slopes as large as those that f has further away.
    """

    comparison: Comparison
    is_clear: bool


def is_hidden(comparison: Comparison) -> bool:
    """Return whether noise allows for an error as large as the slope: then anything agrees."""
    return comparison.tolerance > _slope(comparison)


def look_further(probe: Probe, place: Place, usual: Comparison) -> Sight:
    """Take longer steps for as long as noise hides the slope.

    Truncation grows with them, and they cross kinks, so that this is for a gradient of which
    nothing at all can be seen at usual steps. It is wrong where several steps and both sides of
    x agree about that.
    """
    steepest = 0.0
    tried = [usual]
    fraction = GROWTH
    while fraction * probe.step <= LONGEST:
        tried.append(probe.compare(place, fraction, probe.spread))
        if len(tried) > AGREEING:
            last = tried[-AGREEING:]
            slopes = [comparison.numerical for comparison in last]
            doubt = last[0].noise_floor + max(slopes) - min(slopes)
            if _contradicts(last, doubt):
                return Sight(last[0]._replace(tolerance=doubt), is_clear=True)
            if doubt <= CLEAR * _slope(last[0]):
                return Sight(usual, is_clear=True)
        sides = (abs(tried[-1].left), abs(tried[-1].right))
        steepest = max(steepest, *(s for s in sides if math.isfinite(s)), 0.0)
        fraction *= GROWTH
    is_constant = steepest == usual.error == 0.0
    return Sight(usual, is_clear=is_constant or usual.noise_floor <= steepest)


def _contradicts(tried: list[Comparison], doubt: float) -> bool:
    error = min(comparison.error for comparison in tried)
    return doubt <= DOUBT * error and all(
        error > c.tolerance and not _is_between_the_sides(c) for c in tried
    )


def _is_between_the_sides(comparison: Comparison) -> bool:
    """Return whether the analytic slope is no wrong one if there is a kink close to x."""
    left, right = (s - comparison.analytic for s in (comparison.left, comparison.right))
    return left * right <= 0.0 or min(abs(left), abs(right)) <= LEANING * comparison.error


def _slope(comparison: Comparison) -> float:
    return max(abs(comparison.analytic), abs(comparison.numerical))
