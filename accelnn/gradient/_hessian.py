"""Hessians of scalar functions, and Hessian-vector products."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import numpy as np

from accelnn._typing import Array, ArrayLike, Kind, MethodName, Numbers, Tree
from accelnn.backends import BackendLike
from accelnn.gradient._argument import leaves_of
from accelnn.gradient._jacobian import direction_of, solve_along
from accelnn.gradient._options import Options
from accelnn.gradient._problem import Problem, pose
from accelnn.gradient._result import DerivativeResult, Flag
from accelnn.gradient._steps import sides, size_of, symmetric_points
from accelnn.gradient.evaluators import HasMap, Mapper

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["numerical_hessian", "numerical_hvp"]

Scalar = TypeVar("Scalar", bound=np.generic)

# Elements of the points of one block of lines.
BLOCK = 1 << 20


@overload
def numerical_hessian(
    f: Callable[..., Any],
    x: np.ndarray[Any, np.dtype[Scalar]],
    *,
    diagonal: bool = False,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> NDArray[Scalar]: ...
@overload
def numerical_hessian(
    f: Callable[..., Any],
    x: Kind,
    *,
    diagonal: bool = False,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Kind: ...
@overload
def numerical_hessian(
    f: Callable[..., Any],
    x: Numbers,
    *,
    diagonal: bool = False,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Array: ...
@overload
def numerical_hessian(
    f: Callable[..., Any],
    x: ArrayLike,
    *,
    diagonal: bool = False,
    full_output: Literal[True],
    **options: Unpack[Options],
) -> DerivativeResult: ...
@overload
def numerical_hessian(
    f: Callable[..., Any],
    x: ArrayLike,
    *,
    diagonal: bool = False,
    full_output: bool,
    **options: Unpack[Options],
) -> Array | DerivativeResult: ...
def numerical_hessian(
    f: Callable[..., Any],
    x: ArrayLike,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: MethodName = "central",
    step: float | ArrayLike | None = None,
    rel_step: float | ArrayLike | None = None,
    bounds: Any = None,
    diagonal: bool = False,
    f0: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    full_output: bool = False,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Compute the symmetric Hessian of a scalar function by second differences.

    Differences along single coordinates give the diagonal; the other entries follow from those
    along pairs of coordinates by polarization.

    Parameters
    ----------
    f : callable
        As in `numerical_gradient`.
    x : array_like
        As in `numerical_gradient`, but not a tree. n coordinates take n² + n evaluations; twice as
        many with ``"central4"`` or one-sided, and as many for each step with ``"richardson"``.
    args, kwargs, f0, in_place, workers, batched, chunk_size, progress, backend
        As in `numerical_gradient`.
    method : str, default "central"
        As in `numerical_gradient`. ``"complex"`` is the central difference of complex-step
        derivatives, accurate to about ten digits; ``"richardson"`` extrapolates central second
        differences.
    step, rel_step : float or array_like, optional
        One for all coordinates or one for each. By default eps^(1/4) (central), eps^(1/6)
        (central4) or eps^(1/3) times max(1, abs(x)); an extrapolation starts at max(1, abs(x)) / 2.
    bounds : optional
        As in `numerical_gradient`; not with ``method="complex"``.
    diagonal : bool, default False
        Return only the diagonal, which takes 2n evaluations.
    full_output : bool, default False
        As in `numerical_gradient`; takes twice as many evaluations.

    Returns
    -------
    array or DerivativeResult
        Of shape ``(*x.shape, *x.shape)``, or that of x for the diagonal, and x's dtype.

    Raises
    ------
    ValueError
        As in `numerical_gradient`.
    accelnn.errors.ImpureFunctionError
        As in `numerical_gradient`.

    References
    ----------
    M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 25.3.23 to 25.3.27.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([1.0, 2.0])
    >>> accelnn.numerical_hessian(lambda x: x[0] ** 2 * x[1], x).round(5)
    array([[4., 2.],
           [2., 0.]])
    >>> accelnn.numerical_hessian(lambda x: np.sum(x**3), x, diagonal=True).round(5)
    array([ 6., 12.])
    """
    with pose(
        f,
        x,
        backend=backend,
        order=2,
        args=args,
        kwargs=kwargs,
        method=method,
        step=step,
        rel_step=rel_step,
        bounds=bounds,
        f0=f0,
        in_place=in_place,
        workers=workers,
        batched=batched,
        chunk_size=chunk_size,
    ) as problem:
        argument, n = problem.argument, problem.x.size
        if argument.is_tree and not diagonal:
            msg = (
                "a Hessian needs a single array: concatenate the arrays of x, or pass diagonal=True"
            )
            raise ValueError(msg)
        problem.require_safe_gradient()
        solve = functools.partial(
            problem.solve, title="Numerical Hessian", diagnose=full_output, progress=progress
        )
        alone = solve()
        if diagonal:
            return problem.result(alone, full_output=full_output)
        i, j = np.triu_indices(n, 1)
        sign, h = _moves(problem)
        columns = np.stack([i, j], axis=1)
        is_free = (h[i] > 0.0) & (h[j] > 0.0)
        lines = problem.along(columns[is_free], (sign * h)[columns[is_free]])
        pairs = solve(lines, np.ones(len(lines)), unit="entries")
        i, j, move = i[is_free], j[is_free], sign * h
        value = _matrix(i, j, alone.value, pairs.value, move)
        error = alone.error
        if alone.error is not None and pairs.error is not None:
            # Errors add up, also of terms that are subtracted.
            error = np.abs(_matrix(i, j, -alone.error, pairs.error, h))
        for k in (i, j):
            # A pair is one-sided because one of its coordinates is.
            np.bitwise_or.at(alone.flags, k, pairs.flags & ~Flag.ONE_SIDED)
        shape = (*argument.shape, *argument.shape)
        return problem.result(
            alone._replace(value=value, error=error),
            lambda matrix: problem.array(matrix.reshape(shape)),
            full_output=full_output,
        )


