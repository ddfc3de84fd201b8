"""Adaptive Richardson extrapolation of differences, for each coordinate and value of f.

The error of a central difference D(h) is a series in h², of a one-sided one a series in h; each
smaller step lets one more term be eliminated. Steps shrink until rounding outweighs the rest of the
series.

A table is trusted only where D converges: where its changes shrink, or are rounding. Elsewhere f is
not smooth on the scale of the step, and the next step is much smaller. Each value of f has its own
table; all values of a coordinate share its steps.

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

# Ratio of consecutive steps. Not 2: at steps that are multiples of each other, D of an oscillation
# may converge to a wrong value, and smaller steps lose more to rounding.
RATIO = 1.6
# Columns of the table, and the largest number of differences for one coordinate.
COLUMNS = 8
MOST_LEVELS = 22
# After so many consecutive differences that are not finite, f is undefined on one side.
MOST_OUTSIDE = 8
# D does not converge where a change is more than this part of the one before.
SETTLING = 0.75
# Two differences of which one is less than this part of the other may tend to 0, as for x³ at 0, or
# belong to an oscillation: the next column of the table must then converge too.
ALIKE = 0.5
STEADY = 0.25
# Unless their changes shrink as fast as for a high power, such as x⁵.
FAST = 0.25
# Ratio of steps where D, of a first derivative, does not converge.
LEAP = 4.0
# Changes up to so many times the rounding error are rounding.
ROUNDING = 4.0
# How many times the smallest error so far ends the search, if no more than so many times the noise:
# rounding has taken over.
WORSE = 4.0
DROWNED = 30.0
# A result that is known to this part is kept where D no longer settles.
ENOUGH = 1e-6
# Safety factor of the estimated truncation error; rounding of an entry of the table, in units of
# that of its last difference.
SAFETY = 2.0
AMPLIFICATION = 2.0
# Changes that shrink by a constant ratio, to this part, which is so many times that of a smooth f,
# are those of |h|^p.
SLOW = 1.15
EVEN = 0.05


class Estimate(NamedTuple):
    """Differences D(h) along some coordinates, of shape (k, q), and the noise of each."""

    value: np.ndarray
    noise: np.ndarray


class Extrapolation(NamedTuple):
    """Derivatives along n coordinates, of shape (n, q), with estimated errors and last steps.

    Where nothing converged the error is infinite and the value the last difference. `rest` is the
    distance of the last difference from the value.
    """

    value: np.ndarray
    error: np.ndarray
    step: np.ndarray
    rest: np.ndarray


def extrapolate(
    difference: Callable[[np.ndarray, np.ndarray], Estimate],
    first: np.ndarray,
    *,
    power: int,
    order: int,
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
        1 if the error of a difference is a series in h, 2 if in h².
    order : int
        Order of the derivative. Rounding grows so fast in higher ones that no step may be skipped.
    position : numpy.ndarray of shape (n,)
        x. First steps at which f is not finite may have crossed zero.
    least : numpy.ndarray of shape (n,)
        The smallest step.
    advance : callable
        Called with the number of coordinates that are done.
    """
    h, taken, outside = first.copy(), first.copy(), np.zeros(len(first), int)
    active = np.arange(len(h))
    table: _Tables | None = None
    leap = max(RATIO, LEAP ** (1.0 / order))
    for _ in range(order * MOST_LEVELS):
        found = difference(active, h[active])
        table = table or _Tables(len(h), found.value.shape[1], power)
        taken[active] = h[active]
        is_finite = np.isfinite(found.value)
        ended, leaps = table.add(active, h[active], found)
        outside[active] = np.where(is_finite.any(axis=1), 0, outside[active] + 1)
        h[active] /= np.where(leaps, leap, RATIO)
        crosses = ~is_finite.all(axis=1) & (position[active] != 0.0)
        within = np.where(crosses, 0.5 * np.abs(position[active]), np.inf)
        h[active] = np.minimum(h[active], within)
        ended |= (h[active] < least[active]) | (outside[active] > MOST_OUTSIDE)
        advance(int(ended.sum()))
        active = active[~ended]
        if active.size == 0:
            break
    advance(active.size)
    assert table is not None  # noqa: S101 - the loop has run
    last = table.last[:, 0]
    value = np.where(np.isnan(table.best), last, table.best)
    with np.errstate(invalid="ignore"):
        return Extrapolation(value, table.error, taken, np.abs(last - value))


