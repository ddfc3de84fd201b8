"""The common entry of all public functions: checks arguments and chooses how f is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from accelnn._differences import HIGHEST_ORDER, find_method
from accelnn._progress import progress_bar
from accelnn._typing import Array, ArrayLike, Tree
from accelnn._validation import positive_int, require_callable
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.gradient._argument import Argument, leaves_of
from accelnn.gradient._complex import require_complex_safe
from accelnn.gradient._differentiate import Derivatives, differentiate
from accelnn.gradient._lines import Coordinates, Directions, Lines
from accelnn.gradient._precision import machine_epsilon, wide
from accelnn.gradient._result import DerivativeResult, Flag
from accelnn.gradient._steps import Bounds, imaginary_step, read_bounds, sides, step_sizes
from accelnn.gradient.evaluators import (
    Batched,
    Compiled,
    Evaluator,
    Function,
    HasMap,
    Mapper,
    Serial,
    Values,
    Workers,
    no_progress,
    points_beside,
    workers_for,
)

__all__ = ["Problem", "pose", "with_arguments"]


class Problem:
    """A function to differentiate at x, with method, steps and bounds.

    Attributes
    ----------
    backend : Backend
        Whose arrays.
    method : Method
        The finite difference.
    order : int
        The order of the derivative.
    argument : Argument
        x in the form that f takes.
    x : numpy.ndarray of shape (n,)
        x in double precision at least, on the host.
    h : numpy.ndarray of shape (n,)
        The steps.
    bounds : Bounds or None
        The bounds of x.
    evaluator : Evaluator
        Evaluates f.
    epsilon : float
        The larger machine epsilon of x and f.
    lines : Coordinates
        One line along each coordinate of x.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        given: Any,
        *,
        backend: Backend,
        method: str,
        order: int = 1,
        step: Any = None,
        rel_step: Any = None,
        bounds: Any = None,
        scalar: bool | None = True,
        f0: Any = None,
        in_place: bool | None = None,
        **options: Any,
    ) -> None:
        self.backend, self.method, self.order = backend, find_method(method), order
        self.argument = argument = Argument(backend, given)
        self.x = wide(argument.host)
        self.bounds: Bounds | None = None
        if bounds is not None:
            self.bounds = read_bounds(_on_host(backend, bounds), self.x, argument.shape)
        if self.bounds is not None and self.method.is_imaginary and order > 1:
            msg = "second derivatives by method='complex' support no bounds; use method='central'"
            raise ValueError(msg)
        self._asked: dict[str, Any] = {"shape": argument.shape, "dtype": argument.dtype}
        for name, size in (("step", step), ("rel_step", rel_step)):
            if size is not None:
                self._asked[name] = _on_host(backend, size)
        self.epsilon = machine_epsilon(backend, *argument.dtypes)
        self.h = self._steps()
        self.evaluator = evaluator = self._evaluator(f, scalar=scalar, in_place=in_place, **options)
        base = None if f0 is None else _given(evaluator.values, f0)
        evaluator.base = evaluator.begin(self._beside(), base, in_place=in_place)
        values = evaluator.values
        if values.epsilon > self.epsilon:
            self.epsilon = values.epsilon
            self.h = self._steps()
        self.shape: tuple[int, ...] = values.shape or ()
        base = wide(evaluator.base.real.reshape(-1))
        self.lines: Lines = Coordinates(evaluator, self.x, base, self.bounds)

    def _evaluator(
        self,
        f: Function,
        *,
        scalar: bool | None,
        in_place: bool | None,
        workers: int | Mapper | HasMap | None = None,
        batched: bool = False,
        chunk_size: int | None = None,
    ) -> Evaluator:
        """Choose how f is evaluated."""
        if chunk_size is not None:
            positive_int(chunk_size, "chunk_size")
        if batched and workers is not None:
            msg = "batched=True evaluates in this process: leave out workers, or batched"
            raise ValueError(msg)
        argument, is_complex = self.argument, self.method.is_imaginary
        values = Values(self.backend, is_complex=is_complex, scalar=scalar)
        parts = (f, argument, _lifted(argument) if is_complex else argument.flat, values)
        crew = None if workers is None else workers_for(workers, f)
        can_loop = scalar and not is_complex and not argument.is_tree and not in_place
        evaluator: Evaluator
        if batched:
            evaluator = Batched(*parts, chunk_size)
        elif crew is not None:
            evaluator = Workers(*parts, crew, chunk_size)
        elif can_loop and Compiled.takes(self.backend, f):
            evaluator = Compiled(*parts)
        else:
            evaluator = Serial(*parts)
        if in_place and not evaluator.can_move_x:
            msg = (
                "in_place=True moves x itself, one call of f after the other: leave out workers, "
                "batched and method='complex', and pass x as a writable float array"
            )
            raise ValueError(msg)
        return evaluator

    def _steps(self) -> np.ndarray:
        """Return the caller's steps, or the default ones."""
        return step_sizes(self.x, self.method, self.order, epsilon=self.epsilon, **self._asked)

    def _beside(self) -> Iterator[np.ndarray]:
        """Yield points near x at which f is probed."""
        method, order, h = self.method, self.order, self.h
        if method.is_imaginary:
            method, order = find_method("central"), 1
            h = step_sizes(self.x, method, order, epsilon=self.epsilon)
        side: Any = method.side
        if self.bounds is not None:
            side, _ = sides(self.x, self.bounds, h, method, order)
        for point in points_beside(self.x, h, side, self.bounds):
            yield self.argument.rounded(point)

    def along(self, columns: np.ndarray, directions: np.ndarray) -> Lines:
        """Return lines through x along directions."""
        return Directions(self.lines, columns, directions)

    def solve(
        self,
        lines: Lines | None = None,
        h: np.ndarray | None = None,
        *,
        title: str = "",
        unit: str = "coordinates",
        diagnose: bool = False,
        progress: bool = False,
        count: int | None = None,
    ) -> Derivatives:
        """Return derivatives along lines, by default along all coordinates."""
        lines = self.lines if lines is None else lines
        h = self.h if h is None else h
        measures = diagnose or self.method.is_extrapolated
        noise = lines.noise(self.bounds) if measures and not self.method.is_imaginary else None
        total = len(lines) if count is None else count
        bar = progress_bar(title, total, unit=unit) if progress else nullcontext(no_progress)
        with bar as advance:
            return differentiate(
                lines,
                self.method,
                self.order,
                h,
                epsilon=self.epsilon,
                noise=noise,
                diagnose=diagnose,
                advance=advance,
            )

    def require_complex_safe(
        self, value: np.ndarray, rows: np.ndarray | None = None, columns: np.ndarray | None = None
    ) -> None:
        """Raise ValueError if f loses the imaginary part of complex steps.

        `value` holds first derivatives of shape (n, q), or the entries of the Jacobian at `rows`
        and `columns`.
        """
        if not self.method.is_imaginary:
            return
        q = self.lines.base.size
        if rows is None or columns is None:
            columns, rows = (a.reshape(-1) for a in np.indices(value.shape))
        entries = value.reshape(-1)

        def predict(move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            parts = entries * move[columns]
            change, size = (np.bincount(rows, w, minlength=q) for w in (parts, np.abs(parts)))
            return change, size

        unmoved = np.bincount(columns, entries != 0.0, minlength=self.x.size) == 0
        require_complex_safe(self.lines, self.bounds, predict, unmoved, self.epsilon)

    def require_safe_gradient(self) -> None:
        """As `require_complex_safe`, for second derivatives, which need no first ones otherwise."""
        if self.method.is_imaginary:
            h = imaginary_step(self.x)
            first = differentiate(self.lines, self.method, 1, h, epsilon=self.epsilon)
            self.require_complex_safe(first.value)

    def array(self, values: np.ndarray) -> Array:
        """Return values as an array of the backend in x's dtype."""
        return self.backend.asarray(values, self.argument.flat.dtype)

    def like_x(self, values: np.ndarray) -> Any:
        """Return values of shape (n, 1), one for each coordinate, in the form of x."""
        return self.argument.of(self.array(values[:, 0]))

    def result(
        self,
        found: Derivatives,
        form: Callable[[np.ndarray], Any] | None = None,
        *,
        full_output: bool = False,
        is_along: bool = False,
    ) -> Any:
        """Call f for the last time, and return what the caller gets.

        `form` converts values and errors, by default to the form of x; `is_along` says that steps
        and flags are those of a direction instead of the coordinates.
        """
        form = form or self.like_x
        repeats = self.evaluator.finish(diagnose=full_output)
        derivative = form(found.value)
        if not full_output:
            return derivative
        error = None if found.error is None else form(found.error)
        argument, evaluator = self.argument, self.evaluator
        flags, step = found.flags | (Flag.OK if repeats else Flag.RANDOM), self.array(found.step)
        if not is_along:
            flags, step = flags.reshape(argument.shape), argument.of(step)
        return DerivativeResult(derivative, error, step, evaluator.count, flags, evaluator.how)


@contextmanager
def pose(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    backend: BackendLike | None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    order: int = 1,
    **options: Any,
) -> Iterator[Problem]:
    """Check the arguments and yield the problem, with the backend's device current.

    `options` are those of `Problem`.
    """
    require_callable(f)
    if positive_int(order, "order") > HIGHEST_ORDER:
        msg = f"order must be at most {HIGHEST_ORDER}, got {order}"
        raise ValueError(msg)
    # The arrays of a tree select the backend.
    home = resolve(backend, *(leaves_of(x) if isinstance(x, Mapping | list | tuple) else (x,)))
    with home.current():
        yield Problem(with_arguments(f, args, kwargs), x, backend=home, order=order, **options)


def _given(values: Values, f0: Any) -> np.ndarray:
    """Return the caller's f(x), checked like a value of f."""
    try:
        return values.on_host(values.one(f0))
    except (TypeError, ValueError) as error:
        msg = f"f0 is not a valid value of f: {error}"
        raise type(error)(msg) from error


def _lifted(argument: Argument) -> Array:
    """Return x as complex numbers, in double precision at least so that tiny steps are not 0."""
    backend, flat = argument.backend, argument.flat
    if backend.xp.finfo(flat.dtype).bits > np.finfo(np.float64).bits:
        return flat + 0j
    return backend.xp.astype(flat, backend.dtype("complex128"))


def with_arguments(
    f: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Bind further arguments of f."""
    # As in SciPy, a single argument need not be in a tuple.
    args = tuple(args) if isinstance(args, tuple | list) else (args,)
    return _WithArguments(f, args, dict(kwargs or {})) if args or kwargs else f


class _WithArguments:
    """A function with further arguments bound, picklable if the function is."""

    def __init__(self, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.__wrapped__, self.args, self.kwargs = f, args, kwargs

    def __call__(self, x: Any) -> Any:
        return self.__wrapped__(x, *self.args, **self.kwargs)


def _on_host(backend: Backend, given: Any) -> Any:
    """Return the caller's numbers on the host."""
    if isinstance(given, tuple):
        return tuple(_on_host(backend, part) for part in given)
    return backend.to_numpy(given) if backend.owns(given) else given
