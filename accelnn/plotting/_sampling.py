"""Values and gradients of a function for plots, in host memory."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_number, as_scalar, positive_int
from accelnn.backends import Backend
from accelnn.gradient import numerical_gradient

__all__ = ["Function", "Range", "gradient_at", "grid", "on_grid", "value_at"]

Function: TypeAlias = Callable[[Array], Any]
Range: TypeAlias = tuple[float, float]


def grid(x_range: Range, y_range: Range, points: int) -> tuple[np.ndarray, np.ndarray]:
    if positive_int(points, "points") < 2:  # noqa: PLR2004 - both ends
        msg = f"points must be at least 2, got {points}"
        raise ValueError(msg)
    for name, (low, high) in (("x_range", x_range), ("y_range", y_range)):
        if not -math.inf < low < high < math.inf:
            msg = f"{name} must be a finite (low, high) with low < high, got ({low}, {high})"
            raise ValueError(msg)
    return np.linspace(*x_range, points), np.linspace(*y_range, points)


def on_grid(backend: Backend, f: Function, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return f at the grid points, of shape (y.size, x.size)."""
    return np.array([[value_at(backend, f, [a, b]) for a in x] for b in y])


def value_at(backend: Backend, f: Function, point: ArrayLike) -> float:
    with backend.current():
        return as_number(backend, as_scalar(backend, f(backend.asarray(point, "float64"))))


def gradient_at(backend: Backend, f: Function, a: float, b: float) -> np.ndarray:
    point = backend.asarray([a, b], "float64")
    return backend.to_numpy(numerical_gradient(f, point, backend=backend))
