"""What differences at a series of step sizes tell: noise, convergence, limits and kinks.

Arrays have one row for each step, the longest first, and one column for each value of f.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "HIDDEN",
    "SEEN",
    "Comparison",
    "Differences",
    "changes",
    "closest",
    "drowned",
    "jitter_of",
    "length_of",
    "lengths_of",
    "merged",
    "openings",
    "scatter",
]

# The largest relative error that the tolerance may hide in a conclusive comparison.
HIDDEN = 0.01
# The series ends after three steps at which noise is this part of the deviation found there.
DROWNING = 0.25
# Two differences that differ by more than so many times their noise really differ.
SEEN = 2.0
# Noise is inferred from so many changes of alternating sign; its bound is so many times their
# median.
SCATTERED, SCATTER = 6, 4.0
# At a kink the two one-sided slopes approach each other by less than this factor per halving.
KINK = 0.6
# The factor by which changes shrink per halving where f is smooth, and the largest one at which
# they are taken to converge.
SMOOTH, SLOWEST = 0.25, 0.9


class Comparison(NamedTuple):
    """Derivatives of q values along one move, and the tolerated difference; arrays of shape (q,).

    `is_unknown` says that nothing is proven.
    """

    analytic: np.ndarray
    numerical: np.ndarray
    tolerance: np.ndarray
    noise_floor: np.ndarray
    is_unknown: bool = False

    @property
    def error(self) -> np.ndarray:
        """The absolute differences."""
        with np.errstate(invalid="ignore"):
            found: np.ndarray = np.abs(self.analytic - self.numerical)
        return found

    @property
    def severities(self) -> np.ndarray:
        """The errors in units of the tolerances; infinite where a derivative is not finite."""
        error = self.error
        with np.errstate(all="ignore"):
            ratio = np.where(error == 0.0, 0.0, error / self.tolerance)
        found: np.ndarray = np.where(np.isfinite(error), ratio, np.inf)
        return found

    @property
    def severity(self) -> float:
        """The largest of `severities`."""
        return float(self.severities.max())

    @property
    def slope(self) -> np.ndarray:
        """The larger magnitude of the two derivatives."""
        found: np.ndarray = np.maximum(np.abs(self.analytic), np.abs(self.numerical))
        return found

    def is_hidden(self, norm: float) -> bool:
        """Return whether noise may hide an error of 1 % of the slope and of the gradient's norm."""
        return bool((self.noise_floor > HIDDEN * np.maximum(self.slope, norm)).any())


class Differences(NamedTuple):
    """Differences at k places or steps, as arrays of shape (k, q).

    Attributes
    ----------
    length : numpy.ndarray of shape (k, 1)
        The distance between the two points of each.
    analytic, numerical, noise : numpy.ndarray
        The given derivative, the difference, and the noise of that.
    left, right : numpy.ndarray
        The slopes on the two sides of x. Where f is finite on one side only, `numerical` is the
        slope there.
    """

    length: np.ndarray
    analytic: np.ndarray
    numerical: np.ndarray
    noise: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def off(self) -> np.ndarray:
        """The deviation from the analytic derivative; from 0 where that is not finite."""
        known = np.where(np.isfinite(self.analytic), self.analytic, 0.0)
        found: np.ndarray = self.numerical - known
        return found


def merged(one: Differences, other: Differences) -> Differences:
    """Return the differences of both, ordered by step."""
    both = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
    order = np.argsort(-both[0][:, 0], kind="stable")
    return Differences(*(array[order] for array in both))


def drowned(seen: Differences) -> int:
    """Return after how many differences noise dominates; more than there are if it does not."""
    with np.errstate(invalid="ignore"):
        is_noise = (seen.noise >= DROWNING * np.abs(seen.off)).all(axis=1)
        # Noise that shrinks with the step comes from large values far from x.
        is_noise[1:] &= (np.diff(seen.noise, axis=0) >= 0.0).all(axis=1)
    # Three in a row: one may be small by chance, and so may the first one past a kink.
    ends = np.flatnonzero(is_noise[2:] & is_noise[1:-1] & is_noise[:-2]) + 3
    return int(ends[0]) if ends.size else len(is_noise) + 1


def scatter(seen: Differences, is_short: np.ndarray, is_shortest: np.ndarray) -> np.ndarray:
    """Return the noise of f inferred from differences that alternate at short steps."""
    change = np.diff(seen.off, axis=0, prepend=np.nan)
    before = np.roll(change, 1, axis=0)
    turns = (change * before < 0.0) & (np.abs(change) > SEEN * seen.noise) & is_short
    turns &= np.abs(change) > SLOWEST * np.abs(before)
    spread = np.where(turns, np.abs(change) * seen.length, np.nan)
    typical, is_many = np.zeros(change.shape[1]), turns.sum(axis=0) >= SCATTERED
    is_many &= (turns & is_shortest).any(axis=0)
    typical[is_many] = np.nanmedian(spread[:, is_many], axis=0)
    return SCATTER * typical


