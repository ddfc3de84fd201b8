"""How far to move: the choice of finite-difference steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends import DIFFERENCES, Backend, dtype_name

__all__ = [
    "METHODS",
    "Stencil",
    "check_method",
    "check_moves",
    "machine_epsilon",
    "require_usable_step",
    "stencil",
    "step_sizes",
]

METHODS = (*DIFFERENCES, "complex", "richardson")

# The power of machine epsilon that balances truncation and rounding, of first derivatives.
BALANCE = {"central": 1 / 3, "forward": 1 / 2, "backward": 1 / 2}
# An imaginary step loses nothing to rounding, so that its square only has to vanish.
IMAGINARY_STEP = {"float64": 1e-30, "float32": 1e-15, "float16": 1e-3}
# Where an extrapolation begins, in units of max(1, abs(x)).
FIRST_STEP = 0.5


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


def check_method(method: str, known: Sequence[str] = METHODS) -> None:
    """Raise ValueError unless `method` is a known difference."""
    if method not in known:
        msg = f"unknown method {method!r}; known methods are {', '.join(map(repr, known))}"
        raise ValueError(msg)


def machine_epsilon(backend: Backend, *dtypes: Any) -> float:
    """Return the machine epsilon of the least precise of the dtypes; integers count as exact."""
    xp = backend.xp
    names = [dtype_name(dtype) for dtype in dtypes]
    floats = [getattr(xp, name) for name in names if name.startswith("float")]
    return max((float(xp.finfo(dtype).eps) for dtype in floats), default=2.0**-52)


def step_sizes(
    backend: Backend,
    x: Array,
    *,
    method: str,
    step: float | ArrayLike | None,
    epsilon: float,
    balance: float | None = None,
) -> Array:
    """Return a positive step for each coordinate of floating `x`.

    Parameters
    ----------
    backend : Backend
        Where `x` is.
    x : array
        Floating numbers.
    method : str
        One of `METHODS`.
    step : float, array_like or None
        Absolute steps: one for all coordinates, or one for each. None chooses
        ``epsilon**balance`` times max(1, abs(x)); for a complex step a constant whose square
        vanishes, for an extrapolation one half.
    epsilon : float
        Machine epsilon of the less precise of `x` and of the function's values.
    balance : float, optional
        By default a third (central) or a half (one-sided), which balance truncation and rounding.

    Raises
    ------
    ValueError
        If a step is not positive and finite, or if there is not one for each coordinate.
    """
    xp = backend.xp
    if step is None:
        if method == "complex":
            return IMAGINARY_STEP[dtype_name(x.dtype)] * xp.ones_like(x)
        relative = FIRST_STEP
        if method in DIFFERENCES:
            relative = epsilon ** (BALANCE[method] if balance is None else balance)
        size = xp.abs(x)
        return relative * xp.where(size > 1.0, size, xp.ones_like(size))
    if isinstance(step, bool):
        msg = f"step must be a number, or one for each coordinate, got {step!r}"
        raise TypeError(msg)
    if isinstance(step, int | float | np.number):
        if not 0.0 < float(step) < float(xp.finfo(x.dtype).max) / 4.0:
            msg = f"step must be positive and finite in {dtype_name(x.dtype)}, got {step!r}"
            raise ValueError(msg)
        if method == "complex" and not bool(
            backend.to_numpy(xp.all(float(step) * xp.ones_like(x) > 0))
        ):
            msg = f"step {step!r} is zero in {dtype_name(x.dtype)}"
            raise ValueError(msg)
        return float(step) * xp.ones_like(x)
    sizes = step if backend.owns(step) else backend.asarray(np.asarray(step))
    if tuple(sizes.shape) != tuple(x.shape):
        msg = f"step has shape {tuple(sizes.shape)}, but x has shape {tuple(x.shape)}"
        raise ValueError(msg)
    sizes = xp.astype(sizes, x.dtype)
    if not bool(backend.to_numpy(xp.all((sizes > 0) & xp.isfinite(sizes)))):
        msg = f"all steps must be positive and finite in {dtype_name(x.dtype)}, got {step!r}"
        raise ValueError(msg)
    return sizes


def stencil(
    backend: Backend, x: Array, h: Array, method: str, step: float | ArrayLike | None = None
) -> Stencil:
    """Return the points around floating `x` at steps `h`, for which the caller gave `step`.

    Raises
    ------
    ValueError
        If a step is too small to move its coordinate.
    """
    upper = x if method == "backward" else x + h
    lower = x if method == "forward" else x - h
    check_moves(backend, x, upper, lower, h if step is None else step)
    return Stencil(upper, lower, upper - lower)


def require_usable_step(backend: Backend, x: Array, method: str, step: object) -> None:
    """Raise unless `step` is a number that moves every coordinate of float64 `x`."""
    check_method(method, tuple(DIFFERENCES))
    if isinstance(step, bool) or not isinstance(step, int | float | np.number):
        msg = f"step must be a number, got {step!r}"
        raise TypeError(msg)
    xp = backend.xp
    largest = max(float(backend.to_numpy(extreme)) for extreme in (xp.max(x), -xp.min(x)))
    if np.spacing(largest) < step < 1.0:
        # What moves the largest number, whose neighbours lie farthest apart, moves them all.
        return
    h = step_sizes(backend, x, method=method, step=float(step), epsilon=2.0**-52)
    stencil(backend, x, h, method, step)


def check_moves(
    backend: Backend, x: Array, upper: Array, lower: Array, step: float | ArrayLike
) -> None:
    """Refuse a step that leaves a coordinate where it is: its difference would be zero."""
    stuck = upper == lower
    if upper is not x and lower is not x:
        stuck = (upper == x) | (lower == x)
    if not bool(backend.to_numpy(backend.xp.any(stuck))):
        return
    values = backend.to_numpy(x)
    sizes = np.where(backend.to_numpy(stuck), np.abs(values), -1.0)
    place = np.unravel_index(int(np.argmax(sizes)), sizes.shape)
    at = float(abs(values[place]))
    taken = step
    if not isinstance(step, int | float | np.number):
        taken = float((backend.to_numpy(step) if backend.owns(step) else np.asarray(step))[place])
    # Half a unit in the last place would round to even; a whole one always moves.
    smallest = float(np.spacing(np.abs(values).max()))
    msg = (
        f"step {taken!r} is too small: {at!r} + step == {at!r} in {values.dtype}, so "
        f"the difference would be zero. The smallest usable step here is {smallest:.3g}; one near "
        f"{np.finfo(values.dtype).eps ** (1 / 3):.0e} balances truncation and rounding."
    )
    raise ValueError(msg)
