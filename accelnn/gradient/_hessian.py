"""The second derivatives of a scalar function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from accelnn._typing import ArrayLike
from accelnn.backends import BackendLike
from accelnn.gradient._problem import Problem, pose
from accelnn.gradient._result import Flag
from accelnn.gradient._steps import sides, symmetric_points
from accelnn.gradient.evaluators import HasMap, Mapper

__all__ = ["cross_derivatives", "numerical_hessian"]


def numerical_hessian(
    f: Callable[..., Any],
    x: ArrayLike,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: str = "central",
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
    """Return the Hessian of a scalar function by second differences; it is symmetric.

    What f does along a coordinate gives the diagonal, and what it does along two at once gives,
    by polarization, the rest.

    Parameters
    ----------
    f : callable
        As in `numerical_gradient`.
    x : array_like
        As in `numerical_gradient`, but no tree; its n coordinates take n² + n evaluations, with
        ``"central4"`` and on one side twice as many, and with ``"richardson"`` for each step.
    args, kwargs, f0, in_place, workers, batched, chunk_size, progress, backend
        As in `numerical_gradient`.
    method : str, default "central"
        As in `numerical_gradient`. ``"complex"`` is the central difference of the complex-step
        derivative, good to about ten digits; ``"richardson"`` extrapolates central second
        differences.
    step, rel_step : float or array_like, optional
        One for all coordinates or one for each. By default eps^(1/4) (central), eps^(1/6)
        (central4) or eps^(1/3) times max(1, abs(x)); an extrapolation begins at one half of that.
    bounds : optional
        As in `numerical_gradient`; not with ``method="complex"``.
    diagonal : bool, default False
        Return the n second derivatives by one coordinate each, which take 2n evaluations.
    full_output : bool, default False
        As in `numerical_gradient`; twice as many evaluations.

    Returns
    -------
    array or DerivativeResult
        Of shape ``(*x.shape, *x.shape)``, or of x's shape for the diagonal, and x's dtype.

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
            msg = "a Hessian is of one array: concatenate what x holds, or take diagonal=True"
            raise ValueError(msg)
        problem.require_safe_gradient()
        solve = functools.partial(
            problem.solve, title="Numerical Hessian", diagnose=full_output, progress=progress
        )
        alone = solve(problem.lines, problem.h)
        if diagonal:
            return problem.result(alone, problem.like_x, full_output=full_output)
        i, j = np.triu_indices(n, 1)
        sign, h = _moves(problem)
        columns = np.stack([i, j], axis=1)
        is_free = (h[i] > 0.0) & (h[j] > 0.0)
        lines = problem.along(columns[is_free], (sign * h)[columns[is_free]])
        pairs = solve(lines, np.ones(len(lines)), unit="entries")
        value, error = (
            _square(problem, i[is_free], j[is_free], sign, h, a, b, is_error=is_error)
            for a, b, is_error in (
                (alone.value, pairs.value, False),
                (alone.error, pairs.error, True),
            )
        )
        for k in (i[is_free], j[is_free]):
            # A pair is on one side because one of its coordinates is.
            np.bitwise_or.at(alone.flags, k, pairs.flags & ~Flag.ONE_SIDED)
        shape = (*argument.shape, *argument.shape)
        return problem.result(
            alone._replace(value=value, error=error),
            lambda matrix: problem.array(matrix.reshape(shape)),
            full_output=full_output,
        )


def _moves(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the direction in which each coordinate has room, and how far it moves."""
    x, bounds = problem.x, problem.bounds
    side, h = sides(x, bounds, problem.h, problem.method, 2)
    if bounds is None:
        # So that rounding of x does not make a linear function curved.
        h = symmetric_points(x, h, problem.argument.rounded)[0] - x
    return np.where(side == 0, 1, side), h


def _square(
    problem: Problem,
    i: np.ndarray,
    j: np.ndarray,
    sign: np.ndarray,
    h: np.ndarray,
    alone: np.ndarray | None,
    pairs: np.ndarray | None,
    *,
    is_error: bool,
) -> np.ndarray:
    """Return second derivatives, or their errors, as a matrix."""
    n = problem.x.size
    if alone is None or pairs is None:
        return np.full((n, n), np.inf)
    full = np.zeros((n, n), alone.dtype)
    full[np.arange(n), np.arange(n)] = alone[:, 0]
    full[i, j] = cross_derivatives(
        pairs[:, 0], alone[i, 0], alone[j, 0], sign[i] * h[i], sign[j] * h[j], is_error=is_error
    )
    full[j, i] = full[i, j]
    return full


def cross_derivatives(
    both: np.ndarray, first: Any, second: Any, a: Any, b: Any, *, is_error: bool = False
) -> np.ndarray:
    """Return H(u, v), by polarization: H(au + bv, au + bv) = a² H(u, u) + b² H(v, v) + 2ab H(u, v).

    Parameters
    ----------
    both, first, second : array_like
        H(au + bv, au + bv), H(u, u) and H(v, v), or the errors of all.
    a, b : array_like
        Factors.
    """
    sign = 1.0 if is_error else -1.0
    area = 2.0 * np.abs(a * b) if is_error else 2.0 * a * b
    found: np.ndarray = (both + sign * (a**2 * first + b**2 * second)) / area
    return found
