"""Derivatives along lines by any method and of any order, with errors and flags."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelnn._cached import cached_property
from accelnn._differences import METHODS, Method
from accelnn.gradient._extrapolation import Estimate, Extrapolation, extrapolate
from accelnn.gradient._lines import Lines
from accelnn.gradient._precision import SAFETY, WILD
from accelnn.gradient._result import Flag
from accelnn.gradient._stencil import Difference, Stencil
from accelnn.gradient._steps import second_beginning, sizes_beside
from accelnn.gradient.evaluators import Advance, no_progress

__all__ = ["Derivatives", "differentiate"]

# An extrapolation is one-sided where the other side has less room than this part of the first step.
LITTLE_ROOM = 1e-3
# It ends at a step of so many units in the last place, which rounding leaves intact.
SHORTEST_MOVE_ULPS = 1024.0
# Bound on measured noise, in standard deviations.
NOISE = 5.0
# Rounding of a complex-step derivative, in units in the last place.
IMAGINARY_ULPS = 8.0
# At half the step, the difference of the two one-sided slopes is halved where f is smooth, and the
# same at a kink; a larger ratio than this is a kink.
KINK = 0.75
# The jump must also exceed so many times its noise.
CERTAIN = 16.0
# Steps longer than this part of x in every coordinate may miss how f varies at the scale of x.
FAR_LARGER = 0.5
# A limit is compared with a difference at `SHORT` times its last step, unless that is less than
# `SHORTEST` times x, where rounding would dominate.
SHORT = 1e-3
SHORTEST = 1e-8
# Rounding of f where terms cancel inside it, in units of the rounding of its value.
CANCELLED = 200.0
# A rise of f below so many times its noise may be noise alone.
FAINT = 10.0
# A difference is compared with one at this part of its step; less where x is small.
PART = 0.03
# Where differences at two steps differ by more than this part, their error series does not apply.
UNLIKE = 0.1


class Derivatives(NamedTuple):
    """Derivatives of q values along m lines, of shape (m, q), with steps, errors and flags.

    `error` is None unless errors were asked for.
    """

    value: np.ndarray
    step: np.ndarray
    error: np.ndarray | None
    flags: np.ndarray


class _Limits(NamedTuple):
    """Extrapolated derivatives; `rest` is their distance from the last differences."""

    value: np.ndarray
    error: np.ndarray
    rest: np.ndarray
    step: np.ndarray
    flags: np.ndarray


def differentiate(
    lines: Lines,
    method: Method,
    order: int,
    h: np.ndarray,
    *,
    epsilon: float,
    noise: np.ndarray | None = None,
    diagnose: bool = False,
    kinks: bool = True,
    advance: Advance = no_progress,
) -> Derivatives:
    """Differentiate f along lines.

    Parameters
    ----------
    lines : Lines
        The lines, all through x.
    method, order : Method, int
        Which difference of which order.
    h : numpy.ndarray of shape (m,)
        The steps; for an extrapolation the first ones.
    epsilon : float
        Machine epsilon of f and x.
    noise : numpy.ndarray of shape (q,) or (m, q), optional
        The standard deviation of the noise of f, where it was measured.
    diagnose, kinks : bool
        Whether to estimate errors, and then to look for kinks too; both take more evaluations.
    advance : callable
        Called with the number of lines that have been completed.
    """
    m, q = len(lines), lines.base.shape[-1]
    engine = _Differentiation(lines, method, order, epsilon, noise, diagnose=diagnose, kinks=kinks)
    rows = np.arange(m)
    if lines.bounds is None and m and q:
        found = engine.derivatives(rows, h, advance)
    else:
        value, error = np.zeros((2, m, q), np.result_type(h, np.float64))
        taken, flags = np.zeros(m, h.dtype), np.zeros(m, int)
        if lines.bounds is not None:
            is_fixed = lines.bounds.low == lines.bounds.high
            flags[is_fixed] |= Flag.FIXED
            rows = rows[~is_fixed]
        if rows.size and q:
            part = engine.derivatives(rows, h[rows], advance)
            value[rows], taken[rows], flags[rows] = part.value, part.step, part.flags
            error[rows] = np.inf if part.error is None else part.error
        found = Derivatives(value, taken, error, flags)
    is_finite = np.isfinite(found.value)
    if np.count_nonzero(is_finite) < is_finite.size:
        found.flags[~is_finite.all(axis=1)] |= Flag.NOT_FINITE
        found.value[~is_finite] = np.nan
    if diagnose and not (method.is_extrapolated or method.is_imaginary):
        moves = lines.position != 0.0
        size = np.abs(lines.position[moves])
        if size.size and (np.abs(h[moves]) / FAR_LARGER > size).all():
            found.flags[:] |= Flag.LARGE_STEP
    return found


class _Differentiation:
    """Derivatives from one or more differences along each line."""

    def __init__(
        self,
        lines: Lines,
        method: Method,
        order: int,
        epsilon: float,
        noise: np.ndarray | None,
        *,
        diagnose: bool,
        kinks: bool,
    ) -> None:
        self.lines, self.method, self.order, self.epsilon = lines, method, order, epsilon
        # Whether errors are estimated, and kinks are looked for.
        self.measures, self.kinks = diagnose or method.is_extrapolated, kinks
        scatter = np.zeros(lines.base.shape[-1]) if noise is None else NOISE * noise
        self.stencil = Stencil(lines, method, order, epsilon, scatter, measures=self.measures)

    @cached_property
    def size(self) -> np.ndarray:
        """The size of x along each line, never 0."""
        return sizes_beside(self.lines.position)

    def derivatives(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> Derivatives:
        """Return the derivatives along some lines."""
        if self.method.is_extrapolated:
            limits = self._extrapolated(rows, h, advance)
            return Derivatives(limits.value, limits.step, limits.error, limits.flags)
        first = self.stencil.take(rows, h, advance=advance)
        if self.measures:
            return self._diagnosed(rows, first)
        return Derivatives(first.value, first.step, None, first.flags)

    def _diagnosed(self, rows: np.ndarray, first: Difference) -> Derivatives:
        """Return the derivatives of one difference each, with errors and flags from others."""
        if self.method.is_imaginary and self.order == 1:
            error = IMAGINARY_ULPS * self.epsilon * np.abs(first.value)
            return Derivatives(first.value, first.step, error, first.flags)
        # At twice the step, or at half of it where bounds leave no room.
        second = self.stencil.take(rows, 2.0 * first.step, refuse=False)
        short = second.step < 2.0 * first.step
        if short.any():
            half = self.stencil.take(rows[short], 0.5 * first.step[short], refuse=False)
            for whole, part in zip(second, half, strict=True):
                whole[short] = part
        ratio = (second.step / first.step)[:, None]
        with np.errstate(all="ignore"):
            truncation = np.abs(second.value - first.value)
            truncation /= np.abs(ratio**self.method.accuracy - 1.0)
            error = SAFETY * (truncation + first.noise)
            apart = np.abs(second.value - first.value)
            unlike = ~(apart <= UNLIKE * np.abs(first.value) + first.noise)
            error += np.where(unlike, SAFETY * apart + np.abs(first.value), 0.0)
            # An oscillation that both have missed shows at a much shorter step.
            part = PART ** (1.0 / self.order) * np.minimum(self.size[rows], 1.0)
            third = self.stencil.take(rows, part * first.step, refuse=False)
            apart = np.abs(third.value - first.value)
            missed = apart > error + self._floor(rows, third)
            error = np.where(missed, SAFETY * apart, error)
        flags = first.flags | (second.flags & Flag.NOT_FINITE)
        flags |= np.where(missed.any(axis=1), Flag.UNSETTLED, 0)
        if self.order == 1 and self.kinks:
            near, far = first, second
            if self.method.side != 0:
                both = METHODS["central"]
                near = self.stencil.take(rows, first.step, both, refuse=False)
                far = self.stencil.take(rows, 2.0 * first.step, both, refuse=False)
            flags |= _kinks(near.jump, far.jump, near.noise)
        return Derivatives(first.value, first.step, error, flags)

    def _extrapolated(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> _Limits:
        """Return limits, started again from steps of the size of x where x is in small units."""
        found = self._confirmed(rows, h, advance)
        is_small, start = second_beginning(self.lines.position[rows], h, found.step)
        self._confirm(rows, found, start, is_small, improve=True)
        return found

    def _confirmed(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> _Limits:
        """Return limits, each compared with a difference at a much shorter step."""
        found = self._limits(rows, h, advance)
        short = SHORT ** (1.0 / self.order) * found.step
        is_known = np.isfinite(found.error).any(axis=1)
        is_long = short > SHORTEST * self.size[rows]
        self._confirm(rows, found, short, is_known & is_long, improve=False)
        return found

    def _confirm(
        self, rows: np.ndarray, found: _Limits, h: np.ndarray, chosen: np.ndarray, *, improve: bool
    ) -> None:
        """Compare limits with differences at short steps, and start again there if they disagree.

        With `improve`, start again also where the short steps have less rounding error.
        """
        here = np.flatnonzero(chosen)
        if here.size == 0:
            return
        short = self.stencil.take(rows[here], h[here], METHODS["central"], refuse=False)
        with np.errstate(all="ignore"):
            value, error = found.value[here], found.error[here]
            # Where f is constant, rounding may hide a slope that is small relative to f / x.
            still = (value == 0.0) & (short.value == 0.0)
            error = np.maximum(error, np.where(still, short.noise, 0.0))
            apart = np.abs(short.value - value)
            left = found.rest[here] * (short.step / found.step[here])[:, None] ** 2
            doubt = apart > error + SAFETY * left + self._floor(rows[here], short)
            again = (doubt | (improve & (short.noise < error))).any(axis=1)
        found.error[here] = error
        if not again.any():
            return
        here, value, error, doubt, apart = (a[again] for a in (here, value, error, doubt, apart))
        fine = self._confirmed(rows[here], short.step[again], no_progress)
        with np.errstate(invalid="ignore"):
            between = np.abs(value - fine.value)
            agree = between <= error + fine.error
            # A better known limit from shorter steps is preferred. Not at the shortest steps, where
            # variations of f are noise, nor if it is exactly 0, as on the flat part of a staircase.
            better = fine.error < np.where(agree, error, between)
            better &= (fine.step > SHORTEST * self.size[rows[here]])[:, None]
            better &= agree | (fine.value != 0.0)
        unsure = ((doubt | ~agree) & ~better).any(axis=1)
        found.error[here] = np.where(doubt, np.maximum(error, apart), error)
        for whole, part in zip(found[:3], fine[:3], strict=True):
            whole[here] = np.where(better, part, whole[here])
        found.step[here] = np.where(better.any(axis=1), fine.step, found.step[here])
        found.flags[here] = np.where(better.all(axis=1), fine.flags, found.flags[here])
        found.flags[here] |= np.where(unsure, Flag.UNSETTLED, 0)

    def _floor(self, rows: np.ndarray, found: Difference) -> np.ndarray:
        """Return a bound on the error of differences by noise and by cancellation inside f."""
        gain = 1.0 / found.step[:, None] ** self.order
        rounding = CANCELLED * self.epsilon * np.abs(self.lines.base_of(rows)) * gain
        return np.asarray(CERTAIN * found.noise + rounding)

    def _limits(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> _Limits:
        lines, position = self.lines, self.lines.position[rows]
        first, one_sided = h.copy(), np.zeros(len(rows), int)
        if lines.bounds is not None:
            below, above = position - lines.bounds.low[rows], lines.bounds.high[rows] - position
            # Short central differences are better than one-sided ones if there is some room.
            closed = np.minimum(below, above) < LITTLE_ROOM * first
            one_sided = np.where(closed, np.where(above >= below, 1, -1), 0)
            room = np.where(closed, np.maximum(below, above), np.minimum(below, above))
            reach = np.where(closed, self.order, (self.order + 1) // 2)
            first = np.minimum(first, room / reach)
        shape = (len(rows), lines.base.shape[-1])
        value, error, rest = np.full((3, *shape), np.nan, np.result_type(h, np.float64))
        flags, taken = np.zeros(len(rows), int), first.copy()
        # Central first, which may show that f is finite on one side only.
        for side in (0, 1, -1):
            here = np.flatnonzero((one_sided == side) & np.isnan(error).any(axis=1))
            if here.size == 0:
                continue
            method = Method(side, 1) if side else Method(0, 2)
            limit, seen, opened = self._limit(rows[here], first[here], method, advance)
            value[here], error[here], taken[here], rest[here] = limit
            flags[here] |= seen | np.where(side, Flag.ONE_SIDED, 0)
            if side == 0:
                is_open = (opened != 0) & ~np.isfinite(limit.value).all(axis=1)
                again = here[is_open]
                one_sided[again] = opened[is_open]
                error[again], flags[again] = np.nan, Flag.NOT_FINITE
        flags |= np.where(np.isinf(error).any(axis=1), Flag.UNSETTLED, 0)
        return _Limits(value, error, rest, taken, flags)

    def _limit(
        self, rows: np.ndarray, first: np.ndarray, method: Method, advance: Advance
    ) -> tuple[Extrapolation, np.ndarray, np.ndarray]:
        """Return limits, flags, and the side on which alone f is finite, or 0."""
        lines = self.lines
        shape = (len(rows), lines.base.shape[-1])
        jump, wide_jump, noise = np.zeros((3, *shape))
        opened = np.zeros(len(rows), int)
        scatter = self.stencil.scatter_of(rows)
        # Where f never rises above its measured noise, that may be an undersampled oscillation.
        drowned = scatter > WILD * self.epsilon * np.abs(lines.base_of(rows)) + np.zeros(shape)
        drowned &= self.order == 1

        def at(chosen: np.ndarray, h: np.ndarray) -> Estimate:
            # Points outside the domain of f show in the values.
            with np.errstate(all="ignore"):
                found = self.stencil.on_side(rows[chosen], h, method, refuse=False)
            wide_jump[chosen], jump[chosen] = jump[chosen], found.jump
            rise = np.maximum(np.abs(found.value), np.abs(found.jump))
            drowned[chosen] &= (rise > 0.0) & (rise <= FAINT * found.noise)
            noise[chosen], opened[chosen] = found.noise, found.open_side
            return Estimate(found.value, found.noise)

        limit = extrapolate(
            at,
            first,
            power=method.accuracy,
            order=self.order,
            position=lines.position[rows],
            least=SHORTEST_MOVE_ULPS * lines.resolution()[rows],
            advance=advance,
        )
        flags = _kinks(jump, wide_jump, noise)
        return limit, flags | np.where(drowned.any(axis=1), Flag.UNSETTLED, 0), opened


def _kinks(jump: np.ndarray, wide_jump: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Flag lines along which the one-sided slopes do not approach each other.

    Parameters
    ----------
    jump, wide_jump : numpy.ndarray of shape (k, q)
        Differences of the one-sided slopes at a step, and at a larger one.
    noise : numpy.ndarray of shape (k, q)
        The noise of `jump`.
    """
    with np.errstate(invalid="ignore"):
        stays = np.abs(jump) > KINK * np.abs(wide_jump)
        is_kink = stays & (np.abs(jump) > CERTAIN * noise)
    return np.where(is_kink.any(axis=1), Flag.KINK, Flag.OK).astype(int)
