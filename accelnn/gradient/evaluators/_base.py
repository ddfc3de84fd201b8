"""What every way to evaluate has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.gradient.evaluators._values import Values

__all__ = ["Advance", "Evaluator", "Function", "no_progress", "restored"]

Function = Callable[[Array], Any]
Advance = Callable[[int], object]


def no_progress(_n: int) -> None:
    """Show nothing."""


class Evaluator:
    """A function at points that differ from x in a few coordinates.

    Attributes
    ----------
    backend : Backend
        Where `x` is.
    f : callable
        The function.
    x : array
        The point; floating, or complex.
    values : Values
        What `f` returns.
    count : int
        How many points `f` was evaluated at.
    """

    def __init__(self, backend: Backend, f: Function, x: Array, values: Values) -> None:
        self.backend, self.f, self.x, self.values = backend, f, x, values
        self.count = 0

    def __call__(self, columns: np.ndarray, moved: Array, advance: Advance = no_progress) -> Array:
        """Evaluate f at ``m * p`` points.

        Parameters
        ----------
        columns : numpy.ndarray of shape (m, c)
            Flat indices of the coordinates that move together. One that stands there twice must
            have one value.
        moved : array of shape (m, p, c)
            Where they go, at each of p points.
        advance : callable
            Called with the number of rows that are done.

        Returns
        -------
        array of shape (m, p, *shape of f's values)
        """
        rows, points = tuple(moved.shape)[:2]
        if rows == 0:
            return self.values.none(points)
        self.count += rows * points
        return self.evaluate(columns, moved, advance)

    def evaluate(self, columns: np.ndarray, moved: Array, advance: Advance) -> Array:
        """Do what a call says; there is at least one row."""
        raise NotImplementedError


@contextmanager
def restored(backend: Backend, x: Array) -> Iterator[Array]:
    """Put the values of `x` back at the end, whatever happened; yield a copy of them."""
    saved = backend.xp.asarray(x, copy=True)
    try:
        yield saved
    finally:
        x[...] = saved
