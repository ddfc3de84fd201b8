"""Step sizes and bounds, as flat arrays on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from accelnn._differences import Method
from accelnn._shown import shown
from accelnn._typing import Array, ArrayLike
from accelnn.backends import Backend
from accelnn.formulas._checks import nearest, positive

__all__ = [
    "FIRST_STEP",
    "Bounds",
    "check_moves",
    "imaginary_step",
    "read_bounds",
    "require_step",
    "require_usable_step",
    "second_beginning",
    "sides",
    "size_of",
    "sizes_beside",
    "step_sizes",
    "symmetric_points",
]

# A complex step has no cancellation: its square must underflow beside 1, and its product with a
# derivative must not.
IMAGINARY_STEP = 1e-50
# First step of an extrapolation, in units of max(1, abs(x)).
FIRST_STEP = 0.5
# Up to this part of the first step, x is in small units.
SMALL_PART = 0.02
PAIR = 2
# A shorter step, in units of max(1, abs(x)), moves no number of double precision.
SMALLEST = float(np.finfo(np.float64).eps)
# Characters of an argument that errors show.
MOST_SHOWN = 80
# The bounds where there are none.
UNBOUNDED = (-np.inf, np.inf)


class Bounds(NamedTuple):
    """The closed interval in which each coordinate may move; infinite where it is not bounded."""

    low: np.ndarray
    high: np.ndarray

    def of(self, rows: np.ndarray) -> Bounds:
        """Return the bounds of some coordinates."""
        return Bounds(self.low[rows], self.high[rows])


def size_of(x: np.ndarray) -> np.ndarray:
    """Return max(1, abs(x)), the scale that default steps are relative to."""
    size: np.ndarray = np.maximum(np.abs(x), 1.0)
    return size


def sizes_beside(x: np.ndarray) -> np.ndarray:
    """Return abs(x), and where that is 0 its largest other value, or else 1."""
    largest = np.abs(x).max(initial=0.0)
    return np.where(x == 0.0, largest if largest > 0.0 else 1.0, np.abs(x))


def step_sizes(
    x: np.ndarray,
    method: Method,
    order: int,
    *,
    epsilon: float,
    step: ArrayLike | None = None,
    rel_step: ArrayLike | None = None,
    shape: tuple[int, ...] = (),
    dtype: np.dtype[Any] | None = None,
) -> np.ndarray:
    """Return a positive step for each coordinate of `x`, in x's wide dtype.

    Parameters
    ----------
    x : numpy.ndarray of shape (n,)
        The point.
    method, order : Method, int
        Which derivative.
    epsilon : float
        The largest machine epsilon of the numbers in the difference.
    step, rel_step : array_like, optional
        The caller's: a number, or one for each coordinate.
    shape, dtype : tuple of int, numpy.dtype, optional
        Those of the caller's x: steps must have that shape, and be finite in that dtype, by default
        that of `x`.

    Raises
    ------
    ValueError
        If a step is not positive and finite, or their shape is wrong.
    """
    if step is not None and rel_step is not None:
        both = f"step={shown(step)} and rel_step={shown(rel_step)}"
        msg = f"give step or rel_step, not both: got {both}"
        raise ValueError(msg)
    if method.is_imaginary and order == 1:
        default = imaginary_step(x)
    elif method.is_extrapolated:
        default = FIRST_STEP * size_of(x)
    else:
        default = epsilon ** method.balance(order) * size_of(x)
    if step is None and rel_step is None:
        return default
    given, name = (step, "step") if rel_step is None else (rel_step, "rel_step")
    sizes = _numbers(given, name, x, shape, dtype or x.dtype)
    if rel_step is None:
        return sizes
    return np.where(x == 0.0, default, sizes * np.abs(x))


def imaginary_step(x: np.ndarray) -> np.ndarray:
    """Return the default complex step of each coordinate."""
    return IMAGINARY_STEP * size_of(x)


def _numbers(
    given: Any, name: str, x: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> np.ndarray:
    """Return the caller's steps as positive numbers, one for each coordinate."""
    # NumPy has no dtype for an integer beyond 64 bits.
    is_integer = isinstance(given, int) and not isinstance(given, bool)
    sizes = np.asarray(nearest(given) if is_integer else given)
    if sizes.shape not in ((), shape):
        msg = f"{name} has shape {sizes.shape}, but x has shape {shape}"
        raise ValueError(msg)
    if isinstance(given, bool) or sizes.dtype.kind not in "iuf":
        msg = f"{name} must be a number, or one for each coordinate, got {shown(given)}"
        raise TypeError(msg)
    sizes = sizes.astype(x.dtype).reshape(-1)
    # With room for a difference of several steps in both directions.
    if not ((sizes > 0.0) & (sizes < np.finfo(dtype).max / 16.0)).all():
        one = name if sizes.size == 1 else f"all {name}s"
        where = f" in {dtype}" if ((sizes > 0.0) & np.isfinite(sizes)).all() else ""
        msg = f"{one} must be positive and finite{where}, got {_short(given)}"
        raise ValueError(msg)
    return np.broadcast_to(sizes, x.shape)


