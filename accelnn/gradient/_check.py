"""Is a gradient right? A comparison with finite differences that knows its own noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from accelnn._typing import Array, ArrayLike, Rng
from accelnn._validation import as_floating, check_finite, generator, positive_int, require_callable
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.errors import GradientCheckError, InconclusiveCheckWarning
from accelnn.gradient._far import is_hidden, look_further
from accelnn.gradient._foreign import at_home
from accelnn.gradient._probe import Comparison, Place, Probe, severity

__all__ = ["GradientReport", "check_gradient"]

Mode: TypeAlias = Literal["directional", "sampled", "full"]

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
    name : str
        Of the array that holds the worst place; "x" unless there are several.
    is_conclusive : bool
        False where nothing was found wrong, but the noise of `f` hides slopes everywhere that are
        as large as those it has.
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
    name: str = "x"
    is_conclusive: bool = True

    @property
    def verdict(self) -> Literal["right", "WRONG", "inconclusive"]:
        """The result in a word."""
        if not self.passed:
            return "WRONG"
        return "right" if self.is_conclusive else "inconclusive"

    @property
    def severity(self) -> float:
        """How many tolerances the worst comparison is off."""
        return severity(self.error, self.tolerance)

    def __str__(self) -> str:
        where = (
            f"at {self.name}[{_commas(self.index)}]"
            if self.index is not None
            else ("along a direction" + f" of {self.name}" * (self.name != "x"))
        )
        return (
            f"{self.verdict} gradient ({self.mode}, {self.comparisons} "
            f"compared); worst {where}: analytic {self.analytic:.10g}, numerical "
            f"{self.numerical:.10g}, error {self.error:.3g}, tolerance {self.tolerance:.3g}, "
            f"noise floor {self.noise_floor:.3g}"
        )


def check_gradient(
    f: Callable[[Any], Any],
    grad: Callable[[Any], Any] | ArrayLike | Mapping[str, ArrayLike],
    x: ArrayLike | Mapping[str, ArrayLike],
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
        Takes what `x` is and returns a real scalar. As in `numerical_gradient`, a writable float
        `x` is moved in place and restored.
    grad : callable, array_like or mapping
        The gradient to check: a function of `x`, or its value at `x`. It may come from any library
        that speaks DLPack, and so may `x` and f(x): a torch or JAX function is checked as it is.
    x : array_like, or mapping of str to array_like
        Where to check. Of several arrays, such as a net's `params`, each is checked by itself, and
        `grad` has the same keys.
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
        If the gradient's shape or keys are not those of `x`.
    accelnn.errors.ImpureFunctionError
        If a copy of `x` must be moved and `f` does not depend on its argument alone.

    Warns
    -----
    accelnn.errors.InconclusiveCheckWarning
        If nothing was found wrong because `f` is too noisy, as 1e9 + x² is in float32.

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
    >>> point = {"a": np.array([1.0, 2.0]), "b": np.array(3.0)}
    >>> report = accelnn.check_gradient(
    ...     lambda p: p["b"] * np.sum(p["a"]),
    ...     lambda p: {"a": np.full(2, p["b"]), "b": np.sum(p["a"])},
    ...     point,
    ... )
    >>> report.passed, report.comparisons
    (True, 16)
    """
    require_callable(f)
    if rtol is not None and not (isinstance(rtol, int | float) and 0.0 <= rtol < math.inf):
        msg = f"rtol must be a number from 0 on, or None, got {rtol!r}"
        raise ValueError(msg)
    options: dict[str, Any] = {
        "mode": mode,
        "directions": directions,
        "samples": samples,
        "rtol": rtol,
        "rng": rng,
    }
    if isinstance(x, Mapping):
        report = _check_each(backend, f, grad, x, options)
    else:
        report = _check_one(*at_home(backend, f, grad, x), **options)
    if not report.passed:
        raise GradientCheckError(str(report), report=report)
    if not report.is_conclusive:
        msg = f"{report}: the noise of f hides its slopes; compute f in a more precise dtype"
        warnings.warn(msg, InconclusiveCheckWarning, stacklevel=2)
    return report


def _check_each(
    backend: BackendLike | None,
    f: Callable[[Any], Any],
    grad: Any,
    x: Mapping[str, ArrayLike],
    options: dict[str, Any],
) -> GradientReport:
    """Check one array after the other, while the others stay; return the worst."""
    gradients = _gradients(backend, grad, x) if callable(grad) else grad
    keys = set(gradients) if isinstance(gradients, Mapping) else None
    if keys != set(x):
        found = "no mapping" if keys is None else f"the keys {sorted(keys, key=str)}"
        msg = f"x has the keys {sorted(x, key=str)}, and the gradient has {found}"
        raise ValueError(msg)
    if not x:
        msg = "x is empty: there is nothing to check"
        raise ValueError(msg)
    reports = []
    for name, part in x.items():

        def of_part(moved: Any, name: str = name) -> Any:
            return f({**x, name: moved})

        home = at_home(backend, of_part, gradients[name], part)
        report = _check_one(*home, **options)
        reports.append(replace(report, name=name))
    worst = max(reports, key=lambda report: report.severity)
    return replace(
        worst,
        comparisons=sum(report.comparisons for report in reports),
        is_conclusive=all(report.is_conclusive for report in reports),
    )