class _Tables:
    """The last row and the best entry so far of each table."""

    def __init__(self, rows: int, outputs: int, power: int) -> None:
        self.power = power
        shape = (rows, outputs)
        # Number of earlier differences since the last that did not converge.
        self.level = np.zeros(shape, int)
        self.is_done = np.zeros(shape, bool)
        self.last = np.full((rows, COLUMNS, outputs), np.nan)
        # The steps of earlier differences, the latest first.
        self.steps = np.full((rows, COLUMNS), np.nan)
        self.change, self.shrinking, self.limit, self.best = np.full((4, *shape), np.nan)
        self.error = np.full(shape, np.inf)

    def add(
        self, rows: np.ndarray, h: np.ndarray, found: Estimate
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add a difference to some tables; return which are done, and which skip steps."""
        level, noise = self.level[rows], AMPLIFICATION * found.noise
        is_finite = np.isfinite(found.value)
        with np.errstate(all="ignore"):
            before, before_that = self.last[rows, 0], self.last[rows, 1]
            change = np.abs(found.value - before)
            is_rounding = change <= ROUNDING * noise
            larger = np.maximum(np.abs(found.value), np.abs(before))
            unlike = (change > ALIKE * larger) & ~is_rounding

            entry, apart, second = self._romberg(rows, h, found.value, level)
            steady = np.abs(second - before_that) <= STEADY * change
            fast = change < FAST * self.change[rows]
            settles = (change < SETTLING * self.change[rows]) & (~unlike | steady | fast)
            settles |= is_rounding
            limit, apart_too = self._limit_of_power(rows, h, found.value, before, level)
            is_power = apart_too < apart
            entry, apart = np.where(is_power, limit, entry), np.where(is_power, apart_too, apart)
            total = SAFETY * apart + noise

            is_believed = (level > 1) & settles & is_finite & ~self.is_done[rows]
            is_better = is_believed & (total < self.error[rows])
            self.best[rows] = np.where(is_better, entry, self.best[rows])
            self.error[rows] = np.where(is_better, total, self.error[rows])
            worse = is_believed & (total > WORSE * self.error[rows])
            rounded = is_believed & (apart <= noise) | worse & (total < DROWNED * noise)
            has_result = self.error[rows] <= ENOUGH * np.abs(self.best[rows])
        # What got worse not because of rounding had converged by chance.
        lost = (level > 1) & is_finite & (~settles | worse & ~rounded)
        self.error[rows] = np.where(lost & ~has_result, np.inf, self.error[rows])
        self.change[rows] = change
        self.steps[rows, 1:], self.steps[rows, 0] = self.steps[rows, :-1], h
        self.is_done[rows] |= rounded | (lost & has_result)
        done = self.is_done[rows]
        leaps = ((lost & ~has_result) | ~is_finite) & ~done
        self.level[rows] = np.where(leaps, 0, level + 1)
        # Dissimilar differences converge late, if at all.
        leaps |= (level == 1) & unlike & ~done
        return done.all(axis=1), leaps.any(axis=1)

    def _romberg(
        self, rows: np.ndarray, h: np.ndarray, value: np.ndarray, level: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the next row of each table.

        Returns
        -------
        tuple of three arrays
            Its best entry, the estimated error of that, and its second entry.
        """
        last = self.last[rows]
        new, error = np.full_like(last, np.nan), np.full_like(last, np.inf)
        new[:, 0] = value
        for j in range(1, COLUMNS):
            ratio = (self.steps[rows, j - 1] / h)[:, None] ** self.power
            step = (new[:, j - 1] - last[:, j - 1]) / (ratio - 1.0)
            entry = new[:, j - 1] + step
            apart = np.maximum(np.abs(step), np.abs(entry - last[:, j - 1]))
            is_known = level >= j
            new[:, j] = np.where(is_known, entry, np.nan)
            error[:, j] = np.where(is_known & np.isfinite(apart), apart, np.inf)
        # A finished table keeps the row that its result came from.
        self.last[rows] = np.where(self.is_done[rows][:, None], last, new)
        column = np.argmin(error, axis=1)[:, None]
        best, apart = (np.take_along_axis(a, column, axis=1)[:, 0] for a in (new, error))
        return best, apart, new[:, 1]

    def _limit_of_power(
        self,
        rows: np.ndarray,
        h: np.ndarray,
        value: np.ndarray,
        before: np.ndarray,
        level: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the Aitken limit, if D is ``a + b h**p`` with a p that no smooth f has."""
        rise = value - before
        shrinking = np.abs(rise) / self.change[rows]
        slow = shrinking > SLOW * RATIO**-self.power
        is_even = slow & (np.abs(shrinking - self.shrinking[rows]) < EVEN * shrinking)
        # Another value of f may have needed a far smaller step in between.
        steps = np.stack([h, self.steps[rows, 0], self.steps[rows, 1]])
        is_even &= np.isclose(steps[1] / steps[0], steps[2] / steps[1])[:, None]
        limit = value + rise * shrinking / (1.0 - shrinking)
        apart = np.abs(limit - self.limit[rows])
        self.shrinking[rows], self.limit[rows] = shrinking, limit
        is_known = is_even & (level > 2) & np.isfinite(apart)  # noqa: PLR2004
        return limit, np.where(is_known, apart, np.inf)
