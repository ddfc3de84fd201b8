"""Comparing a gradient with differences at single places, as closely as rounding allows.

One central difference settles most places: it agrees, and its noise is small. Everywhere else f is
seen at all scales, from the size of x down to where rounding drowns everything. A difference is
then off by no more than its own noise, and by what lies between it and all differences at smaller
steps as far as noise lets those be seen; around a kink the slopes on both sides leave it open too.
A gradient inside that interval of the closest difference is right, one that is far outside the
interval of any difference is wrong, and nothing is proven of any other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn._cached import cached_property
from accelnn.gradient._problem import Problem
from accelnn.gradient._steps import FIRST_STEP, sizes_beside, symmetric_points

__all__ = ["Comparer", "Comparison", "Place"]

# A value of f is good to a few units in the last place, and two of them enter a difference.
NOISE_ULPS = 8.0
# Where the noise of f was measured, its standard deviation times √2 for a difference, four times.
NOISE_SPREADS = 6.0
# So many units in the last place of x is what f may see of it.
BEND_ULPS = 8.0
# So many times the rounding of its dtype, the noise of f is that of a less precise one.
COARSE = 100.0
# By default a relative difference of so many roots of machine epsilon counts as agreement, and in
# half precision no more than this, so that an error of a hundredth does not.
ROOTS, LARGEST_RTOL = 10.0, 5e-3
# The largest part of the slope, or of the gradient, that may hide in what counts as agreement.
HIDDEN = 0.01
# A move this many units in the last place long still has the direction that was asked for.
SHORTEST_MOVE_ULPS = 64.0
# Halvings of the usual step at most, so many of which come before x's own size where that is so
# small that they do not suffice, and how many are taken at a time.
MOST_HALVINGS, FIRST_HALVINGS, BLOCK = 64, 8, 8
# They end with three that noise drowns, which is so large a part of what is found wrong there.
DROWNING = 0.25
# Differences differ by more than so many times their noise only if f makes them.
SEEN = 2.0
# To prove an error, the interval of a difference counts so many times: in it may hide what vanishes
# as slowly as a root of the step.
PROOF = 4.0
# A gradient is good to so many units in the last place of the largest terms that it is a sum of,
# which may cancel at x.
ROUNDING_ULPS, ROUNDING_PART = 256.0, 0.01
# Derivatives that agree to this part of them are no rounding of larger terms.
SLIGHT = 0.03
# Differences at so many steps tell of noise; and how many times their typical change it may be.
SCATTERED, SCATTER = 6, 4.0
# What is infinite is off by more than anything.
LARGE = 1e150
# Slopes of the two sides that shrink by less with each halving are those of a kink.
KINK = 0.6
# By how much changes of differences shrink with each halving where f is smooth, and where they
# still lead to a limit.
SMOOTH, SLOWEST = 0.25, 0.9
# What is close to x, as a part of it: slopes there tell how well one of nearly 0 is known.
NEAR = 0.25


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

    def times(self, factor: float) -> Place:
        """Return it with a longer or a shorter move."""
        return Place(self.columns, factor * self.move)


class Comparison(NamedTuple):
    """Derivatives of q values at one place, and how far apart they may be; arrays of shape (q,).

    `is_unknown` says that nothing is proven.
    """

    analytic: np.ndarray
    numerical: np.ndarray
    tolerance: np.ndarray
    noise_floor: np.ndarray
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

    def is_hidden(self, norm: float) -> bool:
        """Return whether noise allows for an error as large as a part of the gradient."""
        return bool((self.noise_floor > HIDDEN * np.maximum(self.slope, norm)).any())


class _Differences(NamedTuple):
    """Differences at k places or steps, arrays of shape (k, q); `length` has the shape (k, 1).

    `left` and `right` are the slopes on the two sides of x. Where f is finite on one of them only,
    that is the numerical one.
    """

    length: np.ndarray
    analytic: np.ndarray
    numerical: np.ndarray
    noise: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def off(self) -> np.ndarray:
        """How far from what is analytic; from 0 where that is not finite."""
        known = np.where(np.isfinite(self.analytic), self.analytic, 0.0)
        found: np.ndarray = self.numerical - known
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
        self.resolution = float(np.finfo(problem.lines.dtype).eps)
        self.given_rtol, self.atol, self.given_step = rtol, atol or 0.0, step
        self.rounding = epsilon
        self.trust_f()

    def coordinate(self, column: int) -> Place:
        """Return the place of one coordinate."""
        step = self.step * max(1.0, float(abs(self.x[column])))
        return Place(np.array([column]), np.array([step]))

    def direction(self, flat: np.ndarray, draw: np.random.Generator) -> Place:
        """Return a random move of these coordinates, each in proportion to its size.

        What is close to 0 moves like the rest.
        """
        size = np.maximum(np.abs(self.x[flat]), 1.0 / math.sqrt(self.x.size))
        return Place(flat, self.step * size * draw.standard_normal(flat.size))

    def compare(self, places: Sequence[Place]) -> list[Comparison]:
        """Compare with one central difference each. All places move as many coordinates."""
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
    ) -> _Differences:
        """Take differences over moves of some columns, each of shape (k, c).

        `spread` is the standard deviation of the noise of f, where that was measured.
        """
        rounded = functools.partial(self.problem.argument.rounded, columns=columns)
        with np.errstate(all="ignore"):
            upper, lower = symmetric_points(self.x[columns], moves, rounded)
            moved = np.stack([upper, lower], axis=1)
            # A step may leave the domain of f, and a gradient be infinite: the values show that.
            values = self.problem.evaluator(columns, moved)
            width = upper.astype(self.x.dtype) - lower
            length = _lengths(width)
            above, below = values[:, 0], values[:, 1]
            # Divided first, so that neither overflows where x is huge.
            width = width / length
            # Only coordinates that move count: 0 * inf would be NaN.
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
            # Rounding of x inside f moves its values, and where it curves both derivatives.
            bend = BEND_ULPS * np.abs(right - left)
            inside = np.where(np.isfinite(bend), bend, 0.0) + np.abs(numerical)
            noise += self.epsilon * _lengths(self.x[columns]) * inside
            return _Differences(length, analytic, numerical, noise / length, left, right)

    def settle(self, place: Place, norm: float, *, is_noisy: bool = False) -> Comparison:
        """Look at f at all scales, and return what they say of the gradient along a move.

        `norm` is the length of the gradient as one move sees it; `is_noisy` says that the usual
        step is too short to see it, so that longer ones are taken first.
        """
        if not self.spread.any():
            return self._settled(place, norm, None, is_noisy=is_noisy)[0]
        # What was measured may be no noise, but what f does close to an edge.
        measured, step = self.epsilon, self.step
        self.trust_f()
        usual = place.times(self.step / step)
        found, seen = self._settled(usual, norm, None, is_noisy=False)
        self._set_epsilon(measured)
        if found.severity <= 1.0 and not found.is_unknown:
            return found
        noisy, _ = self._settled(place, norm, self.spread, is_noisy=is_noisy)
        # What is wrong without noise is not right because of the noise that f has elsewhere, nor is
        # what is not 0 where f never moves.
        jitter = _jitter(seen, 2.0 * _length(usual.move))
        is_doubtful = (found.severities > 1.0) | ((jitter == 0.0) & (found.slope > 0.0))
        is_doubtful &= jitter < COARSE
        if noisy.severity <= 1.0 and is_doubtful.any():
            return noisy._replace(is_unknown=True)
        return noisy

    def _settled(
        self, place: Place, norm: float, spread: np.ndarray | None, *, is_noisy: bool
    ) -> tuple[Comparison, _Differences]:
        longer = self._longer(place)
        seen = self._at(place, np.ones(1), spread)
        if is_noisy and longer.size:
            seen = _merged(seen, self._at(place, longer, spread))
            found = self._judged(seen, place, norm)
            # Where x is 0, f may be that of another scale altogether.
            if not found.is_unknown and self._near(place) > 0.0:
                return found, seen
        for fractions in self._shorter(place):
            seen = _merged(seen, self._at(place, fractions, spread))
            if (end := _drowned(seen)) < len(seen.length):
                seen = _Differences(*(array[:end] for array in seen))
                break
        found = self._judged(seen, place, norm)
        # Only long steps tell of how large numbers a gradient is the rounding.
        if (found.is_unknown or found.severity > 1.0) and longer.size and not is_noisy:
            seen = _merged(seen, self._at(place, longer, spread))
            found = self._judged(seen, place, norm)
        return found, seen

    def _near(self, place: Place) -> float:
        """Return how many usual steps are near x; 0 where all of it is 0 and tells of no size.

        What is 0 is taken to be as small as the smallest other coordinate.
        """
        moves = place.move != 0.0
        sizes, size = np.abs(self.x), np.abs(self.x[place.columns][moves])
        least = float(sizes.min(initial=np.inf, where=sizes > 0.0))
        times = NEAR * np.where(size > 0.0, size, least) / np.abs(place.move[moves])
        return float(times.min()) if times.size and math.isfinite(least) else 0.0

    def _longer(self, place: Place) -> np.ndarray:
        """Return multiples of the usual step, up to the size of x."""
        times = max(1.0, FIRST_STEP / self.step, self._near(place))
        return 2.0 ** np.arange(1, 1 + math.floor(math.log2(times)))

    def _shorter(self, place: Place) -> list[np.ndarray]:
        """Return parts of the usual step, in blocks."""
        size = _length(self.x[place.columns][place.move != 0.0])
        length = _length(place.move)
        if not 0.0 < length < math.inf:
            return []
        least = SHORTEST_MOVE_ULPS * self.resolution * size / length
        count = MOST_HALVINGS if least == 0.0 else max(0, math.floor(-math.log2(least)))
        fractions = 0.5 ** np.arange(1, count + 1)
        if count > MOST_HALVINGS:
            # In between f is that of no point of interest.
            rest = MOST_HALVINGS - FIRST_HALVINGS
            fractions = np.concatenate([fractions[:FIRST_HALVINGS], fractions[-rest:]])
        return [fractions[i : i + BLOCK] for i in range(0, fractions.size, BLOCK)]

    def _at(self, place: Place, fractions: np.ndarray, spread: np.ndarray | None) -> _Differences:
        columns = np.broadcast_to(place.columns, (fractions.size, place.columns.size))
        return self._differences(columns, fractions[:, None] * place.move, spread)

    def _with_noise(self, seen: _Differences, place: Place) -> tuple[_Differences, np.ndarray]:
        """Return differences with the noise that they show, and whether f moves nowhere."""
        usual, moved = 2.0 * _length(place.move), np.abs(seen.left) + np.abs(seen.right)
        is_still, is_short = moved == 0.0, seen.length < 0.75 * usual
        # Noise that was measured beside x is not along what f does not depend on.
        is_flat = is_still.all(axis=0) & (seen.length[0] > 1.5 * usual)
        unit = NOISE_ULPS * self.rounding * np.abs(self.base)
        noise = np.where(is_flat, unit, seen.noise * seen.length)
        # Where only short steps leave f where it is, its values are rounded.
        is_coarse = (is_still & is_short).any(axis=0) & ~(is_still & ~is_short).any(axis=0)
        quantum = np.where(is_still, np.inf, moved * seen.length).min(axis=0)
        noise = np.where(is_coarse & is_still, np.fmax(noise, quantum), noise)
        # Where differences scatter at many steps far shorter than x, and the shortest, f does.
        part = seen.length / _length(self.x[place.columns])
        noise = np.fmax(
            noise, _scatter(seen, part <= self.step, part <= self.resolution ** (2 / 3))
        )
        return seen._replace(noise=noise / seen.length), is_flat

    def _judged(self, seen: _Differences, place: Place, norm: float) -> Comparison:
        """Return what differences at all scales, the longest step first, say of the gradient."""
        with np.errstate(all="ignore"):
            seen, is_flat = self._with_noise(seen, place)
            outputs = np.arange(seen.off.shape[1])
            step, drift = _between(seen.off, seen.noise)
            interval = seen.noise + step + drift
            opening, kink = _openings(seen, drift)
            is_near = seen.length <= 2.0 * self._near(place) * _length(place.move)
            # Where f ends, slopes grow towards its end, and tell nothing of those at x.
            sides = np.maximum(np.abs(seen.left), np.abs(seen.right))
            # A slope on one side is twice as noisy as a difference.
            sides = np.where(np.isfinite(sides) & (sides > 2.0 * SEEN * seen.noise), sides, 0.0)
            steepest = np.where(is_near, sides, 0.0).max(axis=0)
            ulps = min(ROUNDING_ULPS * self.epsilon, ROUNDING_PART * self.usual_rtol)
            rounding = ulps * steepest

            limit, excess = self._excess(seen, interval, opening + PROOF**2 * rounding, norm)
            if self._near(place) > 0.0:
                # Next to where f ends, steps longer than x tell of elsewhere.
                has_end = ~np.isfinite(seen.left + seen.right)
                excess = np.where(has_end & ~is_near, np.nan, excess)
            worst = np.argmax(np.where(np.isnan(excess), -1.0, excess), axis=0), outputs
            # A derivative needs points beside x.
            is_alone = ~np.isfinite(seen.off).any(axis=0) & (place.columns.size == 1)
            is_wrong = (excess[worst] > 1.0) | is_alone

            off, noise, interval, step, row = _closest(seen, interval, step)
            analytic = seen.analytic[row, outputs]
            numerical = np.where(np.isfinite(analytic), analytic, 0.0) + off
            slope = np.fmax(np.abs(analytic), np.abs(numerical))
            is_rounding = PROOF * interval <= self.usual_rtol * steepest
            # What is 0 tells of no size: slopes far from it excuse, and make nothing right.
            is_guess = not self.x[place.columns[place.move != 0.0]].all()
            unsure = 0.0 if is_guess else rounding
            unsure += np.where(is_rounding & (not is_guess), PROOF * interval, noise + step)
            tolerance = self._allowed(analytic, numerical) + unsure + kink
            is_tiny = slope <= PROOF * interval + rounding
            farther = steepest if is_near.any() else sides.max(axis=0)
            scale = np.fmax(np.where(is_tiny, farther, slope), norm)
            is_right = (np.abs(off) <= tolerance) & (interval + unsure <= HIDDEN * scale)
            is_right &= np.isfinite(analytic)
            # What is rounding on both sides does not agree as far as that.
            is_slight = (PROOF * interval < np.abs(off)) & (np.abs(off) <= SLIGHT * slope)
            is_right &= ~is_slight | (np.abs(off) <= self._allowed(analytic, numerical))
            is_right |= is_flat & (analytic == 0.0)

            is_wrong &= ~is_right
            if self.epsilon > self.rounding:
                # Noise that was measured may be no noise, but what f does close to where it ends.
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
        self, seen: _Differences, interval: np.ndarray, open_by: np.ndarray, norm: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return by how much each difference may be off, and how many times as much it is.

        More than once proves an error. `open_by` is what is left open besides their intervals.
        """
        is_finite = np.isfinite(seen.analytic)
        error = np.where(is_finite, np.abs(seen.off), LARGE)
        limit = self._allowed(np.where(is_finite, seen.analytic, 0.0), seen.numerical)
        # Where f ends, slopes of a root may turn late.
        one_sided = ~np.isfinite(seen.left + seen.right)
        limit += np.where(one_sided, PROOF**2, PROOF) * interval + open_by
        # What is 0 to rounding, and does not move at all, may be rounded as a sum of numbers near 1
        # is: the loss of a net that is sure of itself.
        is_still = (seen.left == 0.0) & (seen.right == 0.0)
        is_nothing = is_still & (np.abs(self.base) <= COARSE * self.epsilon)
        limit += np.where(is_nothing, NOISE_ULPS * self.epsilon / seen.length, 0.0)
        # What is infinite is wrong where a difference is known at all.
        known = limit <= np.fmax(norm, 0.5 * np.fmax.reduce(np.abs(seen.numerical)))
        return limit, np.where(is_finite | known, error / limit, np.nan)

    @cached_property
    def spread(self) -> np.ndarray:
        """The standard deviation of the noise of f, as far as its values show it."""
        with np.errstate(all="ignore"):
            return self.problem.lines.noise(None, insist=True)

    def trust_f(self) -> None:
        """Expect no noise of f but the rounding of its dtype."""
        self._set_epsilon(self.rounding)

    def adapt_to_noise(self) -> bool:
        """Take longer steps if f is computed less precisely than its values are stored."""
        with np.errstate(all="ignore"):
            # The terms of f may cancel, and f be 0 at x alone.
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


