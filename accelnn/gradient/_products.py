"""Products of Jacobians and Hessians with a vector, without the matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from accelnn._typing import ArrayLike
from accelnn.backends import BackendLike
from accelnn.gradient._argument import Argument, leaves_of, names_of
from accelnn.gradient._complex import require_complex_safe
from accelnn.gradient._differentiate import Derivatives
from accelnn.gradient._hessian import cross_derivatives
from accelnn.gradient._problem import Problem, pose
from accelnn.gradient.evaluators import HasMap, Mapper

__all__ = ["numerical_hvp", "numerical_jvp"]

# Numbers of the points of one block of lines.
BLOCK = 1 << 20


def numerical_jvp(
    f: Callable[..., Any],
    x: ArrayLike,
    v: ArrayLike,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: str = "central",
    step: float | None = None,
    bounds: Any = None,
    f0: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    full_output: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Return the derivative of f along v, the product of its Jacobian with v.

    Whatever the size of `x`, it takes two evaluations by central differences.

    Parameters
    ----------
    f : callable
        As in `numerical_jacobian`.
    x : array_like or tree
        As in `numerical_gradient`.
    v : array_like or tree
        The direction, in the form of `x`; of any length.
    args, kwargs, method, bounds, f0, in_place, workers, batched, full_output, backend
        As in `numerical_gradient`.
    step : float, optional
        h of f(x + hv). By default that of `numerical_gradient` for the coordinate of which v
        moves the largest part of max(1, abs(x)).

    Returns
    -------
    array or DerivativeResult
        Of the shape of f(x) and x's dtype. Of a result, steps and flags are along v.

    Raises
    ------
    ValueError
        If v is not like x; and as in `numerical_gradient`.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> x = np.array([1.0, 2.0])
    >>> accelnn.numerical_jvp(lambda x: np.array([x[0] * x[1], x[0] ** 2]), x, [1.0, 1.0]).round(6)
    array([3., 2.])
    """
    with pose(
        f,
        x,
        backend=backend,
        args=args,
        kwargs=kwargs,
        method=method,
        bounds=bounds,
        scalar=False,
        f0=f0,
        in_place=in_place,
        workers=workers,
        batched=batched,
    ) as problem:
        found = _along(problem, v, step, diagnose=full_output)
        return problem.result(
            found,
            lambda a: problem.array(a.reshape(problem.shape)),
            full_output=full_output,
            is_along=True,
        )


