"""The gradient of a scalar function of many variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from accelnn._progress import progress_bar
from accelnn._typing import Array, ArrayLike
from accelnn._validation import (
    as_array,
    as_floating,
    as_number,
    check_finite,
    on_host,
    require_callable,
)
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.gradient._bounds import Bounds, read_bounds
from accelnn.gradient._complex import Slopes, require_complex_safe
from accelnn.gradient._differentiate import Derivatives, differentiate
from accelnn.gradient._result import DerivativeResult, Flag
from accelnn.gradient._steps import check_method
from accelnn.gradient.evaluators import HasMap, Mapper, Start, make_evaluator

__all__ = ["Problem", "flat_steps", "numerical_gradient", "pose"]


def numerical_gradient(
    f: Callable[[Array], Any],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | ArrayLike | None = None,
    bounds: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    full_output: bool = False,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Return the gradient of a scalar function by finite differences.

    Parameters
    ----------
    f : callable
        Takes an array like `x` and returns a real scalar. With ``batched=True`` it takes
        ``(k, *x.shape)``, k points at once, and returns ``(k,)``. On the numba backend a function
        that Numba compiles is called in one compiled loop on all threads.
    x : array_like
        Where to differentiate. A writable float array is moved in place, one coordinate at a
        time, and restored bit for bit even when `f` raises; so a closure over `x` that ignores its
        argument, like ``lambda W: net.loss(x, t)``, gives the right answer. With `workers`,
        ``batched=True``, a compiled `f` and ``method="complex"``, and of anything else, a copy is
        moved, and `f` must depend on its argument alone.
    method : {"central", "forward", "backward", "complex", "richardson"}, default "central"
        (f(x+h) - f(x-h)) / 2h, (f(x+h) - f(x)) / h or (f(x) - f(x-h)) / h per coordinate, divided
        by the distance really taken after rounding. ``"complex"`` is Im f(x+ih) / h, right to the
        last digits where `f` computes with complex numbers, which is tried along one direction.
        ``"richardson"`` extrapolates central differences to step 0, each coordinate until rounding
        outweighs what is left: about thirteen digits for some 16 evaluations a coordinate.
    step : float or array_like, optional
        h, one for all coordinates or one for each. By default eps^(1/3) (central) or eps^(1/2)
        (one-sided) times max(1, abs(x)), with eps of the less precise of the dtypes of `x` and
        f(x); 1e-30 (complex); max(1, abs(x)) / 2, where the extrapolation begins (richardson).
    bounds : (low, high), optional
        Numbers, arrays like `x`, or None. No coordinate leaves them: a central difference without
        room becomes one of second order on the other side, a one-sided one turns round, and steps
        that fit on neither side are made smaller.
    workers : int, callable or pool, optional
        Evaluate in so many workers, -1 for one each usable processor: processes, or threads where
        `f` cannot be pickled, which must then write to nothing that they share. Or a function like
        `map` that runs ``workers(function, iterable)``, or what has one: a `multiprocessing.Pool`,
        an executor of `concurrent.futures` or mpi4py, a `joblib.Parallel`, a Dask client. It gets
        chunks of coordinates.
    batched : bool, default False
        Evaluate many points in one call of `f`.
    chunk_size : int, optional
        Coordinates per batched call, by default as many as keep the points within 1 MiB, or on a
        device within a 16th of its free memory and 256 MiB; where memory runs out, a call gets half
        as many, again and again. With `workers`, coordinates per task.
    full_output : bool, default False
        Return a `DerivativeResult`: the gradient, an estimate of its error, steps, the number of
        evaluations, and flags for kinks, values that are not finite and randomness. A central
        difference then takes four evaluations a coordinate, a one-sided one six, and six once.
    progress : bool, default False
        Show a progress bar over the coordinates.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    array or DerivativeResult
        Of the shape and dtype of `x`; float64 for integers.

    Raises
    ------
    ValueError
        If `f` returns anything but a scalar (batched: one value per point), if the step is too
        small to move x (the message names the smallest usable one), if x is not within its bounds,
        or if complex steps lose their imaginary part in `f`.
    accelnn.errors.ImpureFunctionError
        If a copy is moved and `f` ignores its argument or is random, or if `f` writes to its
        argument.
    accelnn.errors.OutOfMemoryError
        If with ``batched=True`` there is no memory for even one coordinate.

    References
    ----------
    Press, Teukolsky, Vetterling and Flannery, "Numerical Recipes", section 5.7. W. Squire and
    G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40
    (1998).

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([3.0, 4.0])
    >>> accelnn.numerical_gradient(lambda x: np.sum(x**2), x).round(6)
    array([6., 8.])
    >>> accelnn.numerical_gradient(lambda p: np.sum(p**2, axis=1), x, batched=True).round(6)
    array([6., 8.])
    >>> accelnn.numerical_gradient(lambda x: np.sum(np.exp(x)), x, method="complex", step=1e-50)
    array([20.08553692, 54.59815003])
    >>> found = accelnn.numerical_gradient(
    ...     lambda x: abs(x[0]) + x[1] ** 3, np.array([0.0, 1.0]), full_output=True
    ... )
    >>> print(found)
    2 coordinates, 16 evaluations, flags: 1 KINK
    """
    with pose(
        f,
        x,
        method=method,
        bounds=bounds,
        backend=backend,
        workers=workers,
        batched=batched,
        chunk_size=chunk_size,
    ) as problem:
        found = problem.solve("Numerical gradient", step, diagnose=full_output, progress=progress)
        shape = problem.shape
        gradient = problem.backend.xp.reshape(found.value, shape)
        problem.start.require_response(gradient)
        return problem.result(gradient, found) if full_output else gradient


