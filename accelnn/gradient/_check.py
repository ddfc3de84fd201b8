"""Is a gradient right? A comparison with finite differences that knows its own noise."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from accelnn._typing import ArrayLike, Rng, Tree
from accelnn._validation import as_floating, generator, positive_int, require_callable
from accelnn.backends import Backend, BackendLike, get_backend, resolve, speaks_dlpack
from accelnn.errors import GradientCheckError, InconclusiveCheckWarning
from accelnn.gradient._argument import is_tree, leaves_of, names_of
from accelnn.gradient._compare import Comparer, Comparison, Place
from accelnn.gradient._precision import machine_epsilon
from accelnn.gradient._problem import Problem, pose, with_arguments
from accelnn.gradient.evaluators import HasMap, Mapper, adopt, refuse_random

__all__ = ["GradientFailure", "GradientReport", "check_gradient"]

Mode: TypeAlias = Literal["directional", "sampled", "full"]
MODES = ("directional", "sampled", "full")

# Coordinates that are looked at to name the worst one after a direction has failed.
SEARCHED_COORDINATES = 500
# Places that are looked at closely where many fail.
LOOKED_AT = 100
# A difference that is no larger a part of the gradient may come from a small number that f adds.
SMALL_PART = 1e-2


@dataclass(frozen=True)
class GradientFailure:
    """One place where a gradient and differences of f were compared.

    Attributes
    ----------
    name : str
        Of the array that holds it; "x" unless there are several.
    index : tuple of int or None
        The coordinate, of a Jacobian after the index of the value; None of a direction.
    analytic, numerical : float
        The two derivatives.
    error : float
        Their absolute difference.
    tolerance : float
        The largest difference that counts as agreement.
    noise_floor : float
        The part of `tolerance` that is rounding noise of f; a smaller error says nothing.
    """

    name: str
    index: tuple[int, ...] | None
    analytic: float
    numerical: float
    error: float
    tolerance: float
    noise_floor: float

    @property
    def relative_error(self) -> float:
        """The error as a part of the larger derivative."""
        largest = max(abs(self.analytic), abs(self.numerical))
        return self.error / largest if largest > 0.0 else math.nan if self.error else 0.0

    @property
    def severity(self) -> float:
        """How many tolerances the error is."""
        if self.error == 0.0:
            return 0.0
        is_number = math.isfinite(self.error) and self.tolerance > 0.0
        return self.error / self.tolerance if is_number else math.inf

    def __str__(self) -> str:
        if self.index is None:
            where = "along a direction" + f" of {self.name}" * (self.name != "x")
        else:
            where = f"at {self.name}[{', '.join(map(str, self.index))}]"
        return (
            f"{where}: analytic {self.analytic:.10g}, numerical {self.numerical:.10g}, "
            f"error {self.error:.3g}, relative {self.relative_error:.2g}, "
            f"tolerance {self.tolerance:.3g}, noise floor {self.noise_floor:.3g}"
        )


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` measured.

    Attributes
    ----------
    passed : bool
        Whether every comparison stayed within its tolerance.
    mode : {"directional", "sampled", "full"}
        What was compared.
    worst : GradientFailure
        The worst comparison, whether or not it failed.
    comparisons : int
        Number of directions or coordinates compared.
    is_conclusive : bool
        False where nothing was proven wrong, but errors of a hundredth of the gradient may hide
        in noise of `f`, or where it is not smooth.
    failures : tuple of GradientFailure
        All comparisons that failed, the worst first; at most 100 of one array.
    """

    passed: bool
    mode: Mode
    worst: GradientFailure
    comparisons: int
    is_conclusive: bool = True
    failures: tuple[GradientFailure, ...] = field(default=(), repr=False)

    @property
    def verdict(self) -> Literal["right", "WRONG", "inconclusive"]:
        """The result in a word."""
        if not self.passed:
            return "WRONG"
        return "right" if self.is_conclusive else "inconclusive"

    @property
    def name(self) -> str:
        """The array with the worst place."""
        return self.worst.name

    @property
    def index(self) -> tuple[int, ...] | None:
        """The worst coordinate; None where a direction through all of them was the worst."""
        return self.worst.index

    @property
    def analytic(self) -> float:
        """The derivative there, as it was given."""
        return self.worst.analytic

    @property
    def numerical(self) -> float:
        """The derivative there, by differences."""
        return self.worst.numerical

    @property
    def error(self) -> float:
        """Their absolute difference."""
        return self.worst.error

    @property
    def tolerance(self) -> float:
        """The largest difference that counts as agreement there."""
        return self.worst.tolerance

    @property
    def noise_floor(self) -> float:
        """The part of the tolerance that is rounding noise of f."""
        return self.worst.noise_floor

    @property
    def severity(self) -> float:
        """How many tolerances the worst comparison is off."""
        return self.worst.severity

    def __str__(self) -> str:
        text = (
            f"{self.verdict} gradient ({self.mode}, {self.comparisons} compared); "
            f"worst {self.worst}"
        )
        if not self.passed and 0.0 < self.worst.relative_error < SMALL_PART:
            text += (
                ". A difference that small is what an eps in a logarithm makes: if f adds a small "
                "number there or in a root, as log(y + 1e-7) does, the gradient must know of it"
            )
        return text


