"""Is a gradient right? A comparison with finite differences that knows its own noise."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from accelnn._typing import Array, ArrayLike, Rng
from accelnn._validation import as_array, as_floating, check_finite, generator, positive_int
from accelnn.backends import Backend, resolve
from accelnn.backends._resolve import BackendLike
from accelnn.errors import GradientCheckError
from accelnn.gradient._numerical import scalar_value
from accelnn.gradient._purity import can_be_moved, require_pure
from accelnn.gradient._steps import machine_epsilon

__all__ = ["GradientReport", "check_gradient"]

Mode: TypeAlias = Literal["directional", "sampled", "full"]

# A value of f is good to a few units in the last place, and two of them enter a difference.
NOISE_ULPS = 8.0
# Where the noise of f was measured, its standard deviation times √2 for a difference, four times.
NOISE_SPREADS = 6.0
# Coordinates that are looked at to name the worst one after a direction has failed.
SEARCHED_COORDINATES = 500
# Noise that is this part of an error may not double.
DROWNING = 0.2
# Of the smallest steps, the ones that tell a kink.
LAST_STEPS = 4
# A move this many units in the last place long still has the direction that was asked for.
SHORTEST_MOVE_ULPS = 64.0
# Enough to get from the first step to the shortest move, but where x is 0 and nothing rounds.
MOST_HALVINGS = 60


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` measured at its worst place.

    Attributes
    ----------
    passed : bool
        Whether every comparison stayed within its tolerance.
    mode : {"directional", "sampled", "full"}
        What was compared.
    index : tuple of int or None
        The worst coordinate; None where a direction through all coordinates was the worst.
    analytic, numerical : float
        The two derivatives there.
    error : float
        Their absolute difference.
    tolerance : float
        The largest difference that counts as agreement there.
    noise_floor : float
        The part of `tolerance` that is rounding noise of `f`; a smaller error says nothing.
    comparisons : int
        Number of directions or coordinates compared.
    """

    passed: bool
    mode: Mode
    index: tuple[int, ...] | None
    analytic: float
    numerical: float
    error: float
    tolerance: float
    noise_floor: float
    comparisons: int

    def __str__(self) -> str:
        where = "along a direction" if self.index is None else f"at x[{_commas(self.index)}]"
        return (
            f"{'right' if self.passed else 'WRONG'} gradient ({self.mode}, {self.comparisons} "
            f"compared); worst {where}: analytic {self.analytic:.10g}, numerical "
            f"{self.numerical:.10g}, error {self.error:.3g}, tolerance {self.tolerance:.3g}, "
            f"noise floor {self.noise_floor:.3g}"
        )


class _Comparison(NamedTuple):
    analytic: float
    numerical: float
    tolerance: float
    noise_floor: float
    # The slopes on the two sides of x.
    left: float
    right: float

    @property
    def error(self) -> float:
        return abs(self.analytic - self.numerical)

    @property
    def severity(self) -> float:
        """How many tolerances off; what is not finite on either side is the worst."""
        if not math.isfinite(self.error):
            return math.inf
        if self.error <= self.tolerance:
            return self.error / self.tolerance if self.tolerance else 0.0
        return self.error / self.tolerance if self.tolerance else math.inf


def check_gradient(
    f: Callable[[Array], Any],
    grad: Callable[[Array], Array] | ArrayLike,
    x: ArrayLike,
    *,
    mode: Mode = "directional",
    directions: int = 8,
    samples: int = 100,
    rtol: float | None = None,
    rng: Rng = 0,
    backend: BackendLike | None = None,
) -> GradientReport:
    """Compare a gradient with central differences of `f`, and raise if it is wrong.

    Parameters
    ----------
    f : callable
        Takes an array like `x` and returns a real scalar. As in `numerical_gradient`, a writable
        float `x` is moved in place and restored.
    grad : callable or array_like
        The gradient to check: a function of `x`, or its value at `x`.
    x : array_like
        Where to check.
    mode : {"directional", "sampled", "full"}, default "directional"
        Compare the derivative along `directions` random directions, at two evaluations each and
        whatever the size of `x`; or along `samples` random coordinates; or along all coordinates.
    directions, samples : int
        How many of them; by default 8 and 100.
    rtol : float, optional
        Relative difference that counts as agreement, by default 10 √eps of the least precise
        dtype among `x`, f(x) and the gradient. The rounding noise of `f` is allowed for on top. A
        difference that disagrees is taken again with ever smaller steps, for as long as noise does
        not drown the disagreement: neither curvature nor a kink close to `x` makes a right
        gradient wrong.
    rng : int, Generator or None, default 0
        Where random directions and coordinates come from.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    GradientReport
        The worst comparison.

    Raises
    ------
    accelnn.errors.GradientCheckError
        If the gradient is wrong; names the worst coordinate, both values and the noise floor.
    ValueError
        If the gradient's shape is not that of `x`.
    accelnn.errors.ImpureFunctionError
        If a copy of `x` must be moved and `f` does not depend on its argument alone.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([1.0, 2.0])
    >>> accelnn.check_gradient(lambda x: np.sum(x**3), lambda x: 3 * x**2, x).passed
    True
    >>> accelnn.check_gradient(lambda x: np.sum(x**3), lambda x: 2 * x**2, x, mode="full")
    Traceback (most recent call last):
    ...
    accelnn.errors.GradientCheckError: WRONG gradient (full, 2 compared); worst at x[1]: ...
    """
    if mode not in ("directional", "sampled", "full"):
        msg = f"unknown mode {mode!r}; known modes are 'directional', 'sampled', 'full'"
        raise ValueError(msg)
    backend = resolve(backend, x)
    given = x
    x = as_floating(backend, as_array(backend, x))
    check_finite(backend, x, "x")
    if math.prod(x.shape) == 0:
        msg = f"x has shape {tuple(x.shape)}: there is no coordinate to check"
        raise ValueError(msg)
    probe = _Probe(backend, f, grad, given, x, rtol)
    draw = generator(rng)
    size = math.prod(x.shape)
    if mode == "directional":
        everything = np.arange(size)
        count = positive_int(directions, "directions")
        report = _verdict(mode, probe, (probe.direction(everything, draw) for _ in range(count)))
        if not report.passed:
            report = _name_coordinate(probe, report, draw)
    else:
        count = positive_int(samples, "samples") if mode == "sampled" else size
        chosen = np.arange(size)
        if count < size:
            chosen = np.sort(draw.choice(size, count, replace=False))
        report = _verdict(mode, probe, probe.indices(chosen))
    if not report.passed:
        raise GradientCheckError(str(report), report=report)
    return report