def _moves(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the direction of each coordinate's move, and its length."""
    x, bounds = problem.x, problem.bounds
    side, h = sides(x, bounds, problem.h, problem.method, 2)
    if bounds is None:
        # Symmetric after rounding, so that a linear function has no curvature.
        h = symmetric_points(x, h, problem.argument.rounded)[0] - x
    return np.where(side == 0, 1, side), h


def _matrix(
    i: np.ndarray, j: np.ndarray, alone: np.ndarray, pairs: np.ndarray, move: np.ndarray
) -> np.ndarray:
    """Return the matrix with `alone` on its diagonal, the rest from pairs of coordinates."""
    full = np.diag(alone[:, 0])
    full[i, j] = full[j, i] = _cross_derivatives(
        pairs[:, 0], alone[i, 0], alone[j, 0], move[i], move[j]
    )
    return full


def _cross_derivatives(both: np.ndarray, first: Any, second: Any, a: Any, b: Any) -> np.ndarray:
    """Return H(u, v), by polarization: H(au + bv, au + bv) = a² H(u, u) + b² H(v, v) + 2ab H(u, v).

    Parameters
    ----------
    both, first, second : array_like
        H(au + bv, au + bv), H(u, u) and H(v, v).
    a, b : array_like
        Factors.
    """
    found: np.ndarray = (both - (a**2 * first + b**2 * second)) / (2.0 * a * b)
    return found


def numerical_hvp(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    v: ArrayLike | Tree,
    *,
    grad: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: MethodName = "central",
    step: float | None = None,
    bounds: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Compute the product of the Hessian of a scalar function with v.

    Parameters
    ----------
    f : callable
        As in `numerical_gradient`.
    x, v : array_like or tree
        The point, and a vector in its form.
    grad : callable, optional
        The gradient of f, in the form of `x`. The product is then its derivative along v, which
        takes two evaluations and has about ten digits; second differences of `f` take 4n + 2.
    args, kwargs, bounds, in_place, workers, batched, backend
        As in `numerical_gradient`; they apply to `grad` if that is given.
    method, step
        As in `numerical_hessian`, and with `grad` as in `numerical_jvp`.

    Returns
    -------
    array or tree
        In the form of `x`.

    Raises
    ------
    ValueError
        If v or the gradient does not have the form of x; and as in `numerical_gradient`.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x, v = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> accelnn.numerical_hvp(lambda x: x[0] ** 2 * x[1], x, v).round(5)
    array([4., 2.])
    >>> gradient = lambda x: np.array([2 * x[0] * x[1], x[0] ** 2])
    >>> accelnn.numerical_hvp(None, x, v, grad=gradient).round(8)
    array([4., 2.])
    """
    options = {
        "args": args,
        "kwargs": kwargs,
        "method": method,
        "bounds": bounds,
        "in_place": in_place,
        "workers": workers,
        "batched": batched,
        "backend": backend,
    }
    if grad is not None:
        with pose(_Flat(grad), x, scalar=False, **options) as problem:
            found = solve_along(problem, v, step)
            argument = problem.argument
            if found.value.size != argument.size:
                msg = f"grad(x) has shape {problem.shape}, and x has {argument.size} coordinates"
                raise ValueError(msg)
            return problem.result(found._replace(value=found.value.T))
    with pose(f, x, order=2, step=step, **options) as problem:
        problem.require_safe_gradient()
        product = problem.like_x(_second(problem, v)[:, None])
        problem.evaluator.finish(diagnose=False)
        return product


def _second(problem: Problem, v: ArrayLike | Tree) -> np.ndarray:
    """Return H v by second differences along v, each coordinate, and their sums."""
    direction, unit = direction_of(problem, v)
    n, h = problem.x.size, problem.h
    if unit == 0.0 or n == 0:
        return np.zeros(n)
    t = float(h.min() / size_of(problem.x)[h.argmin()])
    every = np.arange(n)
    alone = problem.solve().value[:, 0]
    line = problem.along(every[None], direction[None])
    straight = problem.solve(line, np.array([t])).value[0, 0]
    both = np.empty(n)
    size = max(1, BLOCK // n)
    for start in range(0, n, size):
        rows = every[start : start + size]
        directions = np.repeat(t * direction[None], len(rows), axis=0)
        directions[np.arange(len(rows)), rows] += h[rows]
        lines = problem.along(np.repeat(every[None], len(rows), axis=0), directions)
        both[rows] = problem.solve(lines, np.ones(len(rows))).value[:, 0]
    product = _cross_derivatives(both, alone, straight, h, t) / unit
    if problem.bounds is not None:
        product[problem.bounds.low == problem.bounds.high] = 0.0
    return product


class _Flat:
    """A gradient, flattened to one vector."""

    def __init__(self, grad: Callable[..., Any]) -> None:
        self.__wrapped__ = grad

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        found = self.__wrapped__(x, *args, **kwargs)
        if isinstance(found, Mapping | list | tuple):
            parts = [np.ravel(np.asarray(part)) for part in leaves_of(found)]
            return np.concatenate(parts) if parts else np.zeros(0)
        return found.reshape(-1) if hasattr(found, "reshape") else found