def _merged(one: _Differences, other: _Differences) -> _Differences:
    """Return differences at all steps of both, the longest first."""
    both = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
    order = np.argsort(-both[0][:, 0], kind="stable")
    return _Differences(*(array[order] for array in both))


def _drowned(seen: _Differences) -> int:
    """Return how many differences are left where noise has drowned the last of them."""
    with np.errstate(invalid="ignore"):
        is_noise = (seen.noise >= DROWNING * np.abs(seen.off)).all(axis=1)
        # Noise of large numbers far away becomes less.
        is_noise[1:] &= (np.diff(seen.noise, axis=0) >= 0.0).all(axis=1)
    # One may be so by accident, and the first beyond a kink tells not yet that it is past.
    ends = np.flatnonzero(is_noise[2:] & is_noise[1:-1] & is_noise[:-2]) + 3
    return int(ends[0]) if ends.size else len(is_noise) + 1


def _scatter(seen: _Differences, is_short: np.ndarray, is_shortest: np.ndarray) -> np.ndarray:
    """Return the noise of f that shows in differences that scatter the more the shorter a step."""
    change = np.diff(seen.off, axis=0, prepend=np.nan)
    before = np.roll(change, 1, axis=0)
    turns = (change * before < 0.0) & (np.abs(change) > SEEN * seen.noise) & is_short
    turns &= np.abs(change) > SLOWEST * np.abs(before)
    spread = np.where(turns, np.abs(change) * seen.length, np.nan)
    typical, is_many = np.zeros(change.shape[1]), turns.sum(axis=0) >= SCATTERED
    is_many &= (turns & is_shortest).any(axis=0)
    typical[is_many] = np.nanmedian(spread[:, is_many], axis=0)
    return SCATTER * typical


