"""Differences that stay within bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends import Backend

__all__ = ["Bounds", "read_bounds"]


class Bounds(NamedTuple):
    """Between which values each coordinate may move; infinite where nothing bounds it.

    Attributes
    ----------
    low, high : array of x's shape and dtype
        Both ends belong to it.
    """

    low: Array
    high: Array

    def room(self, x: Array) -> tuple[Array, Array]:
        """Return how far each coordinate may go down and up."""
        return x - self.low, self.high - x

    def take(self, backend: Backend, rows: np.ndarray) -> Bounds:
        """Return the bounds of some coordinates; these are flat."""
        places = backend.asarray(rows)
        return Bounds(*(backend.xp.take(end, places) for end in self))

    def clip(self, backend: Backend, x: Array) -> Array:
        """Put back what rounding has put outside."""
        return backend.xp.minimum(backend.xp.maximum(x, self.low), self.high)


def read_bounds(backend: Backend, x: Array, bounds: object) -> Bounds | None:
    """Return ``(low, high)``, numbers or arrays of x's shape or None, as `Bounds`.

    Raises
    ------
    ValueError
        If x is not within them, or if a coordinate has no room at all.
    """
    if bounds is None:
        return None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:  # noqa: PLR2004 - low and high
        msg = f"bounds must be (low, high), each a number, an array or None, got {bounds!r}"
        raise ValueError(msg)
    low, high = (
        _end(backend, x, end, default)
        for end, default in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    xs, lows, highs = (backend.to_numpy(a) for a in (x, low, high))
    outside = ~((lows <= xs) & (xs <= highs)) | (lows == highs)
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        name = f"x[{', '.join(map(str, place))}]" if place else "x"
        value, a, b = float(xs[place]), float(lows[place]), float(highs[place])
        why = "leave it no room" if a == b else "do not hold it"
        msg = f"{name} is {value!r}, and its bounds {a!r} and {b!r} {why}"
        raise ValueError(msg)
    return Bounds(low, high)


def _end(backend: Backend, x: Array, end: ArrayLike, default: float) -> Array:
    if end is None:
        end = default
    array = end if backend.owns(end) else backend.asarray(np.asarray(end, dtype=np.float64))
    return backend.xp.broadcast_to(backend.xp.astype(array, x.dtype), x.shape)