def _gradients(
    backend: BackendLike | None, grad: Callable[[Any], Any], x: Mapping[str, ArrayLike]
) -> Any:
    # Where the first of them is, because no array is computed with another elsewhere.
    with resolve(backend, *list(x.values())[:1]).current():
        return grad(_copied(x))


def _copied(x: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """Return what a gradient that writes to its argument may have."""
    return {name: part.copy() if isinstance(part, np.ndarray) else part for name, part in x.items()}


def _check_one(
    backend: Backend,
    f: Callable[[Array], Any],
    grad: Callable[[Array], Array] | ArrayLike,
    x: ArrayLike,
    *,
    mode: Mode,
    directions: int,
    samples: int,
    rtol: float | None,
    rng: Rng,
) -> GradientReport:
    if mode not in ("directional", "sampled", "full"):
        msg = f"unknown mode {mode!r}; known modes are 'directional', 'sampled', 'full'"
        raise ValueError(msg)
    with backend.current():
        given = x
        x = as_floating(backend, x)
        check_finite(backend, x, "x")
        if math.prod(x.shape) == 0:
            msg = f"x has shape {tuple(x.shape)}: there is no coordinate to check"
            raise ValueError(msg)
        probe = Probe(backend, f, grad, given, x, rtol)
        draw = generator(rng)
        if mode == "directional":
            count = positive_int(directions, "directions")
        else:
            count = positive_int(samples, "samples") if mode == "sampled" else math.prod(x.shape)
        found = _compared(probe, _places(probe, mode, count, draw))
        if any(comparison.severity > 1.0 for comparison, _ in found) and probe.adapt_to_noise():
            found = _compared(probe, _places(probe, mode, count, draw))
        report = _verdict(mode, probe, found)
        if mode == "directional" and not report.passed:
            report = _name_coordinate(probe, report, draw)
        return report


def _places(probe: Probe, mode: Mode, count: int, draw: np.random.Generator) -> Iterator[Place]:
    everything = np.arange(math.prod(probe.x.shape))
    if mode == "directional":
        return (probe.direction(everything, draw) for _ in range(count))
    if count < everything.size:
        return probe.indices(np.sort(draw.choice(everything.size, count, replace=False)))
    return probe.indices(everything)


def _compared(probe: Probe, places: Iterable[Place]) -> list[tuple[Comparison, Place]]:
    return [(probe.compare(place), place) for place in places]


def _verdict(mode: Mode, probe: Probe, found: list[tuple[Comparison, Place]]) -> GradientReport:
    """Look closer where comparisons disagree, the worst place first."""
    found.sort(key=lambda pair: pair[0].severity, reverse=True)
    for i, (comparison, place) in enumerate(found):
        if comparison.severity <= 1.0:
            break
        found[i] = probe.look_closer(place, comparison), place
        if found[i][0].severity > 1.0:
            # Certainly wrong; the places after it were not looked at closely.
            found = [found[i]] * len(found)
            break
    is_conclusive = True
    if all(comparison.severity <= 1.0 and is_hidden(comparison) for comparison, _ in found):
        sights = [look_further(probe, place, comparison) for comparison, place in found]
        is_conclusive = any(sight.is_clear for sight in sights)
        found = [(sight.comparison, place) for sight, (_, place) in zip(sights, found, strict=True)]
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
        is_conclusive=is_conclusive,
    )


def _name_coordinate(
    probe: Probe, failed: GradientReport, draw: np.random.Generator
) -> GradientReport:
    """Say which coordinate is wrong; the failed direction itself where none stands out.

    Where all coordinates were looked at and agree, the gradient is right: a direction may leave
    the domain of f at any step, or cross a kink, where each coordinate alone does not.
    """
    size = math.prod(probe.x.shape)
    suspects = np.arange(size)
    while suspects.size > SEARCHED_COORDINATES:
        halves = np.array_split(suspects, 2)
        suspects = max(halves, key=lambda half: probe.discrepancy(probe.direction(half, draw)))
    found = _verdict(failed.mode, probe, _compared(probe, probe.indices(suspects)))
    if found.passed and suspects.size < size:
        return failed
    return replace(found, comparisons=failed.comparisons)


def _commas(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index))