def _jitter(seen: _Differences, usual: float) -> np.ndarray:
    """Return how many times its rounding f moves beside its slope, and 0 if it never does.

    That is the most at the usual step and shorter ones, and the shorter half of those at which it
    moves.
    """
    moves = np.abs(seen.left) + np.abs(seen.right) > 0.0
    is_next = moves[1:] | moves[:-1]
    is_short = np.cumsum(is_next, axis=0) > is_next.sum(axis=0) // 2
    is_short = is_next & (is_short | (seen.length[1:] <= usual))
    change = np.abs(np.diff(seen.off, axis=0))
    # What is curved shrinks with each halving.
    before = np.concatenate([np.zeros_like(change[:1]), change[:-1]])
    is_short &= change > KINK * before
    found: np.ndarray = np.max(change / seen.noise[1:], axis=0, where=is_short, initial=0.0)
    return found


def _between(off: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies between each and those before, and those after it, beyond their noise.

    Where changes shrink slowly, what is left is more than the last of them, also after noise has
    taken over. Those that do not shrink lead nowhere.
    """
    change = np.abs(np.diff(off, axis=0, prepend=np.nan))
    step, drift = np.full_like(off, np.inf), np.zeros_like(off)
    ratio = np.full(off.shape[1], np.inf)
    for i in range(1, len(off)):
        is_clear = change[i] > SEEN * noise[i]
        # Noise hides only changes that would be no larger.
        is_hidden = np.fmin(ratio, SLOWEST) * change[i - 1] <= SEEN * noise[i]
        ratio = np.where(is_clear, change[i] / change[i - 1], np.where(is_hidden, ratio, 0.0))
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        times = np.where(ratio < SLOWEST, np.maximum(ratio / (1.0 - ratio), 1.0), np.inf)
        # One may be small by accident.
        last = np.fmax(change[i], SMOOTH * change[i - 1])
        step[i] = last * np.where(is_clear | (ratio < SLOWEST), times, 1.0)
    for i in range(len(off) - 1):
        apart = np.abs(off[i + 1 :] - off[i]) - SEEN * (noise[i + 1 :] + noise[i])
        drift[i] = np.fmax(np.fmax.reduce(apart), 0.0)
    return step, drift


def _closest(
    seen: _Differences, interval: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the difference that is known best, or what those on one side of x lead to.

    Returns
    -------
    off, noise, interval, step, row : numpy.ndarray of shape (q,)
        Of each value of f its own.
    """
    led, led_noise = _limits(seen)
    one_sided = ~np.isfinite(seen.left + seen.right)
    led_noise = np.where(one_sided, led_noise, np.inf)
    led_step, led_drift = _between(led, led_noise)
    both = [
        np.concatenate(pair)
        for pair in (
            (seen.off, led),
            (seen.noise, led_noise),
            (interval, led_noise + led_step + led_drift),
            (step, led_step),
        )
    ]
    best = np.argmin(np.where(np.isnan(both[2]), np.inf, both[2]), axis=0)
    off, noise, least, last = (array[best, np.arange(best.size)] for array in both)
    return off, noise, least, last, best % len(seen.length)


def _limits(seen: _Differences) -> tuple[np.ndarray, np.ndarray]:
    """Return where each three differences in a row lead to, and the noise of that.

    Aitken's process needs to know of no power of the step. Where changes are noise, differences
    stay what they are, and what is left may be more than their noise.
    """
    change = np.diff(seen.off, axis=0, prepend=np.nan)
    is_clear = np.abs(change) > SEEN * seen.noise
    ratio = change / np.roll(change, 1, axis=0)
    leads = is_clear & np.roll(is_clear, 1, axis=0) & (ratio > 0.0) & (ratio < SLOWEST)
    rest = np.where(leads, ratio / (1.0 - ratio), 0.0)
    times = np.where(leads, 1.0 + 2.0 * rest * (1.0 + (1.0 + ratio) / (1.0 - ratio)), SEEN)
    return seen.off + np.where(leads, change * rest, 0.0), seen.noise * times


def _openings(seen: _Differences, drift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the slopes on both sides leave each difference open, and that of a kink.

    Curvature parts them in proportion to the step, so that it is extrapolated away. Around a kink
    they stay apart at all steps, and the derivative may be any of them.
    """
    jump = np.abs(seen.right - seen.left)
    straight = np.full_like(jump, np.inf)
    ratio = seen.length[:-1] / seen.length[1:]
    straight[1:] = np.maximum(
        *(
            np.abs((ratio * side[1:] - side[:-1]) / (ratio - 1.0) - seen.numerical[1:])
            for side in (seen.left, seen.right)
        )
    )
    opening = np.fmin(straight, 0.5 * jump) + seen.noise
    opening = np.where(np.isfinite(opening), opening, np.inf)
    # Smaller steps see more.
    least = np.minimum.accumulate(opening[::-1], axis=0)[::-1]
    row = np.argmin(opening, axis=0), np.arange(opening.shape[1])
    last = np.minimum(np.maximum(row[0], 2), len(jump) - 1)
    stays = jump[last, row[1]] >= KINK**2 * jump[np.maximum(last - 2, 0), row[1]]
    is_kink = stays & (last > 1) & (opening[row] > 2.0 * SEEN * seen.noise[row])
    # Between the slopes of a kink differences stay, and do not scatter.
    is_kink &= drift[row] <= opening[row]
    return np.where(np.isfinite(least), least, 0.0), np.where(is_kink, opening[row], 0.0)


def _length(move: np.ndarray) -> float:
    """Return the Euclidean length."""
    return float(_lengths(move[None])[0, 0])


def _lengths(moves: np.ndarray) -> np.ndarray:
    """Return the Euclidean length of each row, in a column, without squares that overflow."""
    largest = np.abs(moves).max(axis=1, keepdims=True, initial=0.0)
    part = np.where((largest > 0.0) & np.isfinite(largest), largest, 1.0)
    scaled = np.linalg.norm((moves / part).astype(np.float64), axis=1, keepdims=True)
    found: np.ndarray = part * scaled
    return found
