"""Derivatives along lines by any method, of any order, and what is known of them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from accelnn._differences import METHODS, Method, gain, slopes
from accelnn.gradient._extrapolation import Estimate, Extrapolation, extrapolate
from accelnn.gradient._lines import Lines
from accelnn.gradient._precision import SAFETY, WILD
from accelnn.gradient._result import Flag
from accelnn.gradient._steps import (
    Bounds,
    check_moves,
    imaginary_step,
    second_beginning,
    sides,
    size_of,
    sizes_beside,
)
from accelnn.gradient.evaluators import Advance, no_progress

__all__ = ["Derivatives", "differentiate"]

# An extrapolation starts on one side where the other has not this part of the first step.
LITTLE_ROOM = 1e-3
# It ends with a move of this many units in the last place, which still has the length asked for.
SHORTEST_MOVE_ULPS = 1024.0
# Noise that was measured, in standard deviations: values differ by more now and then.
NOISE = 5.0
# Rounding of an imaginary step, in units of the last place of the derivative.
IMAGINARY_ULPS = 8.0
# A larger part of f is no imaginary part that comes from the default step.
LOST = 1e-25
# The slopes of the two sides of a smooth curve part in proportion to the step, those at a kink by
# as much at any step. This lies between one half and one.
KINK = 0.75
# Units of rounding below which slopes do not tell a kink.
CERTAIN = 16.0
# A step that is such a part of x in every coordinate may have missed what f does at the size of x.
FAR_LARGER = 0.5
# A limit is compared with a difference at this part of its last step, if that is a larger part of
# x: rounding would hide what is to be seen there.
SHORT = 1e-3
SHORTEST = 1e-8
# Rounding of f where terms cancel inside it, in units of that of its value.
CANCELLED = 200.0
# In units of noise, what is little beside it.
FAINT = 10.0
# One difference is compared with another at this part of its step, and of x where that is small.
PART = 0.03
# Differences at two steps that are so unlike tell no more than the size of the error.
UNLIKE = 0.1


class Derivatives(NamedTuple):
    """Derivatives of q values along m lines, of shape (m, q), and what is known of them.

    `error` is None where nobody asked.
    """

    value: np.ndarray
    step: np.ndarray
    error: np.ndarray | None
    flags: np.ndarray


class _Limits(NamedTuple):
    """Derivatives, and by how much the last differences differ from them."""

    value: np.ndarray
    error: np.ndarray
    rest: np.ndarray
    step: np.ndarray
    flags: np.ndarray


class _Difference(NamedTuple):
    """One difference along each of k lines.

    Attributes
    ----------
    value, noise, jump : numpy.ndarray of shape (k, q)
        The derivative; what the last place of f, or its noise, is worth in it; and by how much the
        slope above x is larger than that below, 0 where that was not seen.
    step : numpy.ndarray of shape (k,)
        The length of the step.
    flags : numpy.ndarray of int of shape (k,)
        Which of ONE_SIDED and NOT_FINITE.
    open_side : numpy.ndarray of int of shape (k,)
        Where f is finite on one side only, that side.
    """

    value: np.ndarray
    noise: np.ndarray
    jump: np.ndarray
    step: np.ndarray
    flags: np.ndarray
    open_side: np.ndarray


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
        Where.
    method, order : Method, int
        How, and how often.
    h : numpy.ndarray of shape (m,)
        Steps; of an extrapolation the first.
    epsilon : float
        Machine epsilon of f and x.
    noise : numpy.ndarray of shape (q,) or (m, q), optional
        The standard deviation of the noise of f, where that is known.
    diagnose, kinks : bool
        Whether to estimate errors, and then to look for kinks too, which takes more evaluations.
    advance : callable
        Called with the number of lines that are done.
    """
    m, q = len(lines), lines.base.shape[-1]
    engine = _Engine(lines, method, order, epsilon, noise, looks=diagnose, kinks=kinks)
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
        # Infinite is no derivative either.
        found.value[~is_finite] = np.nan
    if diagnose and not (method.is_extrapolated or method.is_imaginary):
        moves = lines.position != 0.0
        size = np.abs(lines.position[moves])
        if size.size and (np.abs(h[moves]) / FAR_LARGER > size).all():
            found.flags[:] |= Flag.LARGE_STEP
    return found


