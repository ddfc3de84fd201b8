"""Checks of a gradient against finite differences whose own noise is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from accelnn._shown import shown
from accelnn._typing import ArrayLike, Rng, Tree
from accelnn._validation import as_floating, generator, positive_int, require_callable
from accelnn._warn import warn
from accelnn.backends import Backend, BackendLike
from accelnn.errors import GradientCheckError, InconclusiveCheckWarning
from accelnn.formulas._checks import nearest
from accelnn.gradient._argument import is_tree, leaves_of, names_of
from accelnn.gradient._compare import Comparer, Place
from accelnn.gradient._convergence import Comparison
from accelnn.gradient._precision import machine_epsilon
from accelnn.gradient._problem import Problem, pose, with_arguments
from accelnn.gradient._result import GradientFailure, GradientReport, Mode, joined
from accelnn.gradient._steps import require_step
from accelnn.gradient.evaluators import HasMap, Mapper, adopt, from_foreign, refuse_random

__all__ = ["check_gradient"]

# After a direction has failed, the bisection for the worst coordinate stops at so many.
SEARCHED_COORDINATES = 500
# At most so many places are examined closely.
EXAMINED = 100


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
        Takes an `x` and returns a real number or an array of them. As in `numerical_gradient`, it
        may be a closure that reads `x` instead of its argument.
    grad : callable, array_like, tree or True
        The gradient to check, or the Jacobian of shape ``(*f(x).shape, *x.shape)``: a function of
        `x`, or its value at `x`; True if f returns (value, gradient). Arrays may come from any
        library that supports DLPack, so that torch and JAX functions are checked as they are.
        ``check_gradient(gradient, hessian, x)`` checks second derivatives.
    x : array_like or tree
        Where to check. Several arrays, such as a net's `params`, are checked one by one; `grad`
        has the same structure.
    mode : {"directional", "sampled", "full"}, default "directional"
        Compare derivatives along `directions` random directions, with two evaluations each
        whatever the size of `x`; along `samples` random coordinates; or along all coordinates, at
        two steps. Directions only show errors that are not small relative to the whole gradient:
        a coordinate whose derivative is a millionth of the others' goes unchecked. "full" checks
        it too.
    directions, samples : int
        How many to compare.
    atol, rtol : float, optional
        Absolute and relative difference that count as agreement. By default 0 and 10 √eps of the
        least precise dtype among `x`, f(x) and the gradient, but 0.005 in half precision. The
        rounding noise of `f` is added. Where a difference disagrees, or noise dominates it, more
        differences are taken at step sizes from the size of `x` down to where noise dominates, so
        that neither curvature nor a kink near `x` makes a right gradient fail. What they do not
        prove is reported as inconclusive.
    step : float, optional
        The step in units of max(1, abs(x)), by default eps^(1/3).
    args, kwargs : sequence and mapping, optional
        Further arguments of `f` and of `grad`.
    in_place, workers
        As in `numerical_gradient`.
    raises : bool, default True
        Whether to raise if the gradient is wrong instead of returning the report.
    rng : int, Generator or None, default 0
        Draws the random directions and coordinates.
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
        If the gradient does not match `x` in shape or structure, or if f(x) is not finite.
    accelnn.errors.ImpureFunctionError
        If `f` is random, or does not depend on its argument alone where a copy of `x` must be
        moved.

    Warns
    -----
    accelnn.errors.InconclusiveCheckWarning
        If nothing was proven, because `f` is too noisy, as 1e9 + x² is in float32, or because x
        is too close to the edge of its domain.

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
        is_number = isinstance(given, int | float)
        if given is not None and not (is_number and 0.0 <= nearest(given) < math.inf):
            msg = f"{name} must be None or a finite number >= 0, got {shown(given)}"
            raise ValueError(msg)
    if step is not None:
        require_step(step)
    if mode not in get_args(Mode):
        msg = f"unknown mode {shown(mode)}; known modes are {', '.join(map(repr, get_args(Mode)))}"
        raise ValueError(msg)
    f, grad = _separated(with_arguments(f, args, kwargs), grad, args, kwargs)
    home, f, grad, x = from_foreign(backend, f, grad, x)
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
        report = joined(mode, [check.report() for check in checks])
        if not problem.evaluator.finish(diagnose=True):
            refuse_random(problem.evaluator.base, problem.evaluator.at_copy())
    if not report.passed and raises:
        raise GradientCheckError(str(report), report=report)
    if report.verdict == "inconclusive":
        msg = (
            f"{report}: f is too noisy, or x too close to the edge of its domain; compute f in a "
            f"more precise dtype, or check at another x"
        )
        warn(msg, InconclusiveCheckWarning)
    return report


@dataclass(frozen=True)
class _Part:
    """One array of x: its name, shape and flat coordinates; `outputs` is the shape of f(x)."""

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
    """Compares the gradient with respect to one array."""

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
        """Return the result of all comparisons."""
        with np.errstate(all="ignore"):
            return self._report()

    def _report(self) -> GradientReport:
        by_direction = self.mode == "directional"
        self.comparer.trust_f()
        report = self._verdict(
            self._places(), by_direction=by_direction, most=1 if by_direction else EXAMINED
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
        # At one step, truncation may happen to cancel an error of the gradient; not at two.
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
        """Examine the places that disagree, worst first, until `most` have failed.

        `ends` stops at the first inconclusive place.
        """
        comparer = self.comparer
        first, step = self._compared(places), comparer.step
        worst_first = sorted(range(len(places)), key=lambda i: -first[i].severity)
        differing = [i for i in worst_first[:EXAMINED] if first[i].severity > 1.0]
        if differing and comparer.adapt_to_noise():
            places = [place.times(comparer.step / step) for place in places]
            first = self._compared(places)
        # The norm of the gradient, or the size of a random direction's derivative.
        slopes = np.array([found.analytic for found in first])
        norm = float(np.sqrt(np.mean(np.where(np.isfinite(slopes), slopes, 0.0) ** 2)))
        if not by_direction:
            norm *= math.sqrt(self.part.columns.size)
        is_noisy = [found.is_hidden(norm) for found in first]
        # A direction stands for all coordinates, a coordinate for itself alone.
        examines_noisy = sum(is_noisy) > (len(places) // 2 if by_direction else 0)
        failed: list[tuple[Comparison, Place]] = []
        rest: list[tuple[Comparison, Place]] = []
        for i in sorted(range(len(places)), key=lambda i: -first[i].severity):
            found, place = first[i], places[i]
            # Measured noise is no excuse for a place that disagreed before it was allowed for.
            differs = found.severity > 1.0 or i in differing
            if len(failed) < most and (differs or (examines_noisy and is_noisy[i] and not failed)):
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
        """Return a report that names the wrong coordinate, or `found` where none stands out.

        Where directions are inconclusive, as at the edge of a domain, coordinates may not be.
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
        # A direction that proved the gradient wrong is not overruled by a coordinate.
        if named.verdict == "inconclusive" or (named.passed and not found.passed):
            return found
        return replace(named, comparisons=found.comparisons)

    def _discrepancy(self, move: Place) -> float:
        """Return the error of the predicted change of f along a move."""
        (found,) = self.comparer.compare([move])
        error = float(np.max(found.error)) * float(np.linalg.norm(move.move))
        return error if math.isfinite(error) else math.inf