def check_gradient(
    f: Callable[..., Any],
    grad: Callable[..., Any] | ArrayLike | Tree | Literal[True],
    x: ArrayLike | Tree,
    *,
    mode: Mode = "directional",
    directions: int = 8,
    samples: int = 100,
    atol: float | None = None,
    rtol: float | None = None,
    step: float | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    raises: bool = True,
    rng: Rng = 0,
    backend: BackendLike | None = None,
) -> GradientReport:
    """Compare a gradient with central differences of `f`, and raise if it is wrong.

    Parameters
    ----------
    f : callable
        Takes what `x` is and returns a real number, or an array of them. As in
        `numerical_gradient`, a closure that reads `x` and not its argument is right too.
    grad : callable, array_like, tree or True
        The gradient to check, or the Jacobian of shape ``(*f(x).shape, *x.shape)``: a function of
        `x`, or its value at `x`. It may come from any library that speaks DLPack, and so may `x`
        and f(x): a torch or JAX function is checked as it is. So second derivatives are checked by
        ``check_gradient(gradient, hessian, x)``. True where f returns (value, gradient).
    x : array_like or tree
        Where to check. Of several arrays, such as a net's `params`, each is checked by itself, and
        `grad` has the same form.
    mode : {"directional", "sampled", "full"}, default "directional"
        Compare the derivative along `directions` random directions, at two evaluations each and
        whatever the size of `x`; or along `samples` random coordinates; or along all coordinates,
        at two steps.
        Along directions an error shows that is not small beside the whole gradient: one coordinate
        whose derivative is a millionth of the others' may be anything. "full" sees that too.
    directions, samples : int
        How many of them; by default 8 and 100.
    atol, rtol : float, optional
        Absolute and relative difference that count as agreement, by default 0, and 10 √eps of the
        least precise dtype among `x`, f(x) and the gradient, but 0.005 in half precision. The
        rounding noise of `f` is allowed for on top. Where a difference disagrees, or noise hides
        what it shows, `f` is seen at all scales, from the size of `x` down to where noise drowns
        everything: neither curvature nor a kink close to `x` makes a right gradient wrong. What
        the differences do not prove is inconclusive.
    step : float, optional
        In units of max(1, abs(x)), by default eps^(1/3).
    args, kwargs : sequence and mapping, optional
        Further arguments of `f` and of `grad`.
    in_place, workers
        As in `numerical_gradient`.
    raises : bool, default True
        Whether to raise if the gradient is wrong, or to return the report in any case.
    rng : int, Generator or None, default 0
        Where random directions and coordinates come from.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    GradientReport
        The worst comparison, and all that failed.

    Raises
    ------
    accelnn.errors.GradientCheckError
        If the gradient is wrong; names the worst coordinate, both values, the absolute and the
        relative error, and the noise floor.
    ValueError
        If the gradient's shape or form are not those of `x`, or if f(x) is not finite.
    accelnn.errors.ImpureFunctionError
        If a copy of `x` must be moved and `f` does not depend on its argument alone, or if f is
        random.

    Warns
    -----
    accelnn.errors.InconclusiveCheckWarning
        If nothing was proven, because `f` is too noisy, as 1e9 + x² is in float32, or because x is
        too close to where it ends.

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
    if isinstance(x, Mapping | list | tuple) and len(x) == 0:
        msg = "x is empty: there is nothing to check"
        raise ValueError(msg)
    for name, given in (("rtol", rtol), ("atol", atol)):
        if given is not None and not (isinstance(given, int | float) and 0.0 <= given < math.inf):
            msg = f"{name} must be a number from 0 on, or None, got {given!r}"
            raise ValueError(msg)
    if mode not in MODES:
        msg = f"unknown mode {mode!r}; known modes are {', '.join(map(repr, MODES))}"
        raise ValueError(msg)
    f, grad = _separated(with_arguments(f, args, kwargs), grad, args, kwargs)
    home, f, grad, x = _at_home(backend, f, grad, x)
    with pose(
        f, x, backend=home, method="central", scalar=None, in_place=in_place, workers=workers
    ) as problem:
        gradient, epsilon = _gradient_of(problem, grad)
        comparer = Comparer(problem, gradient, epsilon, rtol, atol, step)
        if not np.isfinite(problem.lines.base).all():
            wrong = problem.lines.base[~np.isfinite(problem.lines.base)][0]
            msg = f"f is {wrong} at x: there is no gradient to check"
            raise ValueError(msg)
        checks = [
            _Check(comparer, part, mode, directions, samples, generator(rng))
            for part in _parts(problem)
        ]
        report = _joined(mode, [check.report() for check in checks])
        if not problem.evaluator.finish(diagnose=True):
            refuse_random(problem.evaluator.base, problem.evaluator.at_copy())
    if not report.passed and raises:
        raise GradientCheckError(str(report), report=report)
    if report.verdict == "inconclusive":
        msg = (
            f"{report}: the noise of f hides its slopes, or f ends too close to x; compute f in a "
            f"more precise dtype, or check at another x"
        )
        warnings.warn(msg, InconclusiveCheckWarning, stacklevel=2)
    return report


@dataclass(frozen=True)
class _Part:
    """One array of x: its name, its shape, and which coordinates it has."""

    name: str
    shape: tuple[int, ...]
    columns: np.ndarray
    outputs: tuple[int, ...]

    def index(self, column: int, output: int) -> tuple[int, ...]:
        places = (
            *(np.unravel_index(output, self.outputs) if self.outputs else ()),
            *(np.unravel_index(column - self.columns[0], self.shape) if self.shape else ()),
        )
        return tuple(int(i) for i in places)


def _parts(problem: Problem) -> list[_Part]:
    argument, start, parts = problem.argument, 0, []
    names = names_of(argument.given) if argument.is_tree else ["x"]
    for name, shape in zip(names, argument.shapes, strict=True):
        stop = start + math.prod(shape)
        if start < stop:
            parts.append(_Part(name, shape, np.arange(start, stop), problem.shape))
        start = stop
    if not parts:
        msg = (
            "x is empty: there is nothing to check"
            if argument.is_tree
            else f"x has shape {argument.shape}: there is no coordinate to check"
        )
        raise ValueError(msg)
    return parts


class _Check:
    """The comparisons of one array."""

    def __init__(
        self,
        comparer: Comparer,
        part: _Part,
        mode: Mode,
        directions: int,
        samples: int,
        draw: np.random.Generator,
    ) -> None:
        self.comparer, self.part, self.mode, self.draw = comparer, part, mode, draw
        self.count = part.columns.size
        if mode == "directional":
            self.count = positive_int(directions, "directions")
        elif mode == "sampled":
            self.count = min(positive_int(samples, "samples"), self.count)

    def report(self) -> GradientReport:
        """Return what was found."""
        with np.errstate(all="ignore"):
            return self._report()

    def _report(self) -> GradientReport:
        by_direction = self.mode == "directional"
        self.comparer.trust_f()
        report = self._verdict(
            self._places(), by_direction=by_direction, most=1 if by_direction else LOOKED_AT
        )
        return self._named(report) if by_direction and report.verdict != "right" else report

    def _places(self) -> list[Place]:
        columns = self.part.columns
        if self.mode == "directional":
            return [self.comparer.direction(columns, self.draw) for _ in range(self.count)]
        if self.count < columns.size:
            columns = np.sort(self.draw.choice(columns, self.count, replace=False))
        return [self.comparer.coordinate(int(column)) for column in columns]

    def _compared(self, places: list[Place]) -> list[Comparison]:
        # Truncation may be just what is wrong, at one step; then it is not at another.
        closer = [place.times(0.5) for place in places]
        both = self.mode == "full"
        found = self.comparer.compare([*places, *closer] if both else places)
        if both:
            pairs = zip(found[: len(places)], found[len(places) :], strict=True)
            found = [max(pair, key=lambda comparison: comparison.severity) for pair in pairs]
        return found

    def _verdict(
        self, places: list[Place], *, by_direction: bool, most: int, ends: bool = False
    ) -> GradientReport:
        """Look closely where differences disagree, the worst place first, until `most` failed.

        `ends` says that nobody needs more once it is inconclusive.
        """
        comparer = self.comparer
        first, step = self._compared(places), comparer.step
        worst_first = sorted(range(len(places)), key=lambda i: -first[i].severity)
        differing = [i for i in worst_first[:LOOKED_AT] if first[i].severity > 1.0]
        if differing and comparer.adapt_to_noise():
            places = [place.times(comparer.step / step) for place in places]
            first = self._compared(places)
        # The length of the gradient, or what a random direction sees of it.
        slopes = np.array([found.analytic for found in first])
        norm = float(np.sqrt(np.mean(np.where(np.isfinite(slopes), slopes, 0.0) ** 2)))
        if not by_direction:
            norm *= math.sqrt(self.part.columns.size)
        is_noisy = [found.is_hidden(norm) for found in first]
        # A direction stands for all coordinates, and one of them for itself.
        looks = sum(is_noisy) > (len(places) // 2 if by_direction else 0)
        failed: list[tuple[Comparison, Place]] = []
        rest: list[tuple[Comparison, Place]] = []
        for i in sorted(range(len(places)), key=lambda i: -first[i].severity):
            found, place = first[i], places[i]
            # The noise of f need not be there where a gradient differs without it.
            differs = found.severity > 1.0 or i in differing
            if len(failed) < most and (differs or (looks and is_noisy[i] and not failed)):
                found = comparer.settle(place, norm, is_noisy=is_noisy[i])
            is_wrong = found.severity > 1.0 and not found.is_unknown
            is_wrong &= len(failed) < most
            (failed if is_wrong else rest).append((found, place))
            if found.is_unknown and ends:
                break
        failed.sort(key=lambda pair: pair[0].severity, reverse=True)
        worst, place = failed[0] if failed else max(rest, key=lambda pair: pair[0].severity)
        return GradientReport(
            passed=not failed,
            mode=self.mode,
            worst=self._failure(worst, place),
            comparisons=len(places),
            is_conclusive=not any(found.is_unknown for found, _ in rest),
            failures=tuple(self._failure(*pair) for pair in failed),
        )

    def _failure(self, found: Comparison, place: Place) -> GradientFailure:
        part, k = self.part, int(np.argmax(found.severities))
        index = part.index(int(place.columns[0]), k) if place.columns.size == 1 else None
        if self.mode == "directional" and part.columns.size == 1 and index is not None:
            index = index if self._names else None
        numbers = (
            float(a[k])
            for a in (
                found.analytic,
                found.numerical,
                found.error,
                found.tolerance,
                found.noise_floor,
            )
        )
        return GradientFailure(part.name, index, *numbers)

    _names = False

    def _named(self, found: GradientReport) -> GradientReport:
        """Say which coordinate is wrong; the failed direction itself where none stands out.

        Where directions tell nothing, as where f ends in some, coordinates may.
        """
        suspects, comparer = self.part.columns, self.comparer
        comparer.trust_f()
        if found.passed and suspects.size > SEARCHED_COORDINATES:
            return found
        while suspects.size > SEARCHED_COORDINATES:
            halves = np.array_split(suspects, 2)
            errors = [self._discrepancy(comparer.direction(half, self.draw)) for half in halves]
            suspects = halves[int(errors[1] > errors[0])]
        self._names = True
        places = [comparer.coordinate(int(column)) for column in suspects]
        named = self._verdict(places, by_direction=False, most=1, ends=found.passed)
        # What a direction has proven no coordinate overrules.
        if named.verdict == "inconclusive" or (named.passed and not found.passed):
            return found
        return replace(named, comparisons=found.comparisons)

    def _discrepancy(self, move: Place) -> float:
        """Return by how much the change of f along a move was predicted wrongly."""
        (found,) = self.comparer.compare([move])
        error = float(np.max(found.error)) * float(np.linalg.norm(move.move))
        return error if math.isfinite(error) else math.inf


def _joined(mode: Mode, reports: list[GradientReport]) -> GradientReport:
    """Return the report of several arrays."""
    if len(reports) == 1:
        return reports[0]
    failures = sorted(
        (failure for report in reports for failure in report.failures),
        key=lambda failure: failure.severity,
        reverse=True,
    )
    return GradientReport(
        passed=all(report.passed for report in reports),
        mode=mode,
        worst=max(
            failures[:1] or [report.worst for report in reports], key=lambda worst: worst.severity
        ),
        comparisons=sum(report.comparisons for report in reports),
        is_conclusive=all(report.is_conclusive for report in reports),
        failures=tuple(failures),
    )


def _separated(f: Any, grad: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return f and its gradient, of which each call of f may give both."""
    if grad is not True:
        return f, with_arguments(grad, args, kwargs) if callable(grad) else grad

    def part(k: int, x: Any) -> Any:
        both = f(x)
        if not isinstance(both, tuple | list) or len(both) != 2:  # noqa: PLR2004 - as is said
            msg = f"with grad=True f must return (value, gradient), but it returned {both!r:.80}"
            raise TypeError(msg)
        return both[k]

    return (lambda x: part(0, x)), (lambda x: part(1, x))