def second_beginning(
    x: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which extrapolations start again because x is small, and at which steps.

    Steps near 1 say nothing about f on the scale of x, unless they shrank to that scale.
    """
    size = sizes_beside(x)
    # A coordinate that is 0 counts as small only if all others are.
    is_small = np.where(x == 0.0, (size <= SMALL_PART * first).all(), size <= SMALL_PART * first)
    return is_small & (last >= size) & x.any(), FIRST_STEP * size


def sides(
    x: np.ndarray, bounds: Bounds | None, h: np.ndarray, method: Method, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the side of x on which the points of each coordinate lie, and steps that fit there.

    Side 0 means both. The step is 0 where the two bounds are equal.
    """
    side = np.full(len(x), method.side)
    if bounds is None:
        return side, h
    below, above = x - bounds.low, bounds.high - x
    reach = np.abs(method.points(order)).max(initial=0.0)
    wider = np.where(above >= below, 1, -1)
    if method.side == 0:
        side = np.where(np.minimum(below, above) < reach * h, wider, 0)
    else:
        side = np.where(np.where(side > 0, above, below) < reach * h, wider, side)
    # The one-sided difference that replaces a central one reaches farther.
    turned = np.abs(method.turned(1).points(order)).max(initial=1.0)
    room = np.where(side > 0, above, below) / turned
    return side, np.where(side == 0, h, np.minimum(h, room))


def symmetric_points(
    x: np.ndarray, move: np.ndarray, rounded: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return x + move and x - move, rounded so that x is exactly halfway between.

    Otherwise their difference quotient would be the derivative at another point.
    """
    move = rounded(x + move) - x
    move = x - rounded(x - move)
    return rounded(x + move), rounded(x - move)


def check_moves(x: np.ndarray, taken: np.ndarray, h: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Refuse a step too small to move a coordinate, whose difference would be zero."""
    if np.count_nonzero(taken) == taken.size:
        return
    stuck = (taken == 0.0).any(axis=1)
    place = int(np.argmax(np.where(stuck, np.abs(x), -1.0)))
    at, step = float(abs(x[place])), float(h[place])
    # Half a unit in the last place may be rounded away; a whole one never is.
    smallest = float(np.spacing(np.abs(x).max().astype(dtype)))
    msg = (
        f"step {step!r} is too small: {at!r} + step == {at!r} in {dtype}, so "
        f"the difference would be zero. The smallest usable step here is {smallest:.3g}; one near "
        f"{np.finfo(dtype).eps ** (1 / 3):.0e} balances truncation and rounding."
    )
    raise ValueError(msg)


def require_step(step: object) -> None:
    """Raise unless a step in units of max(1, |x|) is a number that moves what is in float64."""
    if positive(step, "step") < SMALLEST:
        msg = (
            f"step {step!r} is too small: in units of max(1, |x|) nothing below {SMALLEST:.1e} "
            f"moves a number in float64; one near 6e-06 balances truncation and rounding"
        )
        raise ValueError(msg)


def require_usable_step(backend: Backend, x: Array, method: Method, step: object) -> None:
    """Raise unless `step` is a number that moves every coordinate of float64 `x`."""
    if isinstance(step, bool) or not isinstance(step, int | float | np.number):
        msg = f"step must be a number, got {shown(step)}"
        raise TypeError(msg)
    xp = backend.xp
    largest = max(float(backend.to_numpy(extreme)) for extreme in (xp.max(x), -xp.min(x)))
    if np.spacing(largest) < step < 1.0:
        # Spacing grows with magnitude: what moves the largest number moves them all.
        return
    host = np.asarray(backend.to_numpy(x), np.float64).reshape(-1)
    h = step_sizes(host, method, 1, epsilon=2.0**-52, step=nearest(step))
    taken = host[:, None] + h[:, None] * method.points(1) - host[:, None]
    check_moves(host, taken, h, host.dtype)


def read_bounds(bounds: Any, x: np.ndarray, shape: tuple[int, ...]) -> Bounds | None:
    """Return the caller's bounds of flat `x`, or None if all are infinite.

    Parameters
    ----------
    bounds : tuple, list or scipy.optimize.Bounds
        ``(low, high)``, each a number, an array like x or None; or a pair for each coordinate; or
        an object with `lb` and `ub`.
    x : numpy.ndarray of shape (n,)
        The point.
    shape : tuple of int
        The shape of the caller's x.

    Raises
    ------
    ValueError
        If they are ambiguous or invalid, or if x is not within them.
    """
    low, high = _ends(bounds, x.size, shape)
    if ((low == -np.inf) & (high == np.inf)).all():
        return None
    outside = ~((low <= x) & (x <= high))
    if outside.any():
        i = int(np.argmax(outside))
        index = ", ".join(str(int(k)) for k in np.unravel_index(i, shape))
        place = f"x[{index}]" if index else "x"
        value, a, b = float(x[i]), float(low[i]), float(high[i])
        msg = f"{place} is {value!r}, which is not within its bounds {a!r} and {b!r}"
        raise ValueError(msg)
    return Bounds(low.astype(x.dtype), high.astype(x.dtype))


def _ends(bounds: Any, n: int, shape: tuple[int, ...]) -> Bounds:
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = (bounds.lb, bounds.ub)
    readings = [reading for reading in (_low_high(bounds, n, shape), _pairs(bounds, n)) if reading]
    if not readings:
        msg = (
            f"bounds must be (low, high), each a number, None or like x of shape {shape}, or a "
            f"list of {n} pairs, or a scipy.optimize.Bounds, got {_short(bounds)}"
        )
        raise ValueError(msg)
    if len(readings) == PAIR and not np.array_equal(readings[0], readings[1]):
        (a, b), (c, d) = ((low.tolist(), high.tolist()) for low, high in readings)
        msg = (
            f"bounds {_short(bounds)} can be read as (low, high) = ({a}, {b}) or as pairs, which "
            f"is low = {c} and high = {d}: pass scipy.optimize.Bounds(low, high), or "
            f"(numpy.array(low), numpy.array(high)), to say which"
        )
        raise ValueError(msg)
    return readings[0]


def _low_high(bounds: Any, n: int, shape: tuple[int, ...]) -> Bounds | None:
    """Return the bounds if they are given as (low, high), otherwise None."""
    if not isinstance(bounds, tuple | list) or len(bounds) != PAIR:
        return None
    ends = [_floats(end, default) for end, default in zip(bounds, UNBOUNDED, strict=True)]
    if any(end is None or end.shape not in ((), (1,), (n,), shape) for end in ends):
        return None
    return Bounds(*(np.broadcast_to(np.reshape(end, -1), (n,)) for end in ends))


def _pairs(bounds: Any, n: int) -> Bounds | None:
    """Return the bounds if they are given as one pair for each coordinate, otherwise None."""
    if isinstance(bounds, np.ndarray):
        bounds = bounds.tolist()
    if not isinstance(bounds, tuple | list) or len(bounds) != n:
        return None
    # A pair of arrays is (low, high), whatever their length.
    if not all(isinstance(pair, tuple | list) and len(pair) == PAIR for pair in bounds):
        return None
    ends = [_floats([pair[k] for pair in bounds], end) for k, end in enumerate(UNBOUNDED)]
    return None if any(end is None or end.ndim != 1 for end in ends) else Bounds(*ends)


def _floats(numbers: Any, default: float) -> Any:
    """Return numbers as an array, None replaced by a default; None if they are not numeric."""
    if isinstance(numbers, tuple | list):
        numbers = [default if number is None else number for number in numbers]
    try:
        return np.asarray(default if numbers is None else numbers, np.float64)
    except (TypeError, ValueError):
        return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