def _separated(f: Any, grad: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return f and its gradient as two functions, also where f returns both at once."""
    if grad is not True:
        return f, with_arguments(grad, args, kwargs) if callable(grad) else grad

    def part(k: int, x: Any) -> Any:
        both = f(x)
        if not isinstance(both, tuple | list) or len(both) != 2:  # noqa: PLR2004 - a pair
            msg = f"with grad=True f must return (value, gradient), but it returned {shown(both)}"
            raise TypeError(msg)
        return both[k]

    return (lambda x: part(0, x)), (lambda x: part(1, x))


def _gradient_of(problem: Problem, grad: Any) -> tuple[np.ndarray, float]:
    """Return the gradient as an array of shape (q, n), and the largest machine epsilon."""
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
                    f"the gradient has shape {tuple(array.shape)}, but must have shape {wanted}: "
                    f"f(x) has {problem.shape} and x has {shape}"
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
    """Refuse a gradient whose tree has other leaves than that of x."""
    wanted = names_of(x)
    given = names_of(grad) if is_tree(backend, grad) else []
    if wanted != given:
        kind, found = f"{len(wanted)} arrays", f"{len(given)}"
        if isinstance(x, Mapping):
            kind = f"the keys {sorted(wanted)}"
            found = f"the keys {sorted(given)}" if isinstance(grad, Mapping) else "no keys"
        msg = f"x has {kind}, and the gradient has {found}"
        raise ValueError(msg)
