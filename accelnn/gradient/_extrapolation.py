"""Richardson's extrapolation of differences, for each coordinate and value as far as it pays.

D(h) differs from the derivative by a series in h², of which each smaller step lets one more term be
removed. Steps become smaller until rounding outweighs what is left of the series. On one side of a
bound the series is in h.

A table is believed only where D settles: where its changes shrink, or are rounding. Where they do
not, f is not smooth on the scale of the step, and the next one is much smaller. Each value of f has
a table of its own, and the steps of its coordinate in common with the others.

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
# So many differences in a row that are not finite: f is not defined on one side.
MOST_OUTSIDE = 8
# A change of D that is more than this part of the change before it does not settle.
SETTLING = 0.75
# Two differences of which one is less than this part of the other are unlike: they may tend to 0,
# as those of x³ there, or be those of a wave; then the next column of the table must settle too.
ALIKE = 0.5
STEADY = 0.25
# Or their changes shrink so fast that the power of the step is a high one, as of x⁵.
FAST = 0.25
# How much smaller the next step is where D, of a first derivative, does not settle.
LEAP = 4.0
# Changes of so many units of rounding are rounding.
ROUNDING = 4.0
# How many times the smallest error so far ends the search, if no more than so many times the noise:
# rounding has taken over.
WORSE = 4.0
DROWNED = 30.0
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
    """Derivatives along n coordinates, of shape (n, q), an estimate of their errors, and steps.

    The error is infinite where nothing has settled; the value is then the last difference. `rest`
    is by how much the last difference differs from the value.
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
        Whether the error of a difference is a series in h or in h².
    order : int
        Which derivative. Rounding of a higher one grows so fast that no step may be missed.
    position : numpy.ndarray of shape (n,)
        x. Where f is not finite at the first steps, they may have crossed zero.
    least : numpy.ndarray of shape (n,)
        No step is smaller.
    advance : callable
        Called with the number of coordinates that have come to their end.
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
    """The last row of each table, and the best entry of each so far."""

    def __init__(self, rows: int, outputs: int, power: int) -> None:
        self.power = power
        shape = (rows, outputs)
        # How many differences came before, since the last that did not settle.
        self.level = np.zeros(shape, int)
        self.is_done = np.zeros(shape, bool)
        self.last = np.full((rows, COLUMNS, outputs), np.nan)
        # The steps of the differences before, the latest first.
        self.steps = np.full((rows, COLUMNS), np.nan)
        self.change, self.shrinking, self.limit, self.best = np.full((4, *shape), np.nan)
        self.error = np.full(shape, np.inf)

    def add(
        self, rows: np.ndarray, h: np.ndarray, found: Estimate
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add a difference to some tables; return which have ended, and which must leap."""
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
        # What became worse with no rounding to blame had settled by accident.
        lost = (level > 1) & is_finite & (~settles | worse & ~rounded)
        self.error[rows] = np.where(lost & ~has_result, np.inf, self.error[rows])
        self.change[rows] = change
        self.steps[rows, 1:], self.steps[rows, 0] = self.steps[rows, :-1], h
        self.is_done[rows] |= rounded | (lost & has_result)
        done = self.is_done[rows]
        leaps = ((lost & ~has_result) | ~is_finite) & ~done
        self.level[rows] = np.where(leaps, 0, level + 1)
        # What is unlike may settle, but not soon.
        leaps |= (level == 1) & unlike & ~done
        return done.all(axis=1), leaps.any(axis=1)

    def _romberg(
        self, rows: np.ndarray, h: np.ndarray, value: np.ndarray, level: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Write the next row of each table.

        Returns
        -------
        tuple of three arrays
            Its best entry, how well that is known, and its second entry.
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
        # What is done keeps the row from which it was made.
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
        """Return the limit of ``a + b h**p`` (Aitken), if D is that for a p of no smooth f."""
        rise = value - before
        shrinking = np.abs(rise) / self.change[rows]
        slow = shrinking > SLOW * RATIO**-self.power
        is_even = slow & (np.abs(shrinking - self.shrinking[rows]) < EVEN * shrinking)
        # Another value of f may have asked for a leap in between.
        steps = np.stack([h, self.steps[rows, 0], self.steps[rows, 1]])
        is_even &= np.isclose(steps[1] / steps[0], steps[2] / steps[1])[:, None]
        limit = value + rise * shrinking / (1.0 - shrinking)
        apart = np.abs(limit - self.limit[rows])
        self.shrinking[rows], self.limit[rows] = shrinking, limit
        is_known = is_even & (level > 2) & np.isfinite(apart)  # noqa: PLR2004
        return limit, np.where(is_known, apart, np.inf)
