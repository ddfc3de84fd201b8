"""Derivatives along single coordinates, by any method, and what is known of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn._validation import on_host
from accelnn.gradient._bounds import Bounds
from accelnn.gradient._diagnosis import (
    SAFETY,
    flag_kinks,
    flag_not_finite,
    flag_one_sided,
    rounding,
    side_jump,
    truncation,
)
from accelnn.gradient._extrapolation import Estimate, extrapolate
from accelnn.gradient._noise import measure_noise
from accelnn.gradient._result import Flag
from accelnn.gradient._schemes import Scheme, difference_scheme
from accelnn.gradient._steps import machine_epsilon, step_sizes
from accelnn.gradient.evaluators import Advance, Start, no_progress

__all__ = ["Derivatives", "differentiate"]

# An extrapolation starts on one side where the other has not this part of the first step.
LITTLE_ROOM = 1e-3
# It ends with a move of this many units in the last place, which still has the length asked for.
SHORTEST_MOVE_ULPS = 1024.0
# Noise that was measured, in standard deviations: values differ by more now and then.
NOISE = 3.0
# Rounding of an imaginary step, in units of the last place of the derivative.
IMAGINARY_ULPS = 8.0


class Derivatives(NamedTuple):
    """Derivatives of f along n coordinates, on the first axis, and what is known of them.

    `error` and `flags` are None where nobody asked.
    """

    value: Array
    step: Array
    error: np.ndarray | None = None
    flags: np.ndarray | None = None


def differentiate(
    start: Start,
    x: Array,
    *,
    method: str,
    step: float | ArrayLike | None,
    bounds: Bounds | None,
    diagnose: bool,
    advance: Advance,
) -> Derivatives:
    """Move one coordinate of `x` after the other.

    Parameters
    ----------
    start : Start
        f, and how to evaluate it.
    x : array of shape (n,)
        The point, flat and floating; it shares no memory with what is moved.
    method, step, bounds
        As of `accelnn.numerical_gradient`; bounds of shape (n,), steps one or n.
    diagnose : bool
        Whether to estimate errors and look for flags, which takes more evaluations.
    advance : callable
        Called with the number of coordinates that are done.
    """
    backend = start.evaluator.backend
    epsilon = machine_epsilon(backend, x.dtype, getattr(start.base, "dtype", "float64"))
    h = step_sizes(backend, x, method=method, step=step, epsilon=epsilon)
    shape = (x.shape[0], *getattr(start.base, "shape", ()))
    if 0 in shape:
        nothing = np.zeros((x.shape[0], math.prod(shape[1:])))
        flags = np.zeros(x.shape[0], int)
        return Derivatives(backend.zeros(shape, x.dtype), h, nothing, flags)
    if method == "richardson":
        return _extrapolated(start, x, h, bounds, epsilon, advance)
    scheme = difference_scheme(backend, x, h, method, bounds=bounds, step=step)
    values = _evaluate(start, scheme, advance=advance)
    value = scheme.derivatives(values, start.base, x.dtype)
    if not diagnose:
        return Derivatives(value, scheme.width)
    if method == "complex":
        found = on_host(backend, value).reshape(x.shape[0], -1)
        error = IMAGINARY_ULPS * epsilon * np.abs(found)
        return Derivatives(value, scheme.width, error, flag_not_finite(found))
    return _diagnosed(start, x, h, bounds, epsilon, scheme, values, value)


def _diagnosed(
    start: Start,
    x: Array,
    h: Array,
    bounds: Bounds | None,
    epsilon: float,
    scheme: Scheme,
    values: Array,
    value: Array,
) -> Derivatives:
    """Return derivatives with what differences say at twice the step, and on both sides."""
    backend, method = scheme.backend, scheme.method
    wide = difference_scheme(backend, x, 2.0 * h, method, bounds=bounds)
    wide_values = _evaluate(start, wide)
    sides = [(scheme, values), (wide, wide_values)]
    if method != "central":
        central = [
            difference_scheme(backend, x, size, "central", bounds=bounds) for size in (h, 2.0 * h)
        ]
        sides = [(side, _evaluate(start, side)) for side in central]
    seen = [_on_host(side, side_values) for side, side_values in sides]
    base, position = on_host(backend, start.base).reshape(-1), on_host(backend, x)
    jump, wide_jump = (
        side_jump(side, position, side_seen, base)
        for (side, _), side_seen in zip(sides, seen, strict=True)
    )
    scatter = NOISE * measure_noise(start, x, bounds)
    noise = rounding(sides[0][0], seen[0], base, epsilon, scatter)
    found = on_host(backend, value).reshape(x.shape[0], -1)
    wide_found = on_host(backend, wide.derivatives(wide_values, start.base, x.dtype))
    error = truncation(scheme, found, wide, wide_found.reshape(found.shape))
    error = error + SAFETY * rounding(scheme, _on_host(scheme, values), base, epsilon, scatter)
    flags = flag_kinks(jump, wide_jump, noise) | flag_not_finite(found, *seen)
    return Derivatives(value, scheme.width, error, flags | flag_one_sided(scheme))


def _evaluate(start: Start, scheme: Scheme, advance: Advance = no_progress) -> Array:
    columns = np.arange(scheme.moved.shape[0])[:, None]
    return start.evaluator(columns, scheme.moved[..., None], advance)


def _on_host(scheme: Scheme, values: Array) -> np.ndarray:
    """Return values of f as an array of shape (n, p, q)."""
    rows, points = tuple(scheme.moved.shape)
    return on_host(scheme.backend, values).reshape(rows, points, -1)


def _extrapolated(
    start: Start, x: Array, h: Array, bounds: Bounds | None, epsilon: float, advance: Advance
) -> Derivatives:
    """Extrapolate on the host, where it is decided how far to go."""
    backend = start.evaluator.backend
    first, position = on_host(backend, h), on_host(backend, x)
    one_sided = np.zeros(len(first), bool)
    if bounds is not None:
        below, above = (on_host(backend, room) for room in bounds.room(x))
        # Where there is some room on both sides, small differences across both are better.
        one_sided = np.minimum(below, above) < LITTLE_ROOM * first
        room = np.where(one_sided, np.maximum(below, above), np.minimum(below, above))
        first = np.minimum(first, room)
    shape = tuple(getattr(start.base, "shape", ()))
    value, error = (np.full((len(first), math.prod(shape)), np.nan) for _ in range(2))
    flags, taken = np.where(one_sided, Flag.ONE_SIDED, Flag.OK).astype(int), first.copy()
    scatter = measure_noise(start, x, bounds)
    for method, is_here in (("central", ~one_sided), ("forward", one_sided)):
        rows = np.flatnonzero(is_here)
        if rows.size == 0:
            continue
        side = _Side(start, x, rows, method, bounds, epsilon, scatter)
        found = extrapolate(
            side,
            first[rows],
            power=2 if method == "central" else 1,
            position=position[rows],
            least=SHORTEST_MOVE_ULPS * np.spacing(np.abs(backend.to_numpy(x)[rows])),
            advance=advance,
        )
        value[rows], error[rows], taken[rows] = found
        flags[rows] |= flag_kinks(side.jump, side.wide_jump, side.noise)
    flags |= flag_not_finite(value)
    result = backend.asarray(value.reshape(len(first), *shape), x.dtype)
    return Derivatives(result, backend.asarray(taken, x.dtype), error, flags)


class _Side:
    """Differences of one method along some coordinates, for an extrapolation."""

    def __init__(
        self,
        start: Start,
        x: Array,
        rows: np.ndarray,
        method: str,
        bounds: Bounds | None,
        epsilon: float,
        scatter: np.ndarray,
    ) -> None:
        self.start, self.rows, self.method, self.epsilon = start, rows, method, epsilon
        self.scatter = scatter
        backend = start.evaluator.backend
        self.x = backend.xp.take(x, backend.asarray(rows))
        self.bounds = bounds and bounds.take(backend, rows)
        self.position, self.base = (
            on_host(backend, self.x),
            on_host(backend, start.base).reshape(-1),
        )
        self.jump, self.wide_jump, self.noise = np.zeros((3, len(rows), self.base.size))

    def __call__(self, chosen: np.ndarray, h: np.ndarray) -> Estimate:
        """Return differences along some of the rows."""
        backend = self.start.evaluator.backend
        x = backend.xp.take(self.x, backend.asarray(chosen))
        bounds = self.bounds and self.bounds.take(backend, chosen)
        scheme = difference_scheme(
            backend, x, backend.asarray(h, x.dtype), self.method, bounds=bounds
        )
        # A step may leave the domain of f, which shows in the values.
        with np.errstate(all="ignore"):
            moved = self.start.evaluator(self.rows[chosen][:, None], scheme.moved[..., None])
        values = _on_host(scheme, moved)
        with np.errstate(all="ignore"):
            other = values[:, 1] if self.method == "central" else self.base
            width = on_host(backend, scheme.width)[:, None]
            slopes = (values[:, 0] - other) / width
        noise = rounding(scheme, values, self.base, self.epsilon, self.scatter)
        self.wide_jump[chosen], self.noise[chosen] = self.jump[chosen], noise
        if self.method == "central":
            position = self.position[chosen]
            self.jump[chosen] = side_jump(scheme, position, values, self.base)
        return Estimate(slopes, noise)
