"""One finite difference along each of many lines, within bounds and the domain of f."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelnn._differences import Method, gain, slopes
from accelnn.gradient._lines import Lines
from accelnn.gradient._result import Flag
from accelnn.gradient._steps import Bounds, check_moves, imaginary_step, sides, size_of
from accelnn.gradient.evaluators import Advance, no_progress

__all__ = ["Difference", "Stencil"]

# With the default imaginary step, a larger imaginary part relative to f has left the domain of f.
LOST = 1e-25


class Difference(NamedTuple):
    """One difference along each of k lines.

    Attributes
    ----------
    value, noise, jump : numpy.ndarray of shape (k, q)
        The derivative; the error that rounding and noise of f make in it; and the slope above x
        less that below, 0 where it was not measured.
    step : numpy.ndarray of shape (k,)
        The step, positive.
    flags : numpy.ndarray of int of shape (k,)
        ONE_SIDED and NOT_FINITE.
    open_side : numpy.ndarray of int of shape (k,)
        1 or -1 where f is finite on that side only, otherwise 0.
    """

    value: np.ndarray
    noise: np.ndarray
    jump: np.ndarray
    step: np.ndarray
    flags: np.ndarray
    open_side: np.ndarray


class Stencil:
    """Takes finite differences of one order.

    Parameters
    ----------
    lines : Lines
        Where to differentiate.
    method, order : Method, int
        The method, unless a call names another one, and the order of the derivative.
    epsilon : float
        Machine epsilon of f and x.
    scatter : numpy.ndarray of shape (q,) or (m, q)
        A bound on the noise of f, 0 where none was measured.
    measures : bool
        Whether to estimate the noise of each difference, and its jump.
    """

    def __init__(
        self,
        lines: Lines,
        method: Method,
        order: int,
        epsilon: float,
        scatter: np.ndarray,
        *,
        measures: bool,
    ) -> None:
        self.lines, self.method, self.order, self.epsilon = lines, method, order, epsilon
        self.scatter, self.measures = scatter, measures

    def scatter_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the bound on the noise of f along some lines."""
        return self.scatter if self.scatter.ndim == 1 else self.scatter[rows]

    def take(
        self,
        rows: np.ndarray,
        h: np.ndarray,
        method: Method | None = None,
        *,
        advance: Advance = no_progress,
        refuse: bool = True,
    ) -> Difference:
        """Take one difference along each of some lines, within bounds and the domain of f.

        `refuse` raises ValueError for steps too small to move x.
        """
        lines, method = self.lines, method or self.method
        real_order = method.real_order(self.order)
        if lines.bounds is None or not real_order:
            part = self.on_side(rows, h, method, advance=advance, refuse=refuse)
            return self._rescued(rows, h, part) if np.count_nonzero(part.open_side) else part
        bounds = Bounds(*(end[rows] for end in lines.bounds))
        side, h = sides(lines.position[rows], bounds, h, method, real_order)
        found: Difference | None = None
        for chosen in np.unique(side):
            here = np.flatnonzero(side == chosen)
            turned = method if chosen == method.side else method.turned(int(chosen))
            part = self.on_side(rows[here], h[here], turned, advance=advance, refuse=refuse)
            if method.side == 0 and chosen == 0:
                part = self._rescued(rows[here], h[here], part)
            elif method.side == 0:
                part.flags[:] |= Flag.ONE_SIDED
            if here.size == len(rows):
                return part
            found = found or Difference(
                *(np.empty((len(rows), *a.shape[1:]), a.dtype) for a in part)
            )
            for whole, piece in zip(found, part, strict=True):
                whole[here] = piece
        assert found is not None  # noqa: S101 - there are rows
        return found

    def _rescued(self, rows: np.ndarray, h: np.ndarray, found: Difference) -> Difference:
        """Replace differences that have left the domain of f.

        A central one with a step below the size of x is tried first, because the domain may end at
        0; then a one-sided one.
        """
        position = np.abs(self.lines.position[rows])
        short = h * position / size_of(position)
        here = np.flatnonzero((found.open_side != 0) & (short > 0.0) & (short < h))
        if here.size:
            part = self.on_side(rows[here], short[here], self.method, refuse=False)
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
                part = self.on_side(rows[here], size, turned, refuse=False)
                lost = ~np.isfinite(found.value[here])
                for whole, piece in zip(found[:3], part[:3], strict=True):
                    whole[here] = np.where(lost, piece, whole[here])
                found.flags[here] |= Flag.ONE_SIDED
        return found

    def _fitting(self, rows: np.ndarray, h: np.ndarray, method: Method) -> np.ndarray:
        """Return steps for which there is room on the side of a method."""
        lines = self.lines
        if lines.bounds is None:
            return h
        end = lines.bounds.high if method.side > 0 else lines.bounds.low
        room = np.abs(end[rows] - lines.position[rows])
        reach = np.abs(method.points(method.real_order(self.order))).max()
        fitting: np.ndarray = np.minimum(h, room / reach)
        return fitting

    def on_side(
        self,
        rows: np.ndarray,
        h: np.ndarray,
        method: Method,
        *,
        advance: Advance = no_progress,
        refuse: bool = True,
    ) -> Difference:
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
                    # A branch cut was crossed, as left of 0 for log.
                    is_sound &= np.abs(np.imag(values)) < LOST * (1.0 + np.abs(values))
            values = np.where(is_sound, there, np.nan)
            if has_base and order:
                taken, values, base = taken[:, :-1], values[:, :-1], values[:, -1]
        elif refuse:
            check_moves(lines.position[rows], taken, h, lines.dtype)
        value = slopes(values, base, taken, method, order)
        noise, jump = np.zeros((2, *value.shape)) if self.measures else (value, value)
        flags, open_side = np.zeros((2, len(rows)), int)
        found = Difference(value, noise, jump, np.abs(h), flags, open_side)
        if order:
            self._look(found, values, taken, method)
            if self.measures:
                self._measure(found, values, base, taken, method, order, rows)
        return found

    def _look(
        self, found: Difference, values: np.ndarray, taken: np.ndarray, method: Method
    ) -> None:
        """Record where f is not finite, and on which side alone it is."""
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
        found: Difference,
        values: np.ndarray,
        base: np.ndarray,
        taken: np.ndarray,
        method: Method,
        order: int,
        rows: np.ndarray,
    ) -> None:
        """Estimate the noise of a difference, and the jump between the one-sided slopes."""
        with np.errstate(all="ignore"):
            largest = np.maximum(np.abs(values).max(axis=1), np.abs(base))
            worth = np.maximum(self.epsilon * largest, self.scatter_of(rows))
            found.noise[...] = worth * gain(taken, method, order)[:, None]
            if order == 1 and method.side == 0 and not method.is_imaginary:
                rises = [(values[:, k] - base) / taken[:, k, None] for k in (0, 1)]
                found.jump[...] = rises[0] - rises[1]
                # Where f is curved, rounding of x inside it changes the slope.
                curved = (
                    np.abs(found.jump) * np.abs(self.lines.position[rows] / found.step)[:, None]
                )
                found.noise[...] += self.epsilon * np.where(np.isfinite(curved), curved, 0.0)