def _gradient_of(problem: Problem, grad: Any) -> tuple[np.ndarray, float]:
    """Return a gradient as an array of shape (q, n), and machine epsilon of all numbers."""
    backend, argument = problem.backend, problem.argument
    if callable(grad):
        flat = backend.xp.asarray(argument.flat, copy=True)
        with argument.moving():
            grad = grad(argument.of(flat))
    x_form = argument.given if argument.is_tree else None
    if argument.is_tree:
        _require_form(backend, x_form, grad)
    leaves = list(leaves_of(grad)) if argument.is_tree else [grad]
    found, epsilon = [], problem.epsilon
    for leaf, shape in zip(leaves, argument.shapes, strict=True):
        array = as_floating(backend, adopt(backend, leaf), "gradient")
        wanted = (*problem.shape, *shape)
        is_one = math.prod(problem.shape) == 1 and tuple(array.shape) == shape
        if tuple(array.shape) != wanted and not is_one:
            if problem.shape:
                msg = (
                    f"the gradient has shape {tuple(array.shape)}; f(x) has {problem.shape} and x "
                    f"has {shape}, so that it must have shape {wanted}"
                )
            else:
                msg = f"the gradient has shape {tuple(array.shape)}, x has {shape}"
            raise ValueError(msg)
        epsilon = max(epsilon, machine_epsilon(backend, array.dtype))
        host = backend.to_numpy(array).astype(problem.x.dtype)
        found.append(host.reshape(problem.lines.base.size, math.prod(shape)))
    gradient = np.concatenate(found, axis=1) if found else np.zeros((1, 0))
    return gradient, epsilon