# Where to compare: along one coordinate, or along a move through many.
_Place: TypeAlias = tuple[int, ...] | Array


class _Probe:
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

    def compare(self, place: _Place) -> _Comparison:
        """Compare with one central difference."""
        return self._difference(self._move(place))

    def look_closer(self, place: _Place, first: _Comparison) -> _Comparison:
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

    def _move(self, place: _Place) -> Array:
        """Return a move as long as one step of a central difference."""
        if not isinstance(place, tuple):
            return place
        move = self.backend.zeros(tuple(self.x.shape), self.x.dtype)
        move[place] = self.step * max(1.0, abs(self._number(self.x[place])))
        return move

    def _difference(
        self, move: Array, *, fraction: float = 1.0, spread: float | None = None
    ) -> _Comparison:
        xp = self.backend.xp
        upper, lower = self._symmetric(fraction * move)
        width = upper - lower
        length = 2.0 * fraction * self._length(move)
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
        return _Comparison(analytic, numerical, tolerance, noise, left, right)

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


def _between_the_sides(tried: list[_Comparison]) -> _Comparison:
    """Widen the last tolerance by what the slopes on the two sides of x leave open.

    Curvature parts them in proportion to the step, so that it is extrapolated away. Around a kink
    they stay apart, and the derivative may be any of them.
    """
    last = tried[-1]
    sides = [(comparison.left, comparison.right) for comparison in tried]
    straight = [
        tuple(2.0 * fine - coarse for coarse, fine in zip(*pair, strict=True))
        for pair in itertools.pairwise(sides)
    ]
    opening = min(
        max(abs(slope - last.numerical) for side in seen for slope in side)
        for seen in (sides, straight or sides)
    )
    return last._replace(tolerance=last.tolerance + opening)


def _verdict(mode: Mode, probe: _Probe, places: Iterable[_Place]) -> GradientReport:
    """Compare everywhere, then look closer where that disagreed, the worst place first."""
    found = [(probe.compare(place), place) for place in places]
    found.sort(key=lambda pair: pair[0].severity, reverse=True)
    for i, (comparison, place) in enumerate(found):
        if comparison.severity <= 1.0:
            break
        found[i] = probe.look_closer(place, comparison), place
        if found[i][0].severity > 1.0:
            break
    worst, place = max(found, key=lambda pair: pair[0].severity)
    return GradientReport(
        passed=worst.severity <= 1.0,
        mode=mode,
        index=place if isinstance(place, tuple) else None,
        analytic=worst.analytic,
        numerical=worst.numerical,
        error=worst.error,
        tolerance=worst.tolerance,
        noise_floor=worst.noise_floor,
        comparisons=len(found),
    )


def _name_coordinate(
    probe: _Probe, failed: GradientReport, draw: np.random.Generator
) -> GradientReport:
    """Say which coordinate is wrong; the failed direction itself where none stands out."""
    suspects = np.arange(math.prod(probe.x.shape))
    while suspects.size > SEARCHED_COORDINATES:
        halves = np.array_split(suspects, 2)
        suspects = max(halves, key=lambda half: probe.discrepancy(probe.direction(half, draw)))
    found = _verdict(failed.mode, probe, probe.indices(suspects))
    return failed if found.passed else replace(found, comparisons=failed.comparisons)


def _commas(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index))