def jitter_of(seen: Differences, usual: float) -> np.ndarray:
    """Return the largest deviation of f from a line, in units of its rounding; 0 if constant.

    The usual step and shorter ones count, and the shorter half of those at which f changes.
    """
    moves = np.abs(seen.left) + np.abs(seen.right) > 0.0
    is_next = moves[1:] | moves[:-1]
    is_short = np.cumsum(is_next, axis=0) > is_next.sum(axis=0) // 2
    is_short = is_next & (is_short | (seen.length[1:] <= usual))
    change = np.abs(np.diff(seen.off, axis=0))
    # Changes due to curvature shrink with each halving.
    before = np.concatenate([np.zeros_like(change[:1]), change[:-1]])
    is_short &= change > KINK * before
    found: np.ndarray = np.max(change / seen.noise[1:], axis=0, where=is_short, initial=0.0)
    return found


def changes(off: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds on the remaining change after each difference, and its drift afterwards.

    The first extrapolates the changes up to each difference as a geometric series, and is infinite
    where they do not shrink; the second is how far later differences lie beyond their noise.
    """
    change = np.abs(np.diff(off, axis=0, prepend=np.nan))
    step, drift = np.full_like(off, np.inf), np.zeros_like(off)
    ratio = np.full(off.shape[1], np.inf)
    for i in range(1, len(off)):
        is_clear = change[i] > SEEN * noise[i]
        # A change below the noise keeps the ratio before it only if it may be that small.
        is_hidden = np.fmin(ratio, SLOWEST) * change[i - 1] <= SEEN * noise[i]
        ratio = np.where(is_clear, change[i] / change[i - 1], np.where(is_hidden, ratio, 0.0))
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        times = np.where(ratio < SLOWEST, np.maximum(ratio / (1.0 - ratio), 1.0), np.inf)
        # One change may be small by chance.
        last = np.fmax(change[i], SMOOTH * change[i - 1])
        step[i] = last * np.where(is_clear | (ratio < SLOWEST), times, 1.0)
    for i in range(len(off) - 1):
        apart = np.abs(off[i + 1 :] - off[i]) - SEEN * (noise[i + 1 :] + noise[i])
        drift[i] = np.fmax(np.fmax.reduce(apart), 0.0)
    return step, drift


def closest(
    seen: Differences, interval: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the best known estimate: a difference, or the limit of one-sided ones.

    Returns
    -------
    off, noise, interval, step, row : numpy.ndarray of shape (q,)
        One for each value of f.
    """
    led, led_noise = _limits(seen)
    one_sided = ~np.isfinite(seen.left + seen.right)
    led_noise = np.where(one_sided, led_noise, np.inf)
    led_step, led_drift = changes(led, led_noise)
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


def _limits(seen: Differences) -> tuple[np.ndarray, np.ndarray]:
    """Return the Aitken limits of three consecutive differences each, and their noise.

    Aitken's delta-squared process needs no assumption on the order in the step. Where changes are
    noise, the differences themselves are returned, with more noise.
    """
    change = np.diff(seen.off, axis=0, prepend=np.nan)
    is_clear = np.abs(change) > SEEN * seen.noise
    ratio = change / np.roll(change, 1, axis=0)
    leads = is_clear & np.roll(is_clear, 1, axis=0) & (ratio > 0.0) & (ratio < SLOWEST)
    rest = np.where(leads, ratio / (1.0 - ratio), 0.0)
    times = np.where(leads, 1.0 + 2.0 * rest * (1.0 + (1.0 + ratio) / (1.0 - ratio)), SEEN)
    return seen.off + np.where(leads, change * rest, 0.0), seen.noise * times


def openings(seen: Differences, drift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the uncertainty due to different one-sided slopes, and its value at a kink.

    Curvature separates the two slopes in proportion to the step, which extrapolation removes. At a
    kink they stay apart at all steps, and any slope in between is a derivative.
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
    opening = np.where(np.isfinite(straight), straight, 0.5 * jump) + seen.noise
    opening = np.where(np.isfinite(opening), opening, np.inf)
    # A smaller uncertainty at a shorter step holds for the longer ones too, whose differences lie
    # so far from its own, however noisy that is: past a kink they may all agree with each other.
    least = opening.copy()
    with np.errstate(invalid="ignore"):
        for i in range(len(opening) - 1):
            apart = np.abs(seen.off[i + 1 :] - seen.off[i])
            least[i] = np.fmin(opening[i], np.fmin.reduce(opening[i + 1 :] + apart))
    row = np.argmin(opening, axis=0), np.arange(opening.shape[1])
    last = np.minimum(np.maximum(row[0], 2), len(jump) - 1)
    stays = jump[last, row[1]] >= KINK**2 * jump[np.maximum(last - 2, 0), row[1]]
    is_kink = stays & (last > 1) & (opening[row] > 2.0 * SEEN * seen.noise[row])
    # Differences at a kink stay between the two slopes, and do not scatter.
    is_kink &= drift[row] <= opening[row]
    return np.where(np.isfinite(least), least, 0.0), np.where(is_kink, opening[row], 0.0)


def length_of(move: np.ndarray) -> float:
    """Return the Euclidean norm of one move."""
    return float(lengths_of(move[None])[0, 0])


def lengths_of(moves: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm of each row, of shape (k, 1), without overflow of squares."""
    largest = np.abs(moves).max(axis=1, keepdims=True, initial=0.0)
    part = np.where((largest > 0.0) & np.isfinite(largest), largest, 1.0)
    scaled = np.linalg.norm((moves / part).astype(np.float64), axis=1, keepdims=True)
    found: np.ndarray = part * scaled
    return found
