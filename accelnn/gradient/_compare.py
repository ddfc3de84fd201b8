"""Comparing a gradient with differences at single places, as closely as rounding allows."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn.gradient._differentiate import differentiate
from accelnn.gradient._methods import METHODS
from accelnn.gradient._problem import Problem
from accelnn.gradient._result import Flag
from accelnn.gradient._steps import FIRST_STEP, symmetric_points

__all__ = ["Comparer", "Comparison", "Place"]

# A value of f is good to a few units in the last place, and two of them enter a difference.
NOISE_ULPS = 8.0
# Where the noise of f was measured, its standard deviation times √2 for a difference, four times.
NOISE_SPREADS = 6.0
# So many times the rounding of its dtype, the noise of f is that of a less precise one.
COARSE = 100.0
# Noise that is this part of an error may not double.
DROWNING = 0.1
# A difference that agrees at smaller steps has become smaller by this factor, and one that is
# truncation becomes so much smaller with each halving, at least.
SHRUNK, SETTLING, SHRINKING = 0.5, 0.75, 4
# Of the smallest steps, the ones that tell a kink, and how far above noise it must be.
LAST_STEPS = 3
KINK, KINK_NOISE = 0.6, 30.0
# A move this many units in the last place long still has the direction that was asked for.
SHORTEST_MOVE_ULPS = 64.0
# Enough to get from the first step to the shortest move, but where x is 0 and nothing rounds.
MOST_HALVINGS = 60
# By default a relative difference of so many roots of machine epsilon counts as agreement, and in
# half precision no more than this, so that an error of a hundredth does not.
ROOTS, LARGEST_RTOL = 10.0, 5e-3
# What may hide in the tolerance of a comparison, in relation to the slope there.
HIDDEN = 0.01
# Where one side is closer to the analytic slope than this part of the error, there may be a kink.
LEANING = 0.5
# Steps are as short as it takes where noise is no more than this part of the error.
NEAR = 0.02
# A slope of so many noise floors may be none.
IN_NOISE = 4.0
# A difference extrapolated from long steps that is so many tolerances off proves an error.
CERTAIN = 1.5
# A gradient is good to so many units in the last place of its terms; differences of so many of the
# smallest steps tell that they are nothing but rounding.
ROUNDING_ULPS, SCATTERED = 16.0, 6
# And in the last place of x, times the curvature of f.
BEND_ULPS = 8.0


class Place(NamedTuple):
    """Where to compare: along one coordinate, or along a move of many.

    Attributes
    ----------
    columns : numpy.ndarray of shape (c,)
        What moves.
    move : numpy.ndarray of shape (c,)
        By how much, at the usual step.
    """

    columns: np.ndarray
    move: np.ndarray


class Comparison(NamedTuple):
    """Derivatives of q values at one place, and how far apart they may be; arrays of shape (q,).

    `left` and `right` are the slopes on the two sides of x; `at_edge` says where f is finite on one
    of them only, whose slope is then the numerical one. `is_unknown` says that no step told.
    """

    analytic: np.ndarray
    numerical: np.ndarray
    tolerance: np.ndarray
    noise_floor: np.ndarray
    left: np.ndarray
    right: np.ndarray
    at_edge: np.ndarray
    is_unknown: bool = False

    @property
    def error(self) -> np.ndarray:
        """Their absolute differences."""
        with np.errstate(invalid="ignore"):
            found: np.ndarray = np.abs(self.analytic - self.numerical)
        return found

    @property
    def severities(self) -> np.ndarray:
        """How many tolerances off; what is not finite on either side is the worst."""
        error = self.error
        with np.errstate(all="ignore"):
            ratio = np.where(error == 0.0, 0.0, error / self.tolerance)
        found: np.ndarray = np.where(np.isfinite(error), ratio, np.inf)
        return found

    @property
    def severity(self) -> float:
        """The worst of them."""
        return float(self.severities.max())

    @property
    def slope(self) -> np.ndarray:
        """The larger of the two derivatives."""
        found: np.ndarray = np.maximum(np.abs(self.analytic), np.abs(self.numerical))
        return found


class Comparer:
    """Compares analytic and numerical change at one place at a time.

    Parameters
    ----------
    problem : Problem
        f at x.
    gradient : numpy.ndarray of shape (q, n)
        What is to be compared.
    epsilon : float
        Machine epsilon of x, f and the gradient.
    rtol, atol : float or None
        What the caller allows.
    step : float or None
        The step in units of the size of x.
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
        self.dtype = problem.lines.dtype
        self.given_rtol, self.atol, self.given_step = rtol, atol or 0.0, step
        self._set_epsilon(epsilon)

    def coordinate(self, column: int) -> Place:
        """Return the place of one coordinate."""
        step = self.step * max(1.0, float(abs(self.x[column])))
        return Place(np.array([column]), np.array([step]))

    def direction(self, flat: np.ndarray, draw: np.random.Generator, *, relative: bool) -> Place:
        """Return a random move of these coordinates, each in proportion to its size.

        What is close to 0 moves like the rest, unless moves are to be relative.
        """
        x = np.abs(self.x[flat])
        least = np.max(x, initial=0.0) if relative else 1.0 / math.sqrt(self.x.size)
        size = np.where(x == 0.0, least, x) if relative else np.maximum(x, least)
        return Place(flat, self.step * size * draw.standard_normal(flat.size))

    def compare(
        self, places: Sequence[Place], fraction: float = 1.0, spread: np.ndarray | None = None
    ) -> list[Comparison]:
        """Compare with one central difference each, over a fraction of the usual step.

        `spread` is the standard deviation of the noise of f, where that was measured. All places
        move as many coordinates.
        """
        if not places:
            return []
        columns = np.stack([place.columns for place in places])
        moves = fraction * np.stack([place.move for place in places])
        rounded = functools.partial(self.problem.argument.rounded, columns=columns)
        with np.errstate(all="ignore"):
            upper, lower = symmetric_points(self.x[columns], moves, rounded)
            moved = np.stack([upper, lower], axis=1)
            # A step may leave the domain of f, and a gradient be infinite: the values show that.
            values = self.problem.start.evaluator(columns, moved)
            widths = upper.astype(self.x.dtype) - lower
            return [
                self._compared(*parts, spread)
                for parts in zip(columns, widths, values[:, 0], values[:, 1], strict=True)
            ]

    def _compared(
        self,
        columns: np.ndarray,
        width: np.ndarray,
        above: np.ndarray,
        below: np.ndarray,
        spread: np.ndarray | None,
    ) -> Comparison:
        # Only coordinates that move count: 0 * inf would be NaN.
        moves = width != 0.0
        length = _length(width)
        # Divided first, so that neither overflows where x is huge.
        analytic = self.gradient[:, columns[moves]] @ (width[moves] / length)
        numerical = (above - below) / length
        left, right = (2.0 * d / length for d in (self.base - below, above - self.base))
        # At the edge of the domain of f there is a slope on one side.
        at_edge = np.isfinite(above) != np.isfinite(below)
        numerical = np.where(at_edge, np.where(np.isfinite(above), right, left), numerical)
        above, below = (np.where(np.isfinite(v), v, self.base) for v in (above, below))
        unit = self.epsilon * np.maximum(np.abs(above), np.abs(below))
        noise = NOISE_ULPS * unit if spread is None else np.maximum(unit, NOISE_SPREADS * spread)
        noise = noise / length
        tolerance = self.rtol * np.maximum(np.abs(analytic), np.abs(numerical)) + noise + self.atol
        # Where f curves, a unit in the last place of x moves both derivatives.
        bend = np.where(at_edge, 0.0, np.abs(right - left)) * _length(self.x[columns]) / length
        tolerance = tolerance + BEND_ULPS * self.epsilon * np.where(np.isfinite(bend), bend, 0.0)
        return Comparison(analytic, numerical, tolerance, noise, left, right, at_edge)

    def look_closer(self, place: Place, first: Comparison) -> Comparison:
        """Return a comparison that agrees at some smaller step, or else one that shows the error.

        A wrong gradient stays wrong however small the step. Truncation does not, nor the error
        from a step out of the domain of f. Truncation may make a wrong gradient agree by accident
        at one step; that passes with the next.
        """
        spread = NOISE_SPREADS * self.spread / (2.0 * _length(place.move))
        noise = np.maximum(first.noise_floor, spread)
        first = first._replace(
            tolerance=first.tolerance + noise - first.noise_floor, noise_floor=noise
        )
        if first.severity <= 1.0:
            return first
        # What noise covers at a small step is still an error: it must have become smaller.
        most = np.where(first.severities > 1.0, SHRUNK * first.error, np.inf)
        most = np.where(np.isnan(most), np.inf, most)
        tried, agrees = self._at_smaller_steps(place, first, most)
        if agrees:
            return tried[-1]
        return self._explained(place, tried)

    def _explained(self, place: Place, tried: list[Comparison]) -> Comparison:
        """Return what explains that no step agrees: a kink, rounding, truncation, or an error."""
        steadiest = _steadiest(tried)
        found = tried[steadiest]
        limit = self.extrapolated(place, found)
        if limit is not None and limit.severity > 1.0 and _differ(limit, found):
            # Between kinks, long steps may settle at a slope that is none near x.
            limit = None
        proves = limit is not None and _proves(limit)
        for first_of in (steadiest, len(tried) - LAST_STEPS):
            few = tried[max(0, first_of) : max(0, first_of) + LAST_STEPS]
            kinked = _between_the_sides(few)
            # Noise parts the sides as well as a kink does.
            is_clear = (kinked.noise_floor == few[-1].noise_floor).all()
            is_last = few[-1] is tried[-1]
            if kinked.severity <= 1.0 and (is_clear or (is_last and not proves)):
                return kinked
        if _scatters(tried):
            # A gradient is rounded like the terms that it is a sum of, which may cancel at x.
            rounding = ROUNDING_ULPS * self.epsilon * self._steepest(place)
            rounded = found._replace(tolerance=found.tolerance + rounding)
            if rounded.severity <= 1.0:
                return rounded
        if limit is not None and limit.severity <= 1.0:
            known = _is_known(limit, DROWNING)
            return (limit if known else found)._replace(is_unknown=not _is_known(limit, HIDDEN))
        change = np.abs(found.numerical - tried[max(steadiest - 1, 0)].numerical)
        moves = bool((np.maximum(change, found.noise_floor) > DROWNING * found.error).any())
        if limit is None and (moves or _shrinks(tried) or found.at_edge.any()):
            # Truncation, which was not gone before noise took over, or slopes on one side, which
            # are no derivative where f is steep there: nothing is proven.
            return found._replace(is_unknown=True)
        if (
            _may_be_kink(found, found.noise_floor)
            and (found.noise_floor > NEAR * found.error).any()
        ):
            # No step is short enough to tell on which side x is.
            return found._replace(is_unknown=True)
        # Along a direction, coordinates at different edges may leave no side.
        no_side = place.columns.size > 1 and not np.isfinite(found.numerical).all()
        return found._replace(is_unknown=no_side)

    def _at_smaller_steps(
        self, place: Place, first: Comparison, most: np.ndarray
    ) -> tuple[list[Comparison], bool]:
        """Return comparisons at ever smaller steps, and whether the last two agree.

        What agrees has an error of `most` at most.
        """
        tried, agreed, fraction = [first], False, 1.0
        for _ in range(MOST_HALVINGS):
            fraction *= 0.5
            outside = tried[-1].at_edge | ~np.isfinite(tried[-1].numerical)
            if outside.any() and place.columns.size == 1:
                # Beyond x it may be that f is not defined.
                reach = float(abs(self.x[place.columns[0]] / place.move[0]))
                fraction = min(fraction, reach or fraction)
            if not np.isfinite(first.analytic).all() or self._too_short(place, fraction):
                break
            (fine,) = self.compare([place], fraction, self.spread)
            tried.append(fine)
            if fine.severity <= 1.0 and (fine.error <= most).all():
                if agreed:
                    return tried, True
                agreed = True
                continue
            agreed = False
            # A still smaller step would drown the error instead of showing where it comes from.
            wrong = fine.severities > 1.0
            if (fine.noise_floor > DROWNING * fine.error)[wrong].all():
                break
        return tried, agreed

    def extrapolated(self, place: Place, found: Comparison) -> Comparison | None:
        """Return a comparison with differences extrapolated from long steps, or None.

        None where f is not smooth enough to have a derivative.
        """
        lines = self.problem.along(place.columns[None], place.move[None] / self.step)
        unit = _length(place.move) / self.step
        if not np.isfinite(found.analytic).all() or unit == 0.0:
            return None
        limit = differentiate(
            lines,
            METHODS["richardson"],
            1,
            np.array([FIRST_STEP]),
            epsilon=self.epsilon,
            noise=self.spread,
        )
        assert limit.error is not None  # noqa: S101 - extrapolations have one
        if limit.flags[0] & ~(Flag.ONE_SIDED | Flag.NOT_FINITE):
            return None
        value, error = limit.value[0] / unit, limit.error[0] / unit
        tolerance = self.rtol * np.maximum(np.abs(found.analytic), np.abs(value)) + error
        return found._replace(numerical=value, tolerance=tolerance + self.atol, noise_floor=error)

    def is_hidden(self, found: Comparison, norm: float | np.ndarray) -> bool:
        """Return whether noise allows for an error as large as a part of the gradient."""
        return bool((found.noise_floor > HIDDEN * np.maximum(found.slope, norm)).any())

    def look_further(self, place: Place, usual: Comparison, norm: float) -> tuple[Comparison, bool]:
        """Take longer steps where noise hides the slope at the usual ones.

        Returns
        -------
        comparison : Comparison
            At the usual step, or with what longer steps show.
        is_clear : bool
            False where noise hides errors of a hundredth of the gradient.
        """
        # A slope that is nothing but noise, as at a minimum, is known as well as those are large
        # that f has further away.
        is_noise = usual.slope <= IN_NOISE * usual.noise_floor
        steepest = np.where(is_noise, np.maximum(norm, self._steepest(place)), norm)
        if ((steepest == 0.0) & (usual.error == 0.0)).all() or not self.is_hidden(usual, steepest):
            return usual, True
        limit = self.extrapolated(place, usual)
        if limit is None:
            return usual, False
        # What long steps see must be hidden by the noise of short ones, and not excluded by them.
        apart = np.abs(limit.numerical - usual.numerical)
        is_excluded = bool((apart > usual.noise_floor).any())
        may_be_kink = is_excluded or _may_be_kink(usual, limit.noise_floor)
        if limit.severity > 2.0 * CERTAIN and not may_be_kink:
            return limit, True
        if limit.severity <= 1.0 and not self.is_hidden(limit, steepest):
            return limit, True
        return usual, False

    def _steepest(self, place: Place) -> np.ndarray:
        """Return the largest slopes between x and points far away."""
        far = [self.compare([place], FIRST_STEP**k / self.step)[0] for k in (1, 3)]
        sides = np.abs([side for c in far for side in (c.left, c.right)])
        largest: np.ndarray = np.where(np.isfinite(sides), sides, 0.0).max(axis=0)
        return largest

    @functools.cached_property
    def spread(self) -> np.ndarray:
        """The standard deviation of the noise of f, as far as its values show it."""
        with np.errstate(all="ignore"):
            return self.problem.lines.noise(None, insist=True)

    def adapt_to_noise(self) -> bool:
        """Take longer steps if f is computed less precisely than its values are stored."""
        # The terms of f may cancel.
        with np.errstate(all="ignore"):
            terms = np.sum(np.abs(self.x * self.gradient), axis=1)
            size = np.maximum(np.abs(self.base), terms)
            seen = float(np.max(np.where(size > 0.0, self.spread / size, 0.0), initial=0.0))
        if not COARSE * self.epsilon < seen < 1.0:
            return False
        self._set_epsilon(seen)
        return True

    def _set_epsilon(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.step = epsilon ** (1 / 3) if self.given_step is None else self.given_step
        default = min(ROOTS * math.sqrt(epsilon), LARGEST_RTOL)
        self.rtol = default if self.given_rtol is None else self.given_rtol

    def _too_short(self, place: Place, fraction: float) -> bool:
        position = _length(np.where(place.move != 0.0, self.x[place.columns], 0.0))
        epsilon = float(np.finfo(self.dtype).eps)
        return fraction * _length(place.move) < SHORTEST_MOVE_ULPS * epsilon * position


def _length(move: np.ndarray) -> float:
    """Return the Euclidean length, without squares that overflow."""
    largest = float(np.abs(move).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm((move / largest).astype(np.float64)))


def _between_the_sides(tried: list[Comparison]) -> Comparison:
    """Widen the last tolerance by what the slopes on the two sides of x leave open.

    Curvature parts them in proportion to the step, so that it is extrapolated away. Around a kink
    they stay apart, and the derivative may be any of them.
    """
    last = tried[-1]
    sides = np.array([(comparison.left, comparison.right) for comparison in tried])
    with np.errstate(over="ignore", invalid="ignore"):
        straight = 2.0 * sides[1:] - sides[:-1]
        openings = [
            np.abs(s - last.numerical).max(axis=(0, 1)) for s in (sides, straight) if len(s)
        ]
    # A slope on one side is twice as noisy as one across both, one extrapolated three times that.
    opening = np.min(openings, axis=0) + last.noise_floor
    jumps = np.abs([comparison.right - comparison.left for comparison in tried])
    # Those of a smooth f come together by a half each time.
    stays = jumps[-1] >= KINK ** (len(tried) - 1) * jumps[0]
    opening = np.where(np.isfinite(opening) & stays, opening, 0.0)
    is_noise = opening < KINK_NOISE * last.noise_floor
    return last._replace(
        tolerance=last.tolerance + opening,
        noise_floor=last.noise_floor + np.where(is_noise, opening, 0.0),
    )


def _steadiest(tried: list[Comparison]) -> int:
    """Return which comparison changed least when its step was halved."""
    changes = []
    for i, (coarse, fine) in enumerate(itertools.pairwise(tried), start=1):
        with np.errstate(invalid="ignore"):
            change = float(np.sum(np.abs(fine.numerical - coarse.numerical) + fine.noise_floor))
        if math.isfinite(change):
            changes.append((change, i))
    return min(changes)[1] if changes else len(tried) - 1


def _scatters(tried: list[Comparison]) -> bool:
    """Return whether differences change sign or size with every step, and are no derivative.

    Or whether all are 0, as those of an even function.
    """
    numerical = np.array([comparison.numerical for comparison in tried[-SCATTERED:]])
    errors = np.array([comparison.error for comparison in tried[-SCATTERED:]])
    with np.errstate(invalid="ignore"):
        spread = numerical.max(axis=0) - numerical.min(axis=0)
        is_rounding = (spread >= 0.5 * errors.max(axis=0)) | (numerical == 0.0).all(axis=0)
        return len(numerical) > 1 and bool(is_rounding.all())


def _shrinks(tried: list[Comparison]) -> bool:
    """Return whether errors became smaller with each of the last steps."""
    last = tried[-SHRINKING:]
    errors = np.array([comparison.error for comparison in last])
    with np.errstate(invalid="ignore"):
        shrink = errors[1:] < SETTLING * errors[:-1]
        is_known = last[-1].noise_floor < DROWNING * errors[-1]
    return len(errors) == SHRINKING and bool(shrink.all() and is_known.all())


def _may_be_kink(found: Comparison, noise: np.ndarray) -> bool:
    """Return whether the analytic slope may be that of one side of a kink close to x.

    A difference is the mean of both.
    """
    sides = np.abs([found.left - found.analytic, found.right - found.analytic])
    is_one_side = sides.min(axis=0) <= LEANING * found.error
    return bool((is_one_side & (np.abs(found.right - found.left) > noise)).any())


def _differ(one: Comparison, other: Comparison) -> bool:
    """Return whether two numerical derivatives of one place exclude each other."""
    apart = np.abs(one.numerical - other.numerical)
    return bool((apart > one.tolerance + other.tolerance).any())


def _proves(limit: Comparison) -> bool:
    """Return whether an extrapolated difference leaves no doubt that the gradient is wrong."""
    wrong = limit.severities > 1.0
    if (wrong & (limit.noise_floor <= DROWNING * limit.error)).any():
        return True
    return limit.severity > CERTAIN and _is_known(limit, DROWNING)


def _is_known(found: Comparison, part: float) -> bool:
    """Return whether a numerical derivative is known to a part of itself, or of an error."""
    return bool((found.noise_floor <= part * np.maximum(found.error, found.slope)).all())
