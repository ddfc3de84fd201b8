"""Comparing a gradient with finite differences at one place, as closely as rounding allows."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_floating, as_number, as_scalar, on_host
from accelnn.backends import Backend, dtype_name
from accelnn.errors import ImpureFunctionError
from accelnn.gradient._foreign import adopt
from accelnn.gradient._noise import STEPS, noise_along
from accelnn.gradient._purity import (
    can_be_moved,
    is_compiled,
    require_pure,
    require_response,
)
from accelnn.gradient._steps import machine_epsilon

__all__ = ["Comparison", "Place", "Probe", "severity"]

# Where to compare: along one coordinate, or along a move through many.
Place: TypeAlias = tuple[int, ...] | Array

# A value of f is good to a few units in the last place, and two of them enter a difference.
NOISE_ULPS = 8.0
# Where the noise of f was measured, its standard deviation times √2 for a difference, four times.
NOISE_SPREADS = 6.0
# So many times the rounding of its dtype, the noise of f is that of a less precise one.
COARSE = 100.0
# Noise that is this part of an error may not double.
DROWNING = 0.1
# Of the smallest steps, the ones that tell a kink.
LAST_STEPS = 3
# A move this many units in the last place long still has the direction that was asked for.
SHORTEST_MOVE_ULPS = 64.0
# Enough to get from the first step to the shortest move, but where x is 0 and nothing rounds.
MOST_HALVINGS = 60


def severity(error: float, tolerance: float) -> float:
    """Return how many tolerances an error is; what is not finite is the worst."""
    if error == 0.0:
        return 0.0
    if not math.isfinite(error) or tolerance == 0.0:
        return math.inf
    return error / tolerance


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
        return severity(self.error, self.tolerance)


class _Change(NamedTuple):
    """What happened to f along a move, and what the gradient predicts."""

    above: float
    below: float
    predicted: float
    length: float


class Probe:
    """Compares analytic and numerical change at one place at a time."""

    def __init__(
        self,
        backend: Backend,
        f: Callable[[Array], Any],
        grad: Callable[[Array], Any] | ArrayLike,
        given: Any,
        x: Array,
        rtol: float | None,
    ) -> None:
        def at_home(x: Array) -> Any:
            return adopt(backend, f(x))

        self.backend, self.f = backend, at_home
        self.x = backend.xp.asarray(x, copy=True)
        # What is moved: the caller's x, so that closures over it see the move, or a copy.
        self.moved = x
        if not can_be_moved(backend, given):
            self.moved = backend.xp.asarray(x, copy=True)
            if not require_pure(backend, self.f, given, self.moved):
                require_response(backend, self.f, self.moved)
        elif is_compiled(f):
            require_response(backend, self.f, backend.xp.asarray(x, copy=True))
        self.gradient = self._gradient(grad)
        if tuple(self.gradient.shape) != tuple(x.shape):
            msg = f"the gradient has shape {tuple(self.gradient.shape)}, x has {tuple(x.shape)}"
            raise ValueError(msg)
        value = self._restoring(lambda x: as_scalar(backend, self.f(x)))
        self.value = as_number(backend, value)
        again = self._restoring(lambda x: as_number(backend, as_scalar(backend, self.f(x))))
        if self.value != again and not (math.isnan(self.value) and math.isnan(again)):
            msg = (
                f"f is not deterministic: two calls at the same x gave {self.value!r} and "
                f"{again!r}. Fix its randomness, for instance with a seed inside f"
            )
            raise ImpureFunctionError(msg)
        value_dtype = getattr(value, "dtype", "float64")
        self.given_rtol = rtol
        self._set_epsilon(machine_epsilon(backend, x.dtype, value_dtype, self.gradient.dtype))

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

    def compare(
        self, place: Place, fraction: float = 1.0, spread: float | None = None
    ) -> Comparison:
        """Compare with one central difference, over a fraction of the usual step.

        `spread` is the standard deviation of the noise of f, where that was measured.
        """
        change = self._change(place, fraction)
        above, below, length = change.above, change.below, change.length
        analytic, numerical = change.predicted / length, (above - below) / length
        unit = self.epsilon * max(abs(above), abs(below))
        noise = NOISE_ULPS * unit if spread is None else max(unit, NOISE_SPREADS * spread)
        noise /= length
        tolerance = self.rtol * max(abs(analytic), abs(numerical)) + noise
        left, right = (2.0 * d / length for d in (self.value - below, above - self.value))
        return Comparison(analytic, numerical, tolerance, noise, left, right)

    def look_closer(self, place: Place, first: Comparison) -> Comparison:
        """Return a comparison that agrees at some smaller step, or else one that shows the error.

        A wrong gradient stays wrong however small the step. Truncation does not, nor the error
        from a step out of the domain of f. Truncation may make a wrong gradient agree by accident
        at one step; that passes with the next.
        """
        tried, agreed = [first], False
        for halvings in range(1, MOST_HALVINGS):
            fraction = 0.5**halvings
            if not math.isfinite(first.analytic) or self._too_short(place, fraction):
                break
            fine = self.compare(place, fraction, self.spread)
            tried.append(fine)
            if fine.severity <= 1.0:
                if agreed:
                    return fine
                agreed = True
                continue
            agreed = False
            # A still smaller step would drown the error instead of showing where it comes from.
            if fine.noise_floor > DROWNING * fine.error:
                break
        if agreed:
            return tried[-1]
        kinked = _between_the_sides(tried[-LAST_STEPS:])
        return kinked if kinked.severity <= 1.0 else _steadiest(tried)

    def discrepancy(self, move: Array) -> float:
        """Return by how much the change of f along `move` was predicted wrongly."""
        change = self._change(move, 1.0)
        error = abs(change.predicted - (change.above - change.below))
        return math.inf if math.isnan(error) else error

    @functools.cached_property
    def spread(self) -> float:
        """The standard deviation of the noise of f, as far as its values show it."""
        position = self.backend.to_numpy(self.x).astype(np.float64).ravel()

        def along(move: np.ndarray) -> np.ndarray:
            points = (position + k * move for k in STEPS)
            moved = (p.reshape(tuple(self.x.shape)) for p in points)
            with np.errstate(all="ignore"):
                values = [
                    self._value(..., self.backend.asarray(p, dtype=self.x.dtype)) for p in moved
                ]
            return np.array([[self.value], *([value] for value in values)])

        return float(noise_along(along, position, insist=True)[0])

    def adapt_to_noise(self) -> bool:
        """Take longer steps if f is computed less precisely than its values are stored."""
        # The terms of f may cancel.
        x, gradient = (on_host(self.backend, a) for a in (self.x, self.gradient))
        with np.errstate(all="ignore"):
            size = max(abs(self.value), float(np.sum(np.abs(x * gradient))))
            seen = self.spread / size if size > 0.0 else math.inf
        if not COARSE * self.epsilon < seen < 1.0:
            return False
        self._set_epsilon(seen)
        return True

    def _set_epsilon(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.step: float = epsilon ** (1 / 3)
        self.rtol = 10.0 * math.sqrt(epsilon) if self.given_rtol is None else self.given_rtol

    def _change(self, place: Place, fraction: float) -> _Change:
        # A step may leave the domain of f, and a gradient be infinite; that shows in the values.
        with np.errstate(all="ignore"):
            if isinstance(place, tuple):
                return self._along_coordinate(place, fraction)
            return self._along_move(fraction * place)

    def _along_coordinate(self, index: tuple[int, ...], fraction: float) -> _Change:
        scalar = np.dtype(dtype_name(self.x.dtype)).type
        x = scalar(as_number(self.backend, self.x[index]))
        upper, lower = _symmetric(x, scalar(fraction * self._coordinate_step(index)))
        length = float(upper) - float(lower)
        above, below = (self._value(index, float(point)) for point in (upper, lower))
        predicted = as_number(self.backend, self.gradient[index]) * length
        return _Change(above, below, predicted, length)

    def _along_move(self, move: Array) -> _Change:
        xp = self.backend.xp
        upper, lower = _symmetric(self.x, move)
        width = upper - lower
        # Only coordinates that move count: 0 * inf would be NaN.
        moving = xp.where(width != 0, self.gradient, xp.zeros_like(self.gradient))
        predicted = as_number(self.backend, xp.sum(moving * width))
        above, below = (self._value(..., point) for point in (upper, lower))
        return _Change(above, below, predicted, self._length(width))

    def _coordinate_step(self, index: tuple[int, ...]) -> float:
        return self.step * max(1.0, abs(as_number(self.backend, self.x[index])))

    def _too_short(self, place: Place, fraction: float) -> bool:
        if isinstance(place, tuple):
            length = self._coordinate_step(place)
            position = abs(as_number(self.backend, self.x[place]))
        else:
            xp = self.backend.xp
            length = self._length(place)
            position = self._length(xp.where(place != 0, self.x, xp.zeros_like(self.x)))
        epsilon = machine_epsilon(self.backend, self.x.dtype)
        return fraction * length < SHORTEST_MOVE_ULPS * epsilon * position

    def _length(self, move: Array) -> float:
        return float(np.linalg.norm(self.backend.to_numpy(move).astype(np.float64)))

    def _gradient(self, grad: Callable[[Array], Array] | ArrayLike) -> Array:
        def at(x: Array) -> Array:
            given = adopt(self.backend, grad(x) if callable(grad) else grad)
            gradient = as_floating(self.backend, given, "gradient")
            # A copy, because it may be x itself, which moves.
            return self.backend.xp.asarray(gradient, copy=True)

        return self._restoring(at)

    def _value(self, where: Any, point: Any) -> Any:
        """Return f at x with some coordinates elsewhere."""
        self.moved[where] = point
        return self._restoring(
            lambda x: as_number(self.backend, as_scalar(self.backend, self.f(x)))
        )

    def _restoring(self, function: Callable[[Array], Any]) -> Any:
        """Call `function` where x has been moved to, and put x back."""
        try:
            return function(self.moved)
        finally:
            self.moved[...] = self.x


def _symmetric(x: Any, move: Any) -> tuple[Any, Any]:
    """Return x + move and x - move, rounded so that x is their middle.

    Otherwise their difference would be the derivative somewhere beside x.
    """
    move = (x + move) - x
    move = x - (x - move)
    return x + move, x - move


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


def _steadiest(tried: list[Comparison]) -> Comparison:
    """Return the comparison that changed least when its step was halved."""
    changes = [
        (abs(fine.numerical - coarse.numerical) + fine.noise_floor, i)
        for i, (coarse, fine) in enumerate(itertools.pairwise(tried), start=1)
        if math.isfinite(fine.numerical - coarse.numerical)
    ]
    return tried[min(changes)[1]] if changes else tried[-1]
