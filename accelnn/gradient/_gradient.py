"""Gradients of scalar functions, and elementwise derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

import numpy as np

from accelnn._typing import Array, ArrayLike, Kind, MethodName, Numbers, Tree
from accelnn.backends import BackendLike
from accelnn.gradient._lines import Entries
from accelnn.gradient._options import Options, Steps
from accelnn.gradient._problem import pose
from accelnn.gradient._result import DerivativeResult
from accelnn.gradient.evaluators import HasMap, Mapper

__all__ = ["numerical_diff", "numerical_gradient"]

Key = TypeVar("Key")


@overload
def numerical_gradient(
    f: Callable[..., Any],
    x: Kind,
    *,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Kind: ...
@overload
def numerical_gradient(
    f: Callable[..., Any],
    x: dict[Key, Any],
    *,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> dict[Key, Array]: ...
@overload
def numerical_gradient(
    f: Callable[..., Any],
    x: Numbers | Tree,
    *,
    full_output: Literal[False] = False,
    **options: Unpack[Options],
) -> Array: ...
@overload
def numerical_gradient(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    full_output: Literal[True],
    **options: Unpack[Options],
) -> DerivativeResult: ...
@overload
def numerical_gradient(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    full_output: bool,
    **options: Unpack[Options],
) -> Array | DerivativeResult: ...
def numerical_gradient(
    f: Callable[..., Any],
    x: ArrayLike | Tree,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: MethodName = "central",
    step: float | ArrayLike | None = None,
    rel_step: float | ArrayLike | None = None,
    bounds: Any = None,
    f0: Any = None,
    in_place: bool | None = None,
    workers: int | Mapper | HasMap | None = None,
    batched: bool = False,
    chunk_size: int | None = None,
    full_output: bool = False,
    progress: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Compute the gradient of a scalar function by finite differences.

    Parameters
    ----------
    f : callable
        Takes an `x` and returns a real number, or an array of one. Each call gets a fresh array,
        the last one `x` itself. With ``batched=True`` it takes k points of shape ``(k, *x.shape)``
        and returns ``(k,)``. On the numba backend, a function compiled by Numba is called in a
        compiled loop on all threads.
    x : array_like or tree
        Where to differentiate: an array, a number, nested lists of numbers; or a tree, which is a
        dict, or a list or tuple that holds arrays, possibly nested. It is unchanged afterwards,
        bit for bit, even if `f` raises.
    args, kwargs : sequence and mapping, optional
        Further arguments: ``f(x, *args, **kwargs)``.
    method : {"central", "central4", "forward", "backward", "complex", "richardson"}
        For each coordinate (f(x+h) - f(x-h)) / 2h (central, the default), its fourth-order
        counterpart, (f(x+h) - f(x)) / h or (f(x) - f(x-h)) / h, divided by the actual distance
        after rounding. ``"complex"`` is Im f(x+ih) / h, accurate to the last digits if `f` supports
        complex numbers, which is checked along one direction. ``"richardson"`` extrapolates central
        differences to step 0 until rounding dominates: about thirteen digits for some 18
        evaluations per coordinate. Where `f` is finite on one side of x only, central methods use
        that side.
    step : float or array_like, optional
        h, one for all coordinates or one for each. By default eps^(1/3) (central), eps^(1/5)
        (central4) or eps^(1/2) (one-sided) times max(1, abs(x)), with eps of the less precise of
        the dtypes of `x` and f(x); 1e-50 max(1, abs(x)) (complex); max(1, abs(x)) / 2 as the first
        step (richardson).
    rel_step : float or array_like, optional
        h relative to abs(x), for x in small units; where x is 0, the default step is used.
    bounds : (low, high), list of pairs or scipy.optimize.Bounds, optional
        Numbers, arrays like `x`, or None. `f` is not evaluated outside: where there is no room, a
        central difference becomes a one-sided one of the same accuracy, a one-sided one changes
        sides, and steps that fit on neither side are reduced. Where both bounds are equal the
        derivative is 0.
    f0 : float, optional
        f(x), if it is known.
    in_place : bool, optional
        Whether to move `x` itself instead of a copy. By default `f` is probed: if it ignores its
        argument and reads `x`, like the closure ``lambda W: net.loss(x, t)``, x is moved in place,
        one coordinate at a time, and restored after each call. An `f` that depends on both is
        refused unless this selects the total derivative (True) or the partial derivative with
        respect to the argument (False).
    workers : int, callable or pool, optional
        Number of workers, -1 for one per usable processor: processes if `f` can be pickled,
        otherwise those of loky if joblib is installed, otherwise threads. Or a function like `map`,
        called as ``workers(function, iterable)``, or an object with one: a `multiprocessing.Pool`,
        an executor of `concurrent.futures` or mpi4py, a `joblib.Parallel`, a Dask client.
    batched : bool, default False
        Evaluate many points in one call of `f`.
    chunk_size : int, optional
        Coordinates per batched call, by default as many as fit in 1 MiB, or on a device in 1/16 of
        its free memory and 256 MiB; halved whenever memory runs out. With `workers`, coordinates
        per task.
    full_output : bool, default False
        Return a `DerivativeResult`: the gradient, an error estimate, steps, the number of
        evaluations, and flags for kinks, values that are not finite, randomness and steps far
        larger than x. Differences then take two to three times as many evaluations.
    progress : bool, default False
        Show a progress bar over the coordinates.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    array, tree or DerivativeResult
        In the form, shape and dtype of `x`; float64 for integers. NaN where `f` is not finite on
        either side.

    Raises
    ------
    ValueError
        If `f` does not return one number (batched: one per point), if the step is too small to
        move x (the message names the smallest usable one), if x is not within its bounds, or if
        complex steps lose their imaginary part in `f`.
    accelnn.errors.AmbiguousFunctionError
        If `f` depends both on its argument and on `x` itself.
    accelnn.errors.ImpureFunctionError
        If `f` ignores its argument where only a copy can be moved (with `workers`,
        ``batched=True``, a compiled `f`, ``method="complex"``, or an x that is not a writable float
        array), or is random with `workers` or ``batched=True``.
    accelnn.errors.OutOfMemoryError
        If with ``batched=True`` there is not enough memory for a single coordinate.

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
    >>> accelnn.numerical_gradient(lambda p: p["a"] * p["b"], {"a": 2.0, "b": 5.0})
    {'a': array(5.), 'b': array(2.)}
    >>> found = accelnn.numerical_gradient(
    ...     lambda x: abs(x[0]) + x[1] ** 3, np.array([0.0, 1.0]), full_output=True
    ... )
    >>> print(found)
    2 coordinates, 22 evaluations, flags: 1 KINK
    """
    with pose(
        f,
        x,
        backend=backend,
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
        found = problem.solve(title="Numerical gradient", diagnose=full_output, progress=progress)
        problem.require_complex_safe(found.value)
        return problem.result(found, full_output=full_output)


@overload
def numerical_diff(
    f: Callable[..., Array],
    x: Kind,
    *,
    order: int = 1,
    full_output: Literal[False] = False,
    **options: Unpack[Steps],
) -> Kind: ...
@overload
def numerical_diff(
    f: Callable[..., Array],
    x: Numbers,
    *,
    order: int = 1,
    full_output: Literal[False] = False,
    **options: Unpack[Steps],
) -> Array: ...
@overload
def numerical_diff(
    f: Callable[..., Array],
    x: ArrayLike,
    *,
    order: int = 1,
    full_output: Literal[True],
    **options: Unpack[Steps],
) -> DerivativeResult: ...
@overload
def numerical_diff(
    f: Callable[..., Array],
    x: ArrayLike,
    *,
    order: int = 1,
    full_output: bool,
    **options: Unpack[Steps],
) -> Array | DerivativeResult: ...
def numerical_diff(
    f: Callable[..., Array],
    x: ArrayLike,
    *,
    order: int = 1,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    method: MethodName = "central",
    step: float | ArrayLike | None = None,
    rel_step: float | ArrayLike | None = None,
    bounds: Any = None,
    full_output: bool = False,
    backend: BackendLike | None = None,
) -> Any:
    """Compute a derivative of f by finite differences, elementwise if x is an array.

    Parameters
    ----------
    f : callable
        An elementwise function of one variable: takes an array of the shape of `x` and returns one
        of that shape.
    x : array_like
        Where to differentiate; it is not changed.
    order : int, default 1
        The order of the derivative, 1 to 4.
    args, kwargs, method, step, rel_step, bounds, full_output, backend
        As in `numerical_gradient`. The default steps are eps^(1 / (order + p)) max(1, abs(x)) with
        p = 2 (central), 4 (central4) or 1 (one-sided). From the second derivative on, ``"complex"``
        takes central differences of complex-step derivatives.

    Returns
    -------
    array or DerivativeResult
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If f(x) does not have the shape of x, if the step is too small to move x, or if complex
        steps lose their imaginary part in f.
    accelnn.errors.AmbiguousFunctionError
        If f depends both on its argument and on `x` itself.

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
                f"f must be elementwise: x has shape {shape}, but f(x) has shape "
                f"{problem.shape}. For a scalar function of many variables use numerical_gradient"
            )
            raise ValueError(msg)
        every = np.arange(n)
        # All coordinates move at once, and each affects its own value only.
        lines = Entries(problem.lines, np.zeros(n, int), every, every)
        found = problem.solve(lines, title="Derivative", diagnose=full_output)
        if order == 1:
            problem.require_complex_safe(found.value[:, 0], every, every)
        return problem.result(found, full_output=full_output)
