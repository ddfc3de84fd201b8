"""The derivative of a function of one variable."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_floating, check_finite, on_host, require_callable
from accelnn.backends import Backend, BackendLike, resolve
from accelnn.gradient._complex import Change, require_agreement
from accelnn.gradient._differentiate import SHORTEST_MOVE_ULPS
from accelnn.gradient._extrapolation import Estimate, extrapolate
from accelnn.gradient._purity import require_pure, require_response
from accelnn.gradient._steps import check_method, machine_epsilon, stencil, step_sizes
from accelnn.gradient.evaluators import Function, Values, no_progress

__all__ = ["numerical_diff"]


def numerical_diff(
    f: Callable[[Array], Array],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | ArrayLike | None = None,
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
    method : {"central", "forward", "backward", "complex", "richardson"}, default "central"
        (f(x+h) - f(x-h)) / 2h, (f(x+h) - f(x)) / h or (f(x) - f(x-h)) / h, divided by the distance
        really taken after rounding; Im f(x+ih) / h; or central differences extrapolated to step 0.
    step : float or array_like, optional
        h, one for all or one for each element; see `numerical_gradient`.
    backend : str, Backend or subclass, optional
        Whose arrays; see `accelnn.get_backend`.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If f changes the shape, if the step is too small to move x, or if complex steps lose their
        imaginary part in f.

    accelnn.errors.ImpureFunctionError
        If f does not depend on its argument alone.

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
    require_callable(f)
    check_method(method)
    backend = resolve(backend, x)
    with backend.current():
        given, x = x, as_floating(backend, x)
        check_finite(backend, x, "x")
        value = _value_at(backend, f, x)
        point = backend.xp.asarray(x, copy=True)

        def on_a_copy(p: Array) -> Any:
            return f(backend.xp.asarray(p, copy=True))

        is_pure = require_pure(backend, on_a_copy, given, point, value)
        derivative = _derivative(backend, f, x, value, method, step)
        # A number has nobody who could move it.
        can_hide = not is_pure and bool(x.shape) and math.prod(x.shape) > 0
        if can_hide and not np.any(on_host(backend, derivative)):
            require_response(backend, on_a_copy, point)
        return derivative


def _derivative(
    backend: Backend,
    f: Function,
    x: Array,
    value: Array,
    method: str,
    step: float | ArrayLike | None,
) -> Array:
    epsilon = machine_epsilon(backend, x.dtype, value.dtype)
    h = step_sizes(backend, x, method=method, step=step, epsilon=epsilon)
    if method == "richardson":
        return _extrapolated(backend, f, x, h, epsilon)
    if method == "complex":
        return _complex_step(backend, f, x, h, epsilon)
    points = stencil(backend, x, h, method, step)
    upper, lower = (_value_at(backend, f, point) for point in (points.upper, points.lower))
    return backend.xp.astype(upper - lower, x.dtype) / points.width


def _extrapolated(backend: Backend, f: Function, x: Array, h: Array, epsilon: float) -> Array:
    """Move all elements at once, of which some have come to their end."""
    position = on_host(backend, x).reshape(-1)
    steps = on_host(backend, h).reshape(-1).copy()

    def difference(rows: np.ndarray, sizes: np.ndarray) -> Estimate:
        steps[rows] = sizes
        taken = backend.asarray(steps.reshape(x.shape), x.dtype)
        points = (x + taken, x - taken)
        with np.errstate(all="ignore"):
            above, below = (on_host(backend, _value_at(backend, f, p)) for p in points)
            width = on_host(backend, points[0] - points[1])
            slopes = (above - below) / width
        noise = epsilon * np.maximum(np.abs(above), np.abs(below)) / width
        return Estimate(*(a.reshape(-1)[rows, None] for a in (slopes, noise)))

    found = extrapolate(
        difference,
        steps.copy(),
        power=2,
        position=position,
        least=SHORTEST_MOVE_ULPS * np.spacing(np.abs(backend.to_numpy(x).reshape(-1))),
        advance=no_progress,
    )
    return backend.asarray(found.value.reshape(x.shape), x.dtype)


def _complex_step(backend: Backend, f: Function, x: Array, h: Array, epsilon: float) -> Array:
    values = Values(backend, is_complex=True, scalar=False)
    values.shape = tuple(x.shape)
    stepped = backend.xp.imag(values.one(f(x + 1j * h))) / h
    derivative = backend.xp.astype(stepped, x.dtype)
    position = on_host(backend, x)
    size = np.where(position == 0.0, 1.0, np.abs(position))

    def change(step: float) -> Change:
        points = [backend.asarray(position + k * step * size, x.dtype) for k in (1.0, -1.0)]
        above, below = (on_host(backend, _value_at(backend, f, point)) for point in points)
        predicted = on_host(backend, derivative * (points[0] - points[1]))
        return Change(above, below, predicted, np.abs(predicted))

    require_agreement(change, epsilon)
    return derivative


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
