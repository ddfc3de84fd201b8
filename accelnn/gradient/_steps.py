"""How far to move: the choice of finite-difference steps."""

from typing import Any, NamedTuple

import numpy as np

from accelnn._typing import Array
from accelnn.backends import DIFFERENCES, Backend, dtype_name

__all__ = ["Stencil", "check_method", "machine_epsilon", "require_usable_step", "stencil"]


class Stencil(NamedTuple):
    """The points of a difference quotient, coordinate by coordinate.

    Attributes
    ----------
    upper, lower : array
        The moved coordinates; one of them is x itself in a one-sided difference.
    width : array
        ``upper - lower``, the distance that was really taken.
    """

    upper: Array
    lower: Array
    width: Array


def check_method(method: str) -> None:
    """Raise ValueError unless `method` is a known difference."""
    if method not in DIFFERENCES:
        known = ", ".join(map(repr, DIFFERENCES))
        msg = f"unknown method {method!r}; known methods are {known}"
        raise ValueError(msg)


def machine_epsilon(backend: Backend, *dtypes: Any) -> float:
    """Return the machine epsilon of the least precise of the dtypes; integers count as exact."""
    xp = backend.xp
    names = [dtype_name(dtype) for dtype in dtypes]
    floats = [getattr(xp, name) for name in names if name.startswith("float")]
    return max((float(xp.finfo(dtype).eps) for dtype in floats), default=2.0**-52)


def stencil(
    backend: Backend, x: Array, *, method: str, step: float | None, epsilon: float
) -> Stencil:
    """Return the points around floating `x`.

    Parameters
    ----------
    backend : Backend
        Where `x` is.
    x : array
        Floating numbers.
    method : {"central", "forward", "backward"}
        Which neighbours are used.
    step : float or None
        The absolute step h. None takes ``epsilon**(1/3)`` (central) or ``epsilon**(1/2)``
        (one-sided), which balance truncation and rounding, times max(1, abs(x)).
    epsilon : float
        Machine epsilon of the less precise of `x` and of the function's values.

    Raises
    ------
    ValueError
        If `step` is not positive and finite, or too small to move some coordinate.
    """
    xp = backend.xp
    check_method(method)
    if step is None:
        relative = epsilon ** (1 / 3 if method == "central" else 1 / 2)
        size = xp.abs(x)
        h = relative * xp.where(size > 1.0, size, xp.ones_like(size))
    elif not 0.0 < step < float(xp.finfo(x.dtype).max) / 4.0:
        msg = f"step must be positive and finite in {dtype_name(x.dtype)}, got {step!r}"
        raise ValueError(msg)
    else:
        h = step * xp.ones_like(x)
    upper = x if method == "backward" else x + h
    lower = x if method == "forward" else x - h
    _check_moves(backend, x, upper, lower, method, step)
    return Stencil(upper, lower, upper - lower)


def require_usable_step(backend: Backend, x: Array, method: str, step: object) -> None:
    """Raise unless `step` is a number that moves every coordinate of float64 `x`."""
    if isinstance(step, bool) or not isinstance(step, int | float | np.number):
        msg = f"step must be a number, got {step!r}"
        raise TypeError(msg)
    xp = backend.xp
    largest = max(float(backend.to_numpy(extreme)) for extreme in (xp.max(x), -xp.min(x)))
    if method in DIFFERENCES and np.spacing(largest) < step < 1.0:
        # What moves the largest number, whose neighbours lie farthest apart, moves them all.
        return
    stencil(backend, x, method=method, step=float(step), epsilon=2.0**-52)


def _check_moves(
    backend: Backend, x: Array, upper: Array, lower: Array, method: str, step: float | None
) -> None:
    """Refuse a step that leaves a coordinate where it is: its difference would be zero."""
    stuck = upper == lower
    if method == "central":
        stuck = (upper == x) | (lower == x)
    if not bool(backend.to_numpy(backend.xp.any(stuck))):
        return
    values = backend.to_numpy(x)
    at = np.abs(values[backend.to_numpy(stuck)]).max()
    # Half a unit in the last place would round to even; a whole one always moves.
    smallest = float(np.spacing(np.abs(values).max()))
    msg = (
        f"step {step!r} is too small: {float(at)!r} + step == {float(at)!r} in {values.dtype}, so "
        f"the difference would be zero. The smallest usable step here is {smallest:.3g}; one near "
        f"{np.finfo(values.dtype).eps ** (1 / 3):.0e} balances truncation and rounding."
    )
    raise ValueError(msg)
