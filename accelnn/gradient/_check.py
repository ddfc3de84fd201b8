"""Is a gradient right? A comparison with finite differences that knows its own noise."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
# Coordinates that are looked at to name the worst one after a direction has failed.
SEARCHED_COORDINATES = 500


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

    @property
    def error(self) -> float:
        return abs(self.analytic - self.numerical)

    @property
    def severity(self) -> float:
        """How many tolerances off; a NaN on either side is the worst."""
        excess = self.error / self.tolerance if self.tolerance else math.inf * bool(self.error)
        return math.inf if math.isnan(excess) else excess


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
        dtype among `x`, f(x) and the gradient. The rounding noise of `f`, and its truncation error
        where a comparison hangs on it, are allowed for on top.
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
    if mode == "directional":
        moves = _random_directions(backend, x, positive_int(directions, "directions"), draw)
        report = _worst(mode, ((None, probe.compare(move)) for move in moves))
        if not report.passed:
            report = _name_coordinate(probe, report, draw)
    else:
        count = positive_int(samples, "samples") if mode == "sampled" else math.prod(x.shape)
        report = _worst(mode, _coordinates(probe, count, draw))
    if not report.passed:
        raise GradientCheckError(str(report), report=report)
    return report


class _Probe:
    """Compares analytic and numerical change along one move of `x` at a time."""

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
            require_pure(backend, f, given, self.x)
        self.gradient = as_floating(backend, grad(given) if callable(grad) else grad, "gradient")
        if tuple(self.gradient.shape) != tuple(x.shape):
            msg = f"the gradient has shape {tuple(self.gradient.shape)}, x has {tuple(x.shape)}"
            raise ValueError(msg)
        value = scalar_value(backend, f(given if self.in_place else self.x))
        value_dtype = getattr(value, "dtype", "float64")
        self.epsilon = machine_epsilon(backend, x.dtype, value_dtype, self.gradient.dtype)
        self.step = self.epsilon ** (1 / 3)
        self.rtol = 10.0 * math.sqrt(self.epsilon) if rtol is None else rtol

    def compare(self, move: Array) -> _Comparison:
        """Compare along `move`, whose length is one step of a central difference."""
        first = self._difference(move)
        if first.severity <= 1.0:
            return first
        # Half the step tells a wrong gradient, which stays wrong, from truncation and noise,
        # which do not.
        second = self._difference(move, fraction=0.5)
        doubt = abs(first.numerical - second.numerical)
        numerical = (4.0 * second.numerical - first.numerical) / 3.0
        return first._replace(numerical=numerical, tolerance=second.tolerance + 2.0 * doubt)

    def _difference(self, move: Array, *, fraction: float = 1.0) -> _Comparison:
        xp = self.backend.xp
        upper, lower = self.x + fraction * move, self.x - fraction * move
        above, below = self._value(upper), self._value(lower)
        # The gradient predicts the change over the distance really taken, rounding included.
        change = self._number(xp.sum(self.gradient * (upper - lower)))
        length = 2.0 * fraction * self._number(xp.sqrt(xp.sum(move * move)))
        noise = NOISE_ULPS * self.epsilon * max(abs(above), abs(below)) / length
        analytic, numerical = change / length, (above - below) / length
        tolerance = self.rtol * max(abs(analytic), abs(numerical)) + noise
        return _Comparison(analytic, numerical, tolerance, noise)

    def _value(self, point: Array) -> float:
        if not self.in_place:
            return self._number(scalar_value(self.backend, self.f(point)))
        try:
            self.given[...] = point
            return self._number(scalar_value(self.backend, self.f(self.given)))
        finally:
            self.given[...] = self.x

    def _number(self, x: Any) -> float:
        return float(self.backend.to_numpy(x))


def _random_directions(
    backend: Backend, x: Array, count: int, draw: np.random.Generator
) -> Iterator[Array]:
    """Yield random moves as long as a step in proportion to the length of `x`."""
    xp = backend.xp
    length = max(1.0, float(backend.to_numpy(xp.sqrt(xp.sum(x * x)))))
    step = machine_epsilon(backend, x.dtype) ** (1 / 3)
    for _ in range(count):
        direction = draw.standard_normal(tuple(x.shape))
        move = direction * (step * length / np.linalg.norm(direction))
        yield backend.asarray(move, dtype=x.dtype)


def _coordinates(
    probe: _Probe, count: int, draw: np.random.Generator
) -> Iterator[tuple[tuple[int, ...], _Comparison]]:
    """Compare along `count` different coordinates, chosen at random unless that is all of them."""
    shape = tuple(probe.x.shape)
    size = math.prod(shape)
    chosen = np.arange(size)
    if count < size:
        chosen = np.sort(draw.choice(size, count, replace=False))
    for flat in chosen:
        index = tuple(int(i) for i in np.unravel_index(flat, shape))
        move = probe.backend.zeros(shape, probe.x.dtype)
        move[index] = probe.step * max(1.0, abs(float(probe.backend.to_numpy(probe.x[index]))))
        yield index, probe.compare(move)


def _worst(
    mode: Mode, comparisons: Iterator[tuple[tuple[int, ...] | None, _Comparison]]
) -> GradientReport:
    count, worst_index, worst = 0, None, None
    for index, comparison in comparisons:
        count += 1
        if worst is None or comparison.severity > worst.severity:
            worst_index, worst = index, comparison
    assert worst is not None  # noqa: S101 - there is at least one direction or coordinate
    return GradientReport(
        passed=worst.severity <= 1.0,
        mode=mode,
        index=worst_index,
        analytic=worst.analytic,
        numerical=worst.numerical,
        error=worst.error,
        tolerance=worst.tolerance,
        noise_floor=worst.noise_floor,
        comparisons=count,
    )


def _name_coordinate(
    probe: _Probe, failed: GradientReport, draw: np.random.Generator
) -> GradientReport:
    """Say which coordinate is wrong; the failed direction itself where none stands out."""
    found = _worst(failed.mode, _coordinates(probe, SEARCHED_COORDINATES, draw))
    return failed if found.passed else found


def _commas(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index))
