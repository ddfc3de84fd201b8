"""Richardson's extrapolation of central differences, for each coordinate as far as it pays.

D(h) differs from the derivative by a series in h², of which each smaller step lets one more term be
removed. Steps become smaller until rounding outweighs what is left of the series. On one side of a
bound the series is in h.

A table is believed only where D settles: where its changes shrink, or are rounding. Where they do
not, f is not smooth on the scale of the step, and the next one is much smaller.

References
----------
C. J. F. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering
Software 4 (1982); Press et al., "Numerical Recipes", section 5.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Estimate", "Extrapolation", "extrapolate"]

# How much smaller the next step is. Not 2: with steps that are multiples of each other, D of a wave
# may settle at a wrong value, and smaller steps lose more to rounding.
RATIO = 1.6
# Columns of the table, and differences of one coordinate at most.
COLUMNS = 8
MOST_LEVELS = 22
# A change of D that is more than this part of the change before it does not settle.
SETTLING = 0.75
# Neither do two differences of which one is less than this part of the other.
ALIKE = 0.5
# How much smaller the next step is where D does not settle.
LEAP = 4.0
# Changes of so many units of rounding are rounding.
ROUNDING = 4.0
# How many times the smallest error so far ends the search: rounding has taken over.
WORSE = 4.0
# A result that is known to this part is kept where D no longer settles.
ENOUGH = 1e-6
# An estimated error of truncation counts that many times; rounding of a table's entry, in units of
# that of its last difference.
SAFETY = 2.0
AMPLIFICATION = 2.0
# Changes that shrink this slowly, in terms of the ratio that a smooth f has, and evenly to this
# part, are those of |h|^p.
SLOW = 1.15
EVEN = 0.05


class Estimate(NamedTuple):
    """Differences D(h) along some coordinates, of shape (k, q), and the rounding in each."""

    value: np.ndarray
    noise: np.ndarray


class Extrapolation(NamedTuple):
    """Derivatives along n coordinates, of shape (n, q), an estimate of their errors, and steps."""

    value: np.ndarray
    error: np.ndarray
    step: np.ndarray


def extrapolate(
    difference: Callable[[np.ndarray, np.ndarray], Estimate],
    first: np.ndarray,
    *,
    power: int,
    position: np.ndarray,
    least: np.ndarray,
    advance: Callable[[int], object],
) -> Extrapolation:
    """Return the limits of differences at step 0.

    Parameters
    ----------
    difference : callable
        ``difference(rows, h)`` takes differences along the coordinates `rows`, at steps `h`.
    first : numpy.ndarray of shape (n,)
        The first steps.
    power : {1, 2}
        Whether the error of a difference is a series in h or in h².
    position : numpy.ndarray of shape (n,)
        x. Where f is not finite at the first steps, they may have crossed zero.
    least : numpy.ndarray of shape (n,)
        No step is smaller.
    advance : callable
        Called with the number of coordinates that have come to their end.
    """
    h, taken = first.copy(), first.copy()
    active = np.arange(len(h))
    table: _Table | None = None
    for _ in range(MOST_LEVELS):
        found = difference(active, h[active])
        table = table or _Table(len(h), found.value.shape[1], power)
        taken[active] = h[active]
        ended, leaps = table.add(active, found)
        outside = ~np.isfinite(found.value).all(axis=1) & (position[active] != 0.0)
        h[active] /= np.where(leaps, LEAP, RATIO)
        within = np.where(outside, 0.5 * np.abs(position[active]), np.inf)
        h[active] = np.minimum(h[active], within)
        ended |= h[active] < least[active]
        advance(int(ended.sum()))
        active = active[~ended]
        if active.size == 0:
            break
    advance(active.size)
    assert table is not None  # noqa: S101 - the loop has run
    return Extrapolation(table.best, table.error, taken)


class _Table:
    """The last rows of all tables, and the best entry of each so far."""

    def __init__(self, rows: int, outputs: int, power: int) -> None:
        self.power = power
        # How many differences came before, since the last leap.
        self.level = np.zeros(rows, int)
        self.last = np.full((rows, COLUMNS, outputs), np.nan)
        self.change = np.full((rows, outputs), np.nan)
        self.shrinking = np.full((rows, outputs), np.nan)
        self.limit = np.full((rows, outputs), np.nan)
        self.best = np.full((rows, outputs), np.nan)
        self.error = np.full((rows, outputs), np.inf)

    def add(self, rows: np.ndarray, found: Estimate) -> tuple[np.ndarray, np.ndarray]:
        """Add a difference to some tables; return which have ended, and which must leap."""
        level, noise = self.level[rows][:, None], AMPLIFICATION * found.noise
        with np.errstate(all="ignore"):
            before = self.last[rows, 0]
            change = np.abs(found.value - before)
            is_rounding = change <= ROUNDING * noise
            settles = (change < SETTLING * self.change[rows]) | is_rounding
            larger = np.maximum(np.abs(found.value), np.abs(before))
            unlike = (change > ALIKE * larger) & ~is_rounding

            entry, apart = self._romberg(rows, found.value)
            limit, apart_too = self._limit_of_power(rows, found.value, before)
            is_power = apart_too < apart
            entry, apart = np.where(is_power, limit, entry), np.where(is_power, apart_too, apart)
            total = SAFETY * apart + noise

            is_believed = (level > 1) & settles
            is_better = is_believed & (total < self.error[rows])
            self.best[rows] = np.where(is_better, entry, self.best[rows])
            self.error[rows] = np.where(is_better, total, self.error[rows])
            rounded = is_believed & ((apart <= noise) | (total > WORSE * self.error[rows]))
        self.change[rows] = change

        is_finite = np.isfinite(found.value).all(axis=1)
        has_result = self.error[rows] <= ENOUGH * np.abs(self.best[rows])
        lost = (level > 1) & ~settles
        ended = is_finite & (rounded | (lost & has_result)).all(axis=1)
        leaps = (lost & ~has_result) | ((level == 1) & unlike)
        leaps = (leaps.any(axis=1) & ~ended) | ~is_finite
        self.level[rows] = np.where(leaps, 0, level[:, 0] + 1)
        return ended, leaps

    def _romberg(self, rows: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write the next row of each table; return its best entry and how well that is known."""
        level, last = self.level[rows][:, None], self.last[rows]
        new, error = np.full_like(last, np.nan), np.full_like(last, np.inf)
        new[:, 0] = value
        for j in range(1, COLUMNS):
            is_known = level >= j
            step = (new[:, j - 1] - last[:, j - 1]) / (RATIO ** (self.power * j) - 1.0)
            entry = new[:, j - 1] + step
            apart = np.maximum(np.abs(step), np.abs(entry - last[:, j - 1]))
            new[:, j] = np.where(is_known, entry, np.nan)
            error[:, j] = np.where(is_known & np.isfinite(apart), apart, np.inf)
        self.last[rows] = new
        column = np.argmin(error, axis=1)[:, None]
        best, apart = (np.take_along_axis(a, column, axis=1)[:, 0] for a in (new, error))
        return best, apart

    def _limit_of_power(
        self, rows: np.ndarray, value: np.ndarray, before: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the limit of ``a + b h**p`` (Aitken), if D is that for a p of no smooth f."""
        rise = value - before
        shrinking = np.abs(rise) / self.change[rows]
        slow = shrinking > SLOW * RATIO**-self.power
        is_even = slow & (np.abs(shrinking - self.shrinking[rows]) < EVEN * shrinking)
        limit = value + rise * shrinking / (1.0 - shrinking)
        apart = np.abs(limit - self.limit[rows])
        self.shrinking[rows], self.limit[rows] = shrinking, limit
        is_known = is_even & (self.level[rows][:, None] > 2) & np.isfinite(apart)  # noqa: PLR2004
        return limit, np.where(is_known, apart, np.inf)
