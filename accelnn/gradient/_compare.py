"""Comparison of a gradient with differences along single moves, as closely as rounding allows.

For most moves one central difference suffices: it agrees, and its noise is small. For the others,
differences are taken at step sizes from the size of x down to where rounding dominates. The error
of each is bounded by its noise, by how far it lies from those at smaller steps, and at a kink by
the slopes on the two sides. A gradient inside the interval of the best known difference is right,
one far outside the interval of any difference is wrong, and anything else is inconclusive.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn._cached import cached_property
from accelnn.gradient._convergence import (
    HIDDEN,
    SEEN,
    Comparison,
    Differences,
    changes,
    closest,
    drowned,
    jitter_of,
    length_of,
    lengths_of,
    merged,
    openings,
    scatter,
)
from accelnn.gradient._problem import Problem
from accelnn.gradient._steps import FIRST_STEP, sizes_beside, symmetric_points

__all__ = ["Comparer", "Place"]

# Rounding of a difference of two values of f, in units in the last place.
NOISE_ULPS = 8.0
# Bound on the noise of a difference, in measured standard deviations of f: four times √2.
NOISE_SPREADS = 6.0
# Rounding of x inside f, in units in the last place.
BEND_ULPS = 8.0
# Noise of more than so many times the rounding of f's dtype is that of a less precise one.
COARSE = 100.0
# The default rtol is so many times √eps, with a limit for half precision, in which 1 % would pass
# otherwise.
ROOTS, LARGEST_RTOL = 10.0, 5e-3
# A move of so many units in the last place still has the requested direction after rounding.
SHORTEST_MOVE_ULPS = 64.0
# At most so many halvings of the usual step; if x is too small for them to reach its size, so many
# are taken at the start and the rest around it. They are evaluated in blocks.
MOST_HALVINGS, FIRST_HALVINGS, BLOCK = 64, 8, 8
# To prove an error, the interval of a difference is widened by this factor, because terms that
# vanish as slowly as √h may hide in it.
PROOF = 4.0
# Rounding of a gradient, in units in the last place of its largest terms, which may cancel at x;
# and its limit relative to rtol.
ROUNDING_ULPS, ROUNDING_PART = 256.0, 0.01
# Derivatives that agree this well are no rounding noise of larger terms.
SLIGHT = 0.03
# The error of an infinite derivative.
LARGE = 1e150
# Slopes within this part of x tell how well a derivative close to 0 can be known.
NEAR = 0.25


class Place(NamedTuple):
    """A move along which to compare: of one coordinate, or of many together.

    Attributes
    ----------
    columns : numpy.ndarray of shape (c,)
        The coordinates that move.
    move : numpy.ndarray of shape (c,)
        By how much, at the usual step.
    """

    columns: np.ndarray
    move: np.ndarray

    def times(self, factor: float) -> Place:
        """Return the place with its move scaled."""
        return Place(self.columns, factor * self.move)


class Comparer:
    """Compares analytic and numerical derivatives along moves.

    Parameters
    ----------
    problem : Problem
        f at x.
    gradient : numpy.ndarray of shape (q, n)
        The gradient, or Jacobian, to compare.
    epsilon : float
        The largest machine epsilon of x, f and the gradient.
    rtol, atol : float or None
        The caller's tolerances.
    step : float or None
        The caller's step in units of the size of x.
    """

    def __init__(
        self,
        problem: Problem,
        gradient: np.ndarray,
        epsilon: float,
        rtol: float | None,
        atol: float | None,
        step: float | None,
    ) -> None:
        self.problem, self.gradient = problem, gradient
        self.x, self.base = problem.x, problem.lines.base
        self.resolution = float(np.finfo(problem.lines.dtype).eps)
        self.given_rtol, self.atol, self.given_step = rtol, atol or 0.0, step
        self.rounding = epsilon
        self.trust_f()

    def coordinate(self, column: int) -> Place:
        """Return the move of one coordinate."""
        step = self.step * max(1.0, float(abs(self.x[column])))
        return Place(np.array([column]), np.array([step]))

    def direction(self, flat: np.ndarray, draw: np.random.Generator) -> Place:
        """Return a random move of these coordinates, each in proportion to its size.

        Coordinates close to 0 move by as much as if they were of typical size.
        """
        size = np.maximum(np.abs(self.x[flat]), 1.0 / math.sqrt(self.x.size))
        return Place(flat, self.step * size * draw.standard_normal(flat.size))

    def compare(self, places: Sequence[Place]) -> list[Comparison]:
        """Compare with one central difference each; all places move the same number."""
        if not places:
            return []
        found = self._differences(
            np.stack([place.columns for place in places]),
            np.stack([place.move for place in places]),
            None,
        )
        tolerance = self._allowed(found.analytic, found.numerical) + found.noise
        parts = zip(found.analytic, found.numerical, tolerance, found.noise, strict=True)
        return [Comparison(*part) for part in parts]

    def _allowed(self, analytic: np.ndarray, numerical: np.ndarray) -> np.ndarray:
        allowed: np.ndarray = self.atol + self.rtol * np.maximum(
            np.abs(analytic), np.abs(numerical)
        )
        return allowed

    def _differences(
        self, columns: np.ndarray, moves: np.ndarray, spread: np.ndarray | None
    ) -> Differences:
        """Take differences over moves of some columns, each of shape (k, c).

        `spread` is the standard deviation of the noise of f, where that was measured.
        """
        rounded = functools.partial(self.problem.argument.rounded, columns=columns)
        with np.errstate(all="ignore"):
            upper, lower = symmetric_points(self.x[columns], moves, rounded)
            moved = np.stack([upper, lower], axis=1)
            # Points outside the domain of f, and infinite gradients, show in the values.
            values = self.problem.evaluator(columns, moved)
            width = upper.astype(self.x.dtype) - lower
            length = lengths_of(width)
            above, below = values[:, 0], values[:, 1]
            # Normalised first, so that nothing overflows where x is huge.
            width = width / length
            # Without coordinates that do not move, because 0 * inf is NaN.
            analytic = np.stack(
                [
                    self.gradient[:, flat[w != 0.0]] @ w[w != 0.0]
                    for flat, w in zip(columns, width, strict=True)
                ]
            )
            left, right = (2.0 * d / length for d in (self.base - below, above - self.base))
            is_above, is_below = np.isfinite(above), np.isfinite(below)
            on_one = np.where(is_above, right, left)
            at_edge = is_above != is_below
            numerical = np.where(at_edge, on_one, (above - below) / length)
            sizes = [np.where(np.isfinite(v), np.abs(v), 0.0) for v in (above, below)]
            unit = self.epsilon * np.maximum(*sizes)
            unit = np.where(at_edge, 2.0 * np.maximum(unit, self.epsilon * np.abs(self.base)), unit)
            noise = NOISE_ULPS * unit
            if spread is not None:
                noise = np.where(spread > 0.0, np.maximum(unit, NOISE_SPREADS * spread), noise)
            # Rounding of x inside f changes its values, and where f is curved its slopes.
            bend = BEND_ULPS * np.abs(right - left)
            inside = np.where(np.isfinite(bend), bend, 0.0) + np.abs(numerical)
            noise += self.epsilon * lengths_of(self.x[columns]) * inside
            return Differences(length, analytic, numerical, noise / length, left, right)

    def settle(self, place: Place, norm: float, *, is_noisy: bool = False) -> Comparison:
        """Compare along one move with differences at many step sizes.

        `norm` is the typical size of the gradient's derivative along such a move; `is_noisy` says
        that noise dominates at the usual step, so that longer ones are taken first.
        """
        if not self.spread.any():
            return self._settled(place, norm, None, is_noisy=is_noisy)[0]
        # Measured noise may be no noise, but the behaviour of f near the edge of its domain.
        measured, step = self.epsilon, self.step
        self.trust_f()
        usual = place.times(self.step / step)
        found, seen = self._settled(usual, norm, None, is_noisy=False)
        self._set_epsilon(measured)
        if found.severity <= 1.0 and not found.is_unknown:
            return found
        noisy, _ = self._settled(place, norm, self.spread, is_noisy=is_noisy)
        # Noise that f has elsewhere is no excuse for a gradient that is wrong without it, nor for
        # one that is not 0 where f is constant.
        jitter = jitter_of(seen, 2.0 * length_of(usual.move))
        is_doubtful = (found.severities > 1.0) | ((jitter == 0.0) & (found.slope > 0.0))
        is_doubtful &= jitter < COARSE
        if noisy.severity <= 1.0 and is_doubtful.any():
            return noisy._replace(is_unknown=True)
        return noisy

    def _settled(
        self, place: Place, norm: float, spread: np.ndarray | None, *, is_noisy: bool
    ) -> tuple[Comparison, Differences]:
        longer = self._longer(place)
        seen = self._at(place, np.ones(1), spread)
        if is_noisy and longer.size:
            seen = merged(seen, self._at(place, longer, spread))
            found = self._judged(seen, place, norm)
            # Where x is 0 its scale is unknown, and shorter steps are needed in any case.
            if not found.is_unknown and self._near(place) > 0.0:
                return found, seen
        for fractions in self._shorter(place):
            seen = merged(seen, self._at(place, fractions, spread))
            if (end := drowned(seen)) < len(seen.length):
                seen = Differences(*(array[:end] for array in seen))
                break
        found = self._judged(seen, place, norm)
        # Only long steps show the size of the terms of which a gradient near 0 may be the rounding.
        if (found.is_unknown or found.severity > 1.0) and longer.size and not is_noisy:
            seen = merged(seen, self._at(place, longer, spread))
            found = self._judged(seen, place, norm)
        return found, seen

    def _near(self, place: Place) -> float:
        """Return how many usual steps are within `NEAR` of x; 0 where all of x is 0.

        Coordinates that are 0 count as if they were of the size of the smallest other.
        """
        moves = place.move != 0.0
        sizes, size = np.abs(self.x), np.abs(self.x[place.columns][moves])
        least = float(sizes.min(initial=np.inf, where=sizes > 0.0))
        times = NEAR * np.where(size > 0.0, size, least) / np.abs(place.move[moves])
        return float(times.min()) if times.size and math.isfinite(least) else 0.0

    def _longer(self, place: Place) -> np.ndarray:
        """Return factors of longer steps, up to the size of x."""
        times = max(1.0, FIRST_STEP / self.step, self._near(place))
        return 2.0 ** np.arange(1, 1 + math.floor(math.log2(times)))

    def _shorter(self, place: Place) -> list[np.ndarray]:
        """Return factors of shorter steps, in blocks."""
        size = length_of(self.x[place.columns][place.move != 0.0])
        length = length_of(place.move)
        if not 0.0 < length < math.inf:
            return []
        least = SHORTEST_MOVE_ULPS * self.resolution * size / length
        count = MOST_HALVINGS if least == 0.0 else max(0, math.floor(-math.log2(least)))
        fractions = 0.5 ** np.arange(1, count + 1)
        if count > MOST_HALVINGS:
            # Those in between are close neither to the usual step nor to the size of x.
            rest = MOST_HALVINGS - FIRST_HALVINGS
            fractions = np.concatenate([fractions[:FIRST_HALVINGS], fractions[-rest:]])
        return [fractions[i : i + BLOCK] for i in range(0, fractions.size, BLOCK)]

    def _at(self, place: Place, fractions: np.ndarray, spread: np.ndarray | None) -> Differences:
        columns = np.broadcast_to(place.columns, (fractions.size, place.columns.size))
        return self._differences(columns, fractions[:, None] * place.move, spread)

    def _with_noise(self, seen: Differences, place: Place) -> tuple[Differences, np.ndarray]:
        """Return the differences with the noise they reveal, and whether f is constant."""
        usual, moved = 2.0 * length_of(place.move), np.abs(seen.left) + np.abs(seen.right)
        is_still, is_short = moved == 0.0, seen.length < 0.75 * usual
        # Noise that was measured near x does not apply to a move on which f does not depend.
        is_flat = is_still.all(axis=0) & (seen.length[0] > 1.5 * usual)
        unit = NOISE_ULPS * self.rounding * np.abs(self.base)
        noise = np.where(is_flat, unit, seen.noise * seen.length)
        # Where f is constant at short steps only, its values are quantised.
        is_coarse = (is_still & is_short).any(axis=0) & ~(is_still & ~is_short).any(axis=0)
        quantum = np.where(is_still, np.inf, moved * seen.length).min(axis=0)
        noise = np.where(is_coarse & is_still, np.fmax(noise, quantum), noise)
        # Differences that scatter at many short steps, the shortest among them, reveal noise of f.
        part = seen.length / length_of(self.x[place.columns])
        noise = np.fmax(noise, scatter(seen, part <= self.step, part <= self.resolution ** (2 / 3)))
        return seen._replace(noise=noise / seen.length), is_flat

    def _judged(self, seen: Differences, place: Place, norm: float) -> Comparison:
        """Judge the gradient by differences at many step sizes, the longest first."""
        with np.errstate(all="ignore"):
            seen, is_flat = self._with_noise(seen, place)
            outputs = np.arange(seen.off.shape[1])
            step, drift = changes(seen.off, seen.noise)
            interval = seen.noise + step + drift
            opening, kink = openings(seen, drift)
            is_near = seen.length <= 2.0 * self._near(place) * length_of(place.move)
            # Slopes that grow towards the edge of a domain say nothing about those at x.
            sides = np.maximum(np.abs(seen.left), np.abs(seen.right))
            # A one-sided slope is twice as noisy as a central difference.
            sides = np.where(np.isfinite(sides) & (sides > 2.0 * SEEN * seen.noise), sides, 0.0)
            steepest = np.where(is_near, sides, 0.0).max(axis=0)
            ulps = min(ROUNDING_ULPS * self.epsilon, ROUNDING_PART * self.usual_rtol)
            rounding = ulps * steepest

            limit, excess = self._excess(seen, interval, opening + PROOF**2 * rounding, norm)
            if self._near(place) > 0.0:
                # Near the edge of a domain, steps longer than x say nothing about x.
                has_end = ~np.isfinite(seen.left + seen.right)
                excess = np.where(has_end & ~is_near, np.nan, excess)
            worst = np.argmax(np.where(np.isnan(excess), -1.0, excess), axis=0), outputs
            # No derivative exists where f is finite at x alone.
            is_alone = ~np.isfinite(seen.off).any(axis=0) & (place.columns.size == 1)
            is_wrong = (excess[worst] > 1.0) | is_alone

            off, noise, interval, step, row = closest(seen, interval, step)
            analytic = seen.analytic[row, outputs]
            numerical = np.where(np.isfinite(analytic), analytic, 0.0) + off
            slope = np.fmax(np.abs(analytic), np.abs(numerical))
            is_rounding = PROOF * interval <= self.usual_rtol * steepest
            # The scale of a coordinate that is 0 is a guess: slopes far from it can make a result
            # inconclusive, but not right.
            is_guess = not self.x[place.columns[place.move != 0.0]].all()
            unsure = 0.0 if is_guess else rounding
            unsure += np.where(is_rounding & (not is_guess), PROOF * interval, noise + step)
            tolerance = self._allowed(analytic, numerical) + unsure + kink
            is_tiny = slope <= PROOF * interval + rounding
            farther = steepest if is_near.any() else sides.max(axis=0)
            scale = np.fmax(np.where(is_tiny, farther, slope), norm)
            is_right = (np.abs(off) <= tolerance) & (interval + unsure <= HIDDEN * scale)
            is_right &= np.isfinite(analytic)
            # Two values that are both rounding noise do not agree this well by chance.
            is_slight = (PROOF * interval < np.abs(off)) & (np.abs(off) <= SLIGHT * slope)
            is_right &= ~is_slight | (np.abs(off) <= self._allowed(analytic, numerical))
            is_right |= is_flat & (analytic == 0.0)

            is_wrong &= ~is_right
            if self.epsilon > self.rounding:
                # Measured noise may be the behaviour of f near the edge of its domain.
                is_wrong &= np.isfinite(seen.left + seen.right).any(axis=0)
            unproven = np.where(is_right, tolerance, np.fmax(tolerance, np.abs(off)))
            return Comparison(
                np.where(is_wrong, seen.analytic[worst], analytic),
                np.where(is_wrong, seen.numerical[worst], numerical),
                np.where(is_wrong, limit[worst], unproven),
                np.where(is_wrong, seen.noise[worst], noise),
                is_unknown=not is_wrong.any() and not is_right.all(),
            )

    def _excess(
        self, seen: Differences, interval: np.ndarray, open_by: np.ndarray, norm: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the error bound of each difference, and the deviation in units of it.

        More than 1 proves an error. `open_by` is the uncertainty beyond the intervals.
        """
        is_finite = np.isfinite(seen.analytic)
        error = np.where(is_finite, np.abs(seen.off), LARGE)
        limit = self._allowed(np.where(is_finite, seen.analytic, 0.0), seen.numerical)
        # At the edge of a domain, as of a root, slopes converge late.
        one_sided = ~np.isfinite(seen.left + seen.right)
        limit += np.where(one_sided, PROOF**2, PROOF) * interval + open_by
        # A value that is constant and 0 to rounding may have been rounded as a sum of numbers near
        # 1, like the loss of a saturated softmax.
        is_still = (seen.left == 0.0) & (seen.right == 0.0)
        is_nothing = is_still & (np.abs(self.base) <= COARSE * self.epsilon)
        limit += np.where(is_nothing, NOISE_ULPS * self.epsilon / seen.length, 0.0)
        # An infinite derivative is wrong wherever a difference is known at all.
        known = limit <= np.fmax(norm, 0.5 * np.fmax.reduce(np.abs(seen.numerical)))
        return limit, np.where(is_finite | known, error / limit, np.nan)

    @cached_property
    def spread(self) -> np.ndarray:
        """The measured standard deviation of the noise of f."""
        with np.errstate(all="ignore"):
            return self.problem.lines.noise(None, insist=True)

    def trust_f(self) -> None:
        """Assume that f has no noise but the rounding of its dtype."""
        self._set_epsilon(self.rounding)

    def adapt_to_noise(self) -> bool:
        """Take longer steps if f is computed less precisely than its values are stored."""
        with np.errstate(all="ignore"):
            # f may be 0 at x alone, because its terms cancel there.
            terms = np.sum(np.abs(self.x * self.gradient), axis=1)
            move = NEAR * sizes_beside(self.x)
            beside = self.problem.argument.rounded(np.stack([self.x - move, self.x + move]))
            values = self.problem.evaluator(np.arange(self.x.size)[None], beside[None])[0]
            size = np.fmax(np.fmax(np.abs(self.base), terms), np.abs(values).min(axis=0))
            seen = float(np.max(np.where(size > 0.0, self.spread / size, 0.0), initial=0.0))
        if not COARSE * self.epsilon < seen < 1.0:
            return False
        self._set_epsilon(seen)
        return True

    def _set_epsilon(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.step = epsilon ** (1 / 3) if self.given_step is None else self.given_step
        self.usual_rtol = min(ROOTS * math.sqrt(epsilon), LARGEST_RTOL)
        self.rtol = self.usual_rtol if self.given_rtol is None else self.given_rtol