class Problem(NamedTuple):
    """A function to differentiate at x, by which method, within which bounds.

    Attributes
    ----------
    backend : Backend
        Whose arrays.
    method : str
        One of `METHODS`.
    shape : tuple of int
        Of x.
    x : array of shape (n,)
        A flat, floating copy.
    bounds : Bounds or None
        Flat.
    start : Start
        f and f(x).
    """

    backend: Backend
    method: str
    shape: tuple[int, ...]
    x: Array
    bounds: Bounds | None
    start: Start

    def solve(
        self, title: str, step: float | ArrayLike | None, *, diagnose: bool, progress: bool
    ) -> Derivatives:
        """Return the derivatives along all coordinates."""
        step = flat_steps(self.backend, step, self.shape)
        with progress_bar(title, self.x.shape[0], enabled=progress, unit="coordinates") as advance:
            found = differentiate(
                self.start,
                self.x,
                method=self.method,
                step=step,
                bounds=self.bounds,
                diagnose=diagnose,
                advance=advance,
            )
        if self.method == "complex":
            n, values = self.x.shape[0], math.prod(tuple(found.value.shape)[1:])
            slopes = Slopes.dense(on_host(self.backend, found.value).reshape(n, values))
            require_complex_safe(self.start, self.x, slopes, self.bounds)
        return found

    def result(self, derivative: Array, found: Derivatives) -> DerivativeResult:
        """Return a derivative with everything that is known of it."""
        assert found.flags is not None  # noqa: S101 - it was asked for
        backend, xp = self.backend, self.backend.xp
        flags = found.flags | (Flag.OK if self.start.repeats() else Flag.RANDOM)
        errors = backend.asarray(found.error, derivative.dtype)
        return DerivativeResult(
            derivative,
            xp.reshape(errors, derivative.shape),
            xp.reshape(xp.abs(found.step), self.shape),
            self.start.evaluator.count,
            flags.reshape(self.shape),
        )


@contextmanager
def pose(
    f: Callable[[Array], Any],
    x: ArrayLike,
    *,
    method: str,
    bounds: Any,
    backend: BackendLike | None,
    scalar: bool = True,
    **options: Any,
) -> Iterator[Problem]:
    """Check what the caller handed over, evaluate f at x, and let the backend compute meanwhile.

    `options` are those of `make_evaluator`.
    """
    require_callable(f)
    check_method(method)
    backend = resolve(backend, x)
    with backend.current():
        given, x = x, as_array(backend, x)
        check_finite(backend, x, "x")
        floating = backend.xp.asarray(as_floating(backend, x), copy=True)
        limits = read_bounds(backend, floating, bounds)
        start = make_evaluator(
            backend, f, given, x, is_complex=method == "complex", scalar=scalar, **options
        )
        shape, n = tuple(x.shape), math.prod(x.shape)
        flat = backend.xp.reshape(floating, (n,))
        if limits is not None:
            limits = Bounds(*(backend.xp.reshape(end, (n,)) for end in limits))
        yield Problem(backend, method, shape, flat, limits, start)


def flat_steps(
    backend: Backend, step: float | ArrayLike | None, shape: tuple[int, ...]
) -> float | Array | None:
    """Return one step as it is, and an array of steps without its shape, which must be x's."""
    if step is None or isinstance(step, int | float | np.number):
        return step
    steps = as_array(backend, step, "step")
    if not steps.shape:
        return as_number(backend, steps)
    if tuple(steps.shape) != shape:
        msg = f"step has shape {tuple(steps.shape)}, but x has shape {shape}"
        raise ValueError(msg)
    return backend.xp.reshape(steps, (math.prod(shape),))
