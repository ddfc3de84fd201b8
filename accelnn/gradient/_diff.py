"""The derivative of a function of one variable."""

from collections.abc import Callable
from typing import Any

from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_floating, check_finite
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.gradient._steps import machine_epsilon, stencil

__all__ = ["numerical_diff"]


def numerical_diff(
    f: Callable[[Array], Array],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | None = None,
    backend: BackendLike | None = None,
) -> Array:
    """Return f'(x) by a finite difference, elementwise where x is an array.

    Parameters
    ----------
    f : callable
        A function of one variable that works elementwise: it takes an array of the shape of `x`
        and returns one of that shape.
    x : array_like
        Where to differentiate; it is not changed.
    method : {"central", "forward", "backward"}, default "central"
        (f(x+h) - f(x-h)) / 2h, (f(x+h) - f(x)) / h or (f(x) - f(x-h)) / h, divided by the distance
        really taken after rounding.
    step : float, optional
        h. By default eps^(1/3) (central) or eps^(1/2) (one-sided) times max(1, abs(x)), with eps
        of the less precise of the dtypes of `x` and f(x).
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If f changes the shape, or if the step is too small to move x.

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
    """
    backend = resolve(backend, x)
    x = as_floating(backend, x)
    check_finite(backend, x, "x")
    value = _value_at(backend, f, x)
    epsilon = machine_epsilon(backend, x.dtype, value.dtype)
    points = stencil(backend, x, method=method, step=step, epsilon=epsilon)
    upper, lower = (_value_at(backend, f, point) for point in (points.upper, points.lower))
    return backend.xp.astype(upper - lower, x.dtype) / points.width


def _value_at(backend: Backend, f: Callable[[Array], Any], x: Array) -> Array:
    # A copy, because f may write to its argument.
    value = as_floating(backend, f(backend.xp.asarray(x, copy=True)), "f(x)")
    # A copy, because it may be a buffer that the next call writes to.
    value = backend.xp.asarray(value, copy=True)
    if tuple(value.shape) != tuple(x.shape):
        msg = (
            f"f must work elementwise: x has shape {tuple(x.shape)} and f(x) has shape "
            f"{tuple(value.shape)}. For a scalar function of many variables use numerical_gradient"
        )
        raise ValueError(msg)
    return value