def _along(problem: Problem, v: ArrayLike, step: float | None, *, diagnose: bool) -> Derivatives:
    """Return the first derivative along v."""
    direction, unit = _direction(problem, v)
    q = problem.lines.base.size
    if unit == 0.0:
        return Derivatives(np.zeros((1, q)), np.zeros(1), np.zeros((1, q)), np.zeros(1, int))
    lines = problem.along(np.arange(problem.x.size)[None], direction[None])
    # t = 1 moves by v times `unit`.
    h = problem.steps_along(None if step is None else step / unit)
    found = problem.solve(lines, h, title="", diagnose=diagnose)
    if problem.method.is_imaginary:
        length = float(np.sum(direction**2))

        def predict(move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            change = found.value[0] * float(np.sum(move * direction)) / length
            return change, np.abs(change)

        require_complex_safe(
            problem.lines, problem.bounds, predict, np.zeros(0, bool), problem.epsilon, direction
        )
    error = None if found.error is None else found.error / unit
    return found._replace(value=found.value / unit, step=found.step * unit, error=error)


def _direction(problem: Problem, v: ArrayLike) -> tuple[np.ndarray, float]:
    """Return v in a length like that of x, and by what it was multiplied; 0 where v is 0."""
    given = Argument(problem.backend, v, "v")
    is_alike = names_of(v) == names_of(problem.argument.given) or not given.is_tree
    if (
        given.is_tree != problem.argument.is_tree
        or not is_alike
        or (given.shapes != problem.argument.shapes)
    ):
        msg = f"v must be like x: it has shape {given.shape}, and x has {problem.argument.shape}"
        raise ValueError(msg)
    flat = given.host.astype(problem.x.dtype)
    if problem.bounds is not None:
        # What cannot move has derivatives of 0.
        flat = np.where(problem.bounds.low == problem.bounds.high, 0.0, flat)
    largest = np.max(np.abs(flat) / np.maximum(np.abs(problem.x), 1.0), initial=0.0)
    if largest == 0.0:
        return flat, 0.0
    return flat / largest, float(1.0 / largest)


def numerical_hvp(
    f: Callable[..., Any],
    x: ArrayLike,
    v: ArrayLike,
    *,
    grad: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: str = "central",
    step: float | None = None,
    bounds: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Return the product of the Hessian of a scalar function with v.

    Parameters
    ----------
    f : callable
        As in `numerical_gradient`.
    x, v : array_like or tree
        The point, and a vector in its form.
    grad : callable, optional
        The gradient of f, in the form of `x`: the product is then its derivative along v, at two
        evaluations and about ten digits. Without it, second differences of `f` take 4n + 2.
    args, kwargs, bounds, in_place, workers, batched, backend
        As in `numerical_gradient`; they are of `grad` where that is given.
    method, step
        As in `numerical_hessian`, and with `grad` as in `numerical_jvp`.

    Returns
    -------
    array or tree
        In the form of `x`.

    Raises
    ------
    ValueError
        If v or the gradient is not like x; and as in `numerical_gradient`.

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
            found = _along(problem, v, step, diagnose=False)
            argument = problem.argument
            if found.value.size != argument.size:
                msg = f"grad(x) has shape {problem.shape}, and x has {argument.size} coordinates"
                raise ValueError(msg)
            return problem.result(
                found._replace(value=found.value.T), problem.like_x, full_output=False
            )
    with pose(f, x, order=2, step=step, **options) as problem:
        problem.require_safe_gradient()
        product = problem.argument.of(problem.array(_second(problem, v)))
        problem.start.finish(diagnose=False)
        return product


def _second(problem: Problem, v: ArrayLike) -> np.ndarray:
    """Return H v by second differences along v, each coordinate, and both at once."""
    direction, unit = _direction(problem, v)
    n, h = problem.x.size, problem.h
    if unit == 0.0 or n == 0:
        return np.zeros(n)
    t = float(h.min() / np.maximum(np.abs(problem.x), 1.0)[h.argmin()])
    every = np.arange(n)
    alone = problem.solve(problem.lines, h, title="").value[:, 0]
    line = problem.along(every[None], direction[None])
    straight = problem.solve(line, np.array([t]), title="").value[0, 0]
    both = np.empty(n)
    size = max(1, BLOCK // n)
    for start in range(0, n, size):
        rows = every[start : start + size]
        directions = np.repeat(t * direction[None], len(rows), axis=0)
        directions[np.arange(len(rows)), rows] += h[rows]
        lines = problem.along(np.repeat(every[None], len(rows), axis=0), directions)
        both[rows] = problem.solve(lines, np.ones(len(rows)), title="").value[:, 0]
    product = cross_derivatives(both, alone, straight, h, t) / unit
    if problem.bounds is not None:
        product[problem.bounds.low == problem.bounds.high] = 0.0
    return product


class _Flat:
    """A gradient as one vector, whatever its form."""

    def __init__(self, grad: Callable[..., Any]) -> None:
        self.__wrapped__ = grad

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        found = self.__wrapped__(x, *args, **kwargs)
        if isinstance(found, Mapping | list | tuple):
            parts = [np.ravel(np.asarray(part)) for part in leaves_of(found)]
            return np.concatenate(parts) if parts else np.zeros(0)
        return found.reshape(-1) if hasattr(found, "reshape") else found