class _Engine:
    """Takes differences, and makes derivatives of them."""

    def __init__(
        self,
        lines: Lines,
        method: Method,
        order: int,
        epsilon: float,
        noise: np.ndarray | None,
        *,
        looks: bool,
        kinks: bool,
    ) -> None:
        self.lines, self.method, self.order, self.epsilon = lines, method, order, epsilon
        self.scatter = np.zeros(lines.base.shape[-1]) if noise is None else NOISE * noise
        # Whether anybody asks what is known of differences.
        self.looks, self.kinks = looks or method.is_extrapolated, kinks

    @cached_property
    def size(self) -> np.ndarray:
        """The size of x along each line."""
        return sizes_beside(self.lines.position)

    def derivatives(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> Derivatives:
        """Return the derivatives along some lines."""
        if self.method.is_extrapolated:
            limits = self._extrapolated(rows, h, advance)
            return Derivatives(limits.value, limits.step, limits.error, limits.flags)
        first = self.take(rows, h, advance=advance)
        if self.looks:
            return self._diagnosed(rows, first)
        return Derivatives(first.value, first.step, None, first.flags)

    def _diagnosed(self, rows: np.ndarray, first: _Difference) -> Derivatives:
        """Return derivatives by one difference each with what others say of them."""
        if self.method.is_imaginary and self.order == 1:
            error = IMAGINARY_ULPS * self.epsilon * np.abs(first.value)
            return Derivatives(first.value, first.step, error, first.flags)
        # At twice the step, or at half of it where bounds leave no room.
        second = self.take(rows, 2.0 * first.step, refuse=False)
        short = second.step < 2.0 * first.step
        if short.any():
            half = self.take(rows[short], 0.5 * first.step[short], refuse=False)
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
            # A wave that both have missed shows at a much shorter step.
            part = PART ** (1.0 / self.order) * np.minimum(self.size[rows], 1.0)
            third = self.take(rows, part * first.step, refuse=False)
            apart = np.abs(third.value - first.value)
            missed = apart > error + self._floor(rows, third)
            error = np.where(missed, SAFETY * apart, error)
        flags = first.flags | (second.flags & Flag.NOT_FINITE)
        flags |= np.where(missed.any(axis=1), Flag.UNSETTLED, 0)
        if self.order == 1 and self.kinks:
            near, far = first, second
            if self.method.side != 0:
                both = METHODS["central"]
                near = self.take(rows, first.step, both, refuse=False)
                far = self.take(rows, 2.0 * first.step, both, refuse=False)
            flags |= _kinks(near.jump, far.jump, near.noise)
        return Derivatives(first.value, first.step, error, flags)

    def _extrapolated(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> _Limits:
        """Return limits; where x is in small units, what f does at the size of x counts too."""
        found = self._confirmed(rows, h, advance)
        is_small, start = second_beginning(self.lines.position[rows], h, found.step)
        self._confirm(rows, found, start, is_small, improve=True)
        return found

    def _confirmed(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> _Limits:
        """Return limits, each of which a difference at a much shorter step has confirmed."""
        found = self._limits(rows, h, advance)
        short = SHORT ** (1.0 / self.order) * found.step
        is_known = np.isfinite(found.error).any(axis=1)
        is_long = short > SHORTEST * self.size[rows]
        self._confirm(rows, found, short, is_known & is_long, improve=False)
        return found

    def _confirm(
        self, rows: np.ndarray, found: _Limits, h: np.ndarray, chosen: np.ndarray, *, improve: bool
    ) -> None:
        """Compare limits with differences at short steps, and begin again there if they disagree.

        With `improve` also where there is less rounding.
        """
        here = np.flatnonzero(chosen)
        if here.size == 0:
            return
        short = self.take(rows[here], h[here], METHODS["central"], refuse=False)
        with np.errstate(all="ignore"):
            value, error = found.value[here], found.error[here]
            # Where f moves nowhere, rounding may hide a slope that is small beside f / x.
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
            # What f does at short steps counts, where that can be told: waves that are shorter yet
            # are noise, and a slope of exactly 0 is that of one step of a staircase.
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

    def _floor(self, rows: np.ndarray, found: _Difference) -> np.ndarray:
        """Return what differences may be off by for noise, and where terms cancel inside f."""
        gain = 1.0 / found.step[:, None] ** self.order
        rounding = CANCELLED * self.epsilon * np.abs(self.lines.base_of(rows)) * gain
        return np.asarray(CERTAIN * found.noise + rounding)

    def _limits(self, rows: np.ndarray, h: np.ndarray, advance: Advance) -> _Limits:
        lines, position = self.lines, self.lines.position[rows]
        first, one_sided = h.copy(), np.zeros(len(rows), int)
        if lines.bounds is not None:
            below, above = position - lines.bounds.low[rows], lines.bounds.high[rows] - position
            # Where there is some room on both sides, small differences across both are better.
            closed = np.minimum(below, above) < LITTLE_ROOM * first
            one_sided = np.where(closed, np.where(above >= below, 1, -1), 0)
            room = np.where(closed, np.maximum(below, above), np.minimum(below, above))
            reach = np.where(closed, self.order, (self.order + 1) // 2)
            first = np.minimum(first, room / reach)
        shape = (len(rows), lines.base.shape[-1])
        value, error, rest = np.full((3, *shape), np.nan, np.result_type(h, np.float64))
        flags, taken = np.zeros(len(rows), int), first.copy()
        # Both sides first: it may turn out that f is finite on one of them only.
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
        """Return limits, flags of kinks and of nothing but noise, and which side alone is open."""
        lines = self.lines
        shape = (len(rows), lines.base.shape[-1])
        jump, wide_jump, noise = np.zeros((3, *shape))
        opened = np.zeros(len(rows), int)
        scatter = self.scatter if self.scatter.ndim == 1 else self.scatter[rows]
        # What never moves by more than noise may be a wave between the points where that was found.
        drowned = scatter > WILD * self.epsilon * np.abs(lines.base_of(rows)) + np.zeros(shape)
        drowned &= self.order == 1

        def at(chosen: np.ndarray, h: np.ndarray) -> Estimate:
            # A step may leave the domain of f, which shows in the values.
            with np.errstate(all="ignore"):
                found = self._on_side(rows[chosen], h, method, refuse=False)
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

    def take(
        self,
        rows: np.ndarray,
        h: np.ndarray,
        method: Method | None = None,
        *,
        advance: Advance = no_progress,
        refuse: bool = True,
    ) -> _Difference:
        """Take one difference along each of some lines, within bounds and the domain of f."""
        lines, method = self.lines, method or self.method
        real_order = method.real_order(self.order)
        if lines.bounds is None or not real_order:
            part = self._on_side(rows, h, method, advance=advance, refuse=refuse)
            return self._rescued(rows, h, part) if np.count_nonzero(part.open_side) else part
        bounds = Bounds(*(end[rows] for end in lines.bounds))
        side, h = sides(lines.position[rows], bounds, h, method, real_order)
        found: _Difference | None = None
        for chosen in np.unique(side):
            here = np.flatnonzero(side == chosen)
            turned = method if chosen == method.side else method.turned(int(chosen))
            part = self._on_side(rows[here], h[here], turned, advance=advance, refuse=refuse)
            if method.side == 0 and chosen == 0:
                part = self._rescued(rows[here], h[here], part)
            elif method.side == 0:
                part.flags[:] |= Flag.ONE_SIDED
            if here.size == len(rows):
                return part
            found = found or _Difference(
                *(np.empty((len(rows), *a.shape[1:]), a.dtype) for a in part)
            )
            for whole, piece in zip(found, part, strict=True):
                whole[here] = piece
        assert found is not None  # noqa: S101 - there are rows
        return found

    def _rescued(self, rows: np.ndarray, h: np.ndarray, found: _Difference) -> _Difference:
        """Where f is finite on one side only, take a difference there instead.

        Or one across both sides, as short as x is, if it is the step that went beyond 0.
        """
        position = np.abs(self.lines.position[rows])
        short = h * position / size_of(position)
        here = np.flatnonzero((found.open_side != 0) & (short > 0.0) & (short < h))
        if here.size:
            part = self._on_side(rows[here], short[here], self.method, refuse=False)
            lost = ~np.isfinite(found.value[here]) & np.isfinite(part.value)
            for whole, piece in zip(found[:3], part[:3], strict=True):
                whole[here] = np.where(lost, piece, whole[here])
            found.step[here] = short[here]
            found.open_side[here] = np.where(part.open_side == 0, 0, found.open_side[here])
        for side in (1, -1):
            here = np.flatnonzero(found.open_side == side)
            if here.size:
                turned = self.method.turned(side)
                size = self._fitting(rows[here], h[here], turned)
                part = self._on_side(rows[here], size, turned, refuse=False)
                lost = ~np.isfinite(found.value[here])
                for whole, piece in zip(found[:3], part[:3], strict=True):
                    whole[here] = np.where(lost, piece, whole[here])
                found.flags[here] |= Flag.ONE_SIDED
        return found

    def _fitting(self, rows: np.ndarray, h: np.ndarray, method: Method) -> np.ndarray:
        """Return steps that bounds have room for on the side of a method."""
        lines = self.lines
        if lines.bounds is None:
            return h
        end = lines.bounds.high if method.side > 0 else lines.bounds.low
        room = np.abs(end[rows] - lines.position[rows])
        reach = np.abs(method.points(method.real_order(self.order))).max()
        fitting: np.ndarray = np.minimum(h, room / reach)
        return fitting

    def _on_side(
        self,
        rows: np.ndarray,
        h: np.ndarray,
        method: Method,
        *,
        advance: Advance = no_progress,
        refuse: bool = True,
    ) -> _Difference:
        """Take one difference along each of some lines, wherever its points are."""
        lines, order = self.lines, method.real_order(self.order)
        points, base, has_base = method.points(order), lines.base_of(rows), method.takes_base(order)
        t, imaginary = h[:, None] * points, None
        if method.is_imaginary:
            imaginary = h if order == 0 else imaginary_step(lines.position[rows])
            if has_base and order:
                t = np.concatenate([t, np.zeros((len(rows), 1))], axis=1)
        taken, values = lines.at(rows, t, imaginary, advance)
        if imaginary is not None:
            with np.errstate(all="ignore"):
                there = np.imag(values) / imaginary[:, None, None]
                is_sound = np.isfinite(values)
                if order:
                    # Beyond a branch point, as left of 0 for log, it is no derivative.
                    is_sound &= np.abs(np.imag(values)) < LOST * (1.0 + np.abs(values))
            values = np.where(is_sound, there, np.nan)
            if has_base and order:
                taken, values, base = taken[:, :-1], values[:, :-1], values[:, -1]
        elif refuse:
            check_moves(lines.position[rows], taken, h, lines.dtype)
        value = slopes(values, base, taken, method, order)
        noise, jump = np.zeros((2, *value.shape)) if self.looks else (value, value)
        flags, open_side = np.zeros((2, len(rows)), int)
        found = _Difference(value, noise, jump, np.abs(h), flags, open_side)
        if order:
            self._look(found, values, taken, method)
            if self.looks:
                self._measure(found, values, base, taken, method, order, rows)
        return found

    def _look(
        self, found: _Difference, values: np.ndarray, taken: np.ndarray, method: Method
    ) -> None:
        """Note where f is not finite, and whether that is on one side only."""
        is_finite = np.isfinite(values)
        if np.count_nonzero(is_finite) == is_finite.size:
            return
        found.flags[~is_finite.all(axis=(1, 2))] |= Flag.NOT_FINITE
        if method.side == 0 and not method.is_imaginary:
            up = (taken > 0.0)[..., None]
            above, below = ((is_finite | ~part).all(axis=1) for part in (up, ~up))
            found.open_side[(above & ~below).any(axis=1)] = 1
            found.open_side[(below & ~above).any(axis=1)] = -1

    def _measure(
        self,
        found: _Difference,
        values: np.ndarray,
        base: np.ndarray,
        taken: np.ndarray,
        method: Method,
        order: int,
        rows: np.ndarray,
    ) -> None:
        """See what values say of rounding, and of the two sides of x."""
        with np.errstate(all="ignore"):
            largest = np.maximum(np.abs(values).max(axis=1), np.abs(base))
            scatter = self.scatter if self.scatter.ndim == 1 else self.scatter[rows]
            worth = np.maximum(self.epsilon * largest, scatter)
            found.noise[...] = worth * gain(taken, method, order)[:, None]
            if order == 1 and method.side == 0 and not method.is_imaginary:
                rises = [(values[:, k] - base) / taken[:, k, None] for k in (0, 1)]
                found.jump[...] = rises[0] - rises[1]
                # Where f curves, rounding of x inside it moves the slope.
                curved = (
                    np.abs(found.jump) * np.abs(self.lines.position[rows] / found.step)[:, None]
                )
                found.noise[...] += self.epsilon * np.where(np.isfinite(curved), curved, 0.0)


def _kinks(jump: np.ndarray, wide_jump: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return flags of lines along which the slopes of the two sides do not come together.

    Parameters
    ----------
    jump, wide_jump : numpy.ndarray of shape (k, q)
        At a step, and at a larger one.
    noise : numpy.ndarray of shape (k, q)
        At the first.
    """
    with np.errstate(invalid="ignore"):
        stays = np.abs(jump) > KINK * np.abs(wide_jump)
        is_kink = stays & (np.abs(jump) > CERTAIN * noise)
    return np.where(is_kink.any(axis=1), Flag.KINK, Flag.OK).astype(int)
