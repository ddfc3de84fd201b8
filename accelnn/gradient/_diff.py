"""The derivatives of a function of one variable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends import BackendLike
from accelnn.gradient._problem import pose

__all__ = ["numerical_diff"]


def numerical_diff(
    f: Callable[..., Array],
    x: ArrayLike,
    *,
    order: int = 1,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: str = "central",
    step: float | ArrayLike | None = None,
    rel_step: float | ArrayLike | None = None,
    bounds: Any = None,
    full_output: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Return a derivative of f by finite differences, elementwise where x is an array.

    Parameters
    ----------
    f : callable
        A function of one variable that works elementwise: it takes an array of the shape of `x`
        and returns one of that shape.
    x : array_like
        Where to differentiate; it is left as it was.
    order : int, default 1
        The first to the fourth derivative.
    args, kwargs, method, step, rel_step, bounds, full_output, backend
        As in `numerical_gradient`. Steps by default are eps^(1 / (order + p)) max(1, abs(x)), where
        p is 2 (central), 4 (central4) or 1 (one-sided). ``"complex"`` takes central differences of
        the imaginary part from the second derivative on.

    Returns
    -------
    array or DerivativeResult
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If f changes the shape, if the step is too small to move x, or if complex steps lose their
        imaginary part in f.
    accelnn.errors.AmbiguousFunctionError
        If f changes both with its argument and with `x`.

    References
    ----------
    Press, Teukolsky, Vetterling and Flannery, "Numerical Recipes", section 5.7.

    Examples
    --------
    >>> import accelnn
    >>> round(float(accelnn.numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5.0)), 6)
    0.2
    >>> accelnn.numerical_diff(lambda x: x**2, [1.0, 3.0]).round(6)
    array([2., 6.])
    >>> accelnn.numerical_diff(lambda x: x**4, [1.0, 3.0], order=3, method="richardson").round(6)
    array([24., 72.])
    """
    with pose(
        f,
        x,
        backend=backend,
        order=order,
        args=args,
        kwargs=kwargs,
        method=method,
        step=step,
        rel_step=rel_step,
        bounds=bounds,
        scalar=False,
    ) as problem:
        shape, n = problem.argument.shape, problem.x.size
        if problem.shape != shape and (math.prod(problem.shape) != 1 or n != 1):
            msg = (
                f"f must work elementwise: x has shape {shape} and f(x) has shape "
                f"{problem.shape}. For a scalar function of many variables use numerical_gradient"
            )
            raise ValueError(msg)
        every = np.arange(n)
        # All coordinates move at once, and each is seen in its own value.
        lines = problem.together(np.zeros(n, int), every, every)
        found = problem.solve(lines, problem.h, title="Derivative", diagnose=full_output)
        if order == 1:
            problem.require_complex_safe(found.value[:, 0], every, every)
        return problem.result(found, problem.like_x, full_output=full_output)
