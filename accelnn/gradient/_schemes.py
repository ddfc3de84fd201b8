"""Where to evaluate for one derivative, and what to make of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends import Backend, get_backend
from accelnn.gradient._bounds import Bounds
from accelnn.gradient._steps import check_moves

__all__ = ["Scheme", "difference_scheme"]


@dataclass(frozen=True)
class Scheme:
    """Points on the axes of some coordinates, and the differences that are made of their values.

    Attributes
    ----------
    backend : Backend
        Where all of it is.
    method : str
        One of the methods of `accelnn.numerical_gradient`, but not an extrapolation.
    moved : array of shape (m, p)
        Where each coordinate goes.
    width : array of shape (m,)
        The distance between two points, or the size of an imaginary step.
    offsets : tuple of two arrays of shape (m,), or None
        How far the points of one side are from x, where bounds leave no room on the other.
    is_one_sided : array of bool of shape (m,), or None
        Where that is so.
    """

    backend: Backend
    method: str
    moved: Array
    width: Array
    offsets: tuple[Array, Array] | None = None
    is_one_sided: Array | None = None

    def on_host(self, rows: np.ndarray) -> Scheme:
        """Return the scheme of some coordinates, in NumPy."""

        def chosen(a: Array) -> np.ndarray:
            part: np.ndarray = self.backend.to_numpy(a)[rows]
            return part

        return Scheme(
            get_backend("numpy"),
            self.method,
            chosen(self.moved),
            chosen(self.width),
            self.offsets and (chosen(self.offsets[0]), chosen(self.offsets[1])),
            None if self.is_one_sided is None else chosen(self.is_one_sided),
        )

    def derivatives(self, values: Array, base: Any, dtype: Any) -> Array:
        """Return m derivatives in `dtype`.

        Parameters
        ----------
        values : array of shape (m, p, ...)
            f at `moved`.
        base : array or float
            f at x.
        dtype : dtype
            Differences are taken in that of the values, and then rounded.
        """
        xp = self.backend.xp
        if self.method == "complex":
            return xp.astype(xp.imag(values[:, 0, ...]), dtype) / self._column(self.width, values)
        first = values[:, 0, ...]
        second = values[:, 1, ...] if self.method == "central" else base
        quotient = xp.astype(first - second, dtype) / self._column(self.width, values)
        if self.is_one_sided is None:
            return quotient
        return xp.where(
            self._column(self.is_one_sided, values), self._one_sided(values, base, dtype), quotient
        )

    def _one_sided(self, values: Array, base: Any, dtype: Any) -> Array:
        """Return the slope at x of the parabola through it and two points of one side."""
        assert self.offsets is not None  # noqa: S101 - where there are one-sided coordinates
        xp, (near, far) = self.backend.xp, self.offsets
        rises = [xp.astype(values[:, i, ...] - base, dtype) for i in range(2)]
        weights = (far / (near * (far - near)), -near / (far * (far - near)))
        return sum(self._column(w, values) * rise for w, rise in zip(weights, rises, strict=True))

    def _column(self, a: Array, values: Array) -> Array:
        return self.backend.xp.reshape(a, (a.shape[0], *(1,) * (len(values.shape) - 2)))


def difference_scheme(
    backend: Backend,
    x: Array,
    h: Array,
    method: str,
    *,
    bounds: Bounds | None = None,
    step: float | ArrayLike | None = None,
) -> Scheme:
    """Return the scheme of a method with steps `h`.

    Parameters
    ----------
    backend : Backend
        Where all of it is.
    x, h : array of shape (m,)
        Coordinates and their steps.
    method : {"central", "forward", "backward", "complex"}
        Which difference.
    bounds : Bounds, optional
        Of shape (m,). A central difference that has no room on one side becomes one of second order
        on the other; a one-sided one turns round. Steps that do not fit on either side are made
        smaller.
    step : float or array_like, optional
        What the caller asked for, for an error.

    Raises
    ------
    ValueError
        If a step is too small to move its coordinate.
    """
    xp = backend.xp
    if method == "complex":
        return Scheme(backend, method, (x + 1j * h)[:, None], h)
    up = xp.ones_like(x) if method != "backward" else -xp.ones_like(x)
    if bounds is None:
        if method == "central":
            upper, lower = x + h, x - h
            check_moves(backend, x, upper, lower, h if step is None else step)
            return Scheme(backend, method, xp.stack([upper, lower], axis=1), upper - lower)
        moved = x + up * h
        check_moves(backend, x, moved, x, h if step is None else step)
        return Scheme(backend, method, moved[:, None], moved - x)
    below, above = bounds.room(x)
    if method != "central":
        wanted = xp.where(up > 0, above, below)
        up = xp.where(wanted >= h, up, xp.where(above >= below, xp.ones_like(x), -xp.ones_like(x)))
        h = xp.minimum(h, xp.where(up > 0, above, below))
        moved = bounds.clip(backend, x + up * h)
        check_moves(backend, x, moved, x, h if step is None else step)
        return Scheme(backend, method, moved[:, None], moved - x)
    is_one_sided = (below < h) | (above < h)
    up = xp.where(above >= below, xp.ones_like(x), -xp.ones_like(x))
    short = xp.minimum(h, 0.5 * xp.maximum(below, above))
    first = bounds.clip(backend, x + xp.where(is_one_sided, up * short, h))
    second = bounds.clip(backend, x + xp.where(is_one_sided, 2.0 * up * short, -h))
    check_moves(backend, x, first, second, h if step is None else step)
    return Scheme(
        backend,
        method,
        xp.stack([first, second], axis=1),
        first - second,
        (first - x, second - x),
        is_one_sided,
    )