def _require_form(backend: Backend, x: Any, grad: Any) -> None:
    """Refuse a gradient of another form than x."""
    mine = names_of(x)
    its = names_of(grad) if is_tree(backend, grad) else []
    if mine != its:
        found = f"the keys {sorted(its)}" if isinstance(grad, Mapping) else "no mapping"
        kind = f"the keys {sorted(mine)}" if isinstance(x, Mapping) else f"{len(mine)} arrays"
        if not isinstance(x, Mapping):
            found = f"{len(its)}"
        msg = f"x has {kind}, and the gradient has {found}"
        raise ValueError(msg)


def _at_home(
    backend: BackendLike | None, f: Any, grad: Any, x: Any
) -> tuple[BackendLike | None, Any, Any, Any]:
    """Return the backend, and f, grad and x for it.

    An array of a library that is no backend becomes one of NumPy; f and grad go on being called
    with arrays of that library.
    """
    if not speaks_dlpack(x):
        return backend, f, grad, x
    home = resolve(backend, x)
    if home.owns(x):
        return backend, f, grad, x
    if backend is not None:
        home.check_owned(x)
    detached = x.detach() if hasattr(x, "detach") else x
    try:
        host = np.array(np.from_dlpack(detached))
    except (BufferError, RuntimeError) as error:
        msg = f"x, of dtype {getattr(x, 'dtype', '?')}, cannot be handed over to NumPy: {error}"
        raise TypeError(msg) from error
    # Moves of it are seen by nobody else.
    host.flags.writeable = False
    library = sys.modules[type(x).__module__.partition(".")[0]]
    if hasattr(x, "__array_namespace__"):
        library = x.__array_namespace__()

    def abroad(function: Any) -> Any:
        if not callable(function):
            return function
        return lambda point: function(library.from_dlpack(np.array(point)))

    return get_backend("numpy"), abroad(f), abroad(grad), host
