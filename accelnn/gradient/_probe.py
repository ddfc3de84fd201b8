"""Comparing a gradient with finite differences at one place, as closely as rounding allows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_floating
from accelnn.backends import Backend
from accelnn.gradient._numerical import scalar_value
from accelnn.gradient._purity import can_be_moved, require_pure
from accelnn.gradient._steps import machine_epsilon

__all__ = ["Comparison", "Place", "Probe"]

# Where to compare: along one coordinate, or along a move through many.
Place: TypeAlias = tuple[int, ...] | Array

# A value of f is good to a few units in the last place, and two of them enter a difference.
NOISE_ULPS = 8.0
# Where the noise of f was measured, its standard deviation times √2 for a difference, four times.
NOISE_SPREADS = 6.0
# Noise that is this part of an error may not double.
DROWNING = 0.1
# Of the smallest steps, the ones that tell a kink.
LAST_STEPS = 3
# A move this many units in the last place long still has the direction that was asked for.
SHORTEST_MOVE_ULPS = 64.0
# Enough to get from the first step to the shortest move, but where x is 0 and nothing rounds.
MOST_HALVINGS = 60


class Comparison(NamedTuple):
    """Two derivatives at one place, and how far apart they may be."""

    analytic: float
    numerical: float
    tolerance: float
    noise_floor: float
    # The slopes on the two sides of x.
    left: float
    right: float

    @property
    def error(self) -> float:
        """Their absolute difference."""
        return abs(self.analytic - self.numerical)

    @property
    def severity(self) -> float:
        """How many tolerances off; what is not finite on either side is the worst."""
        if self.error == 0.0:
            return 0.0
        if not math.isfinite(self.error) or self.tolerance == 0.0:
            return math.inf
        return self.error / self.tolerance


class Probe:
    """Compares analytic and numerical change at one place at a time."""

    def __init__(
        self,
        backend: Backend,
        f: Callable[[Array], Any],
        grad: Callable[[Array], Array] | ArrayLike,
        given: Any,
        x: Array,
        rtol: float | None,
    ) -> None:
        self.backend, self.f, self.given = backend, f, given
        self.in_place = can_be_moved(backend, given)
        self.x = backend.xp.asarray(x, copy=True)
        if not self.in_place:
            require_pure(backend, f, given, self._copy())
        self.gradient = self._gradient(grad)
        if tuple(self.gradient.shape) != tuple(x.shape):
            msg = f"the gradient has shape {tuple(self.gradient.shape)}, x has {tuple(x.shape)}"
            raise ValueError(msg)
        value = self._evaluate(self.x)
        self.value = self._number(value)
        value_dtype = getattr(value, "dtype", "float64")
        self.epsilon = machine_epsilon(backend, x.dtype, value_dtype, self.gradient.dtype)
        self.step = self.epsilon ** (1 / 3)
        self.rtol = 10.0 * math.sqrt(self.epsilon) if rtol is None else rtol

    def indices(self, flat: np.ndarray) -> Iterator[tuple[int, ...]]:
        """Yield the index of each of the coordinates."""
        for place in flat:
            yield tuple(int(i) for i in np.unravel_index(place, tuple(self.x.shape)))

    def direction(self, flat: np.ndarray, draw: np.random.Generator) -> Array:
        """Return a random move of these coordinates, each in proportion to its size."""
        x = self.backend.to_numpy(self.x).astype(np.float64).ravel()
        size = np.maximum(np.abs(x[flat]), 1.0 / math.sqrt(x.size))
        move = np.zeros(x.size)
        move[flat] = self.step * size * draw.standard_normal(flat.size)
        return self.backend.asarray(move.reshape(tuple(self.x.shape)), dtype=self.x.dtype)

    def compare(self, place: Place) -> Comparison:
        """Compare with one central difference."""
        return self._difference(self._move(place))

    def look_closer(self, place: Place, first: Comparison) -> Comparison:
        """Return a comparison that agrees at some smaller step, or else one that shows the error.

        A wrong gradient stays wrong however small the step. Truncation does not, nor the error
        from a step out of the domain of f.
        """
        if not math.isfinite(first.analytic):
            return first
        move = self._move(place)
        coarse = best = self._difference(move, spread=self.spread)
        if coarse.severity <= 1.0:
            return coarse
        tried = [coarse]
        for halvings in range(1, MOST_HALVINGS):
            fraction = 0.5**halvings
            if self._too_short(move, fraction):
                break
            fine = self._difference(move, fraction=fraction, spread=self.spread)
            smooth = (4.0 * fine.numerical - coarse.numerical) / 3.0
            extrapolated = fine._replace(numerical=smooth)
            for comparison in (fine, extrapolated):
                if comparison.severity <= 1.0:
                    return comparison
            if halvings == 1 or not math.isfinite(best.error):
                best = extrapolated if math.isfinite(extrapolated.error) else fine
            tried.append(fine)
            # A still smaller step would drown the error instead of showing where it comes from.
            if fine.noise_floor > DROWNING * fine.error:
                break
            coarse = fine
        kinked = _between_the_sides(tried[-LAST_STEPS:])
        return kinked if kinked.severity <= 1.0 else best

    def discrepancy(self, move: Array) -> float:
        """Return by how much the change of f along `move` was predicted wrongly."""
        error = self._difference(move).error * self._length(move)
        return math.inf if math.isnan(error) else error

    def _move(self, place: Place) -> Array:
        """Return a move as long as one step of a central difference."""
        if not isinstance(place, tuple):
            return place
        move = self.backend.zeros(tuple(self.x.shape), self.x.dtype)
        move[place] = self.step * max(1.0, abs(self._number(self.x[place])))
        return move

    def _difference(
        self, move: Array, *, fraction: float = 1.0, spread: float | None = None
    ) -> Comparison:
        xp = self.backend.xp
        upper, lower = self._symmetric(fraction * move)
        width = upper - lower
        length = self._length(width)
        # Only coordinates that move count: 0 * inf would be NaN.
        moving = xp.where(width != 0, self.gradient, xp.zeros_like(self.gradient))
        with np.errstate(over="ignore", invalid="ignore"):
            analytic = self._number(xp.sum(moving * width)) / length
        above, below = self._value(upper), self._value(lower)
        numerical = (above - below) / length
        unit = self.epsilon * max(abs(above), abs(below))
        noise = NOISE_ULPS * unit if spread is None else max(unit, NOISE_SPREADS * spread)
        noise /= length
        tolerance = self.rtol * max(abs(analytic), abs(numerical)) + noise
        left, right = (2.0 * d / length for d in (self.value - below, above - self.value))
        return Comparison(analytic, numerical, tolerance, noise, left, right)

    def _symmetric(self, move: Array) -> tuple[Array, Array]:
        """Return x + move and x - move, rounded so that x is their middle.

        Otherwise their difference would be the derivative somewhere beside x.
        """
        move = (self.x + move) - self.x
        move = self.x - (self.x - move)
        return self.x + move, self.x - move

    @functools.cached_property
    def spread(self) -> float:
        """How far values of f scatter about a smooth curve: its rounding noise.

        Third differences of values close together leave nothing of a smooth function; noise of
        standard deviation σ gives them the variance 20 σ².
        """
        everything = np.arange(math.prod(self.x.shape))
        move = self.step * self.direction(everything, np.random.default_rng(0))
        nearby = [self._value(self.x + k * move) for k in range(-8, 9)]
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.sqrt(np.mean(np.diff(nearby, 3) ** 2) / 20.0))
        return spread if math.isfinite(spread) else 0.0

    def _too_short(self, move: Array, fraction: float) -> bool:
        xp = self.backend.xp
        position = xp.where(move != 0, self.x, xp.zeros_like(self.x))
        epsilon = machine_epsilon(self.backend, self.x.dtype)
        return fraction * self._length(move) < (
            SHORTEST_MOVE_ULPS * epsilon * self._length(position)
        )

    def _length(self, move: Array) -> float:
        return float(np.linalg.norm(self.backend.to_numpy(move).astype(np.float64)))

    def _gradient(self, grad: Callable[[Array], Array] | ArrayLike) -> Array:
        if not callable(grad):
            return as_floating(self.backend, grad, "gradient")
        point = self.given if self.in_place else self._copy()
        try:
            # A copy, because it may be x itself.
            return self.backend.xp.asarray(
                as_floating(self.backend, grad(point), "gradient"), copy=True
            )
        finally:
            if self.in_place:
                self.given[...] = self.x

    def _value(self, point: Array) -> float:
        # The step may leave the domain of f; that shows in the value.
        with np.errstate(all="ignore"):
            return self._number(self._evaluate(point))

    def _evaluate(self, point: Array) -> Any:
        if not self.in_place:
            return scalar_value(self.backend, self.f(self.backend.xp.asarray(point, copy=True)))
        try:
            self.given[...] = point
            return scalar_value(self.backend, self.f(self.given))
        finally:
            self.given[...] = self.x

    def _copy(self) -> Array:
        return self.backend.xp.asarray(self.x, copy=True)

    def _number(self, x: Any) -> float:
        return float(self.backend.to_numpy(x))


def _between_the_sides(tried: list[Comparison]) -> Comparison:
    """Widen the last tolerance by what the slopes on the two sides of x leave open.

    Curvature parts them in proportion to the step, so that it is extrapolated away. Around a kink
    they stay apart, and the derivative may be any of them.
    """
    last = tried[-1]
    sides = np.array([(comparison.left, comparison.right) for comparison in tried])
    with np.errstate(over="ignore", invalid="ignore"):
        straight = 2.0 * sides[1:] - sides[:-1]
        openings = [np.max(np.abs(s - last.numerical)) for s in (sides, straight) if s.size]
    # A slope on one side is twice as noisy as one across both.
    opening = float(min(openings)) + last.noise_floor
    return last._replace(tolerance=last.tolerance + opening) if math.isfinite(opening) else last
