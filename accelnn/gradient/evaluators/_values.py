"""What a function returned, as values of their own that can be subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn._validation import as_floating, as_scalar
from accelnn.backends import Backend, dtype_name

__all__ = ["Values"]


class Values:
    """The kind of values that a function returns.

    Parameters
    ----------
    backend : Backend
        Whose arrays.
    is_complex : bool
        Whether values may be complex, because the point is.
    scalar : bool
        Whether every value must be a scalar.

    Attributes
    ----------
    shape : tuple of int or None
        Of one value; None until the first value of an array function has told.
    """

    def __init__(self, backend: Backend, *, is_complex: bool, scalar: bool) -> None:
        self.backend = backend
        self.is_complex = is_complex
        self.scalar = scalar
        self.shape: tuple[int, ...] | None = () if scalar else None

    def one(self, value: Any) -> Any:
        """Return the value at one point; no later call of the function can change it."""
        if not self.scalar:
            array = self._array(value)
            self._require(tuple(array.shape))
            return self.backend.xp.asarray(array, copy=True)
        if not self.is_complex:
            return as_scalar(self.backend, value)
        if isinstance(value, complex | float | int):
            return complex(value)
        array = self._array(value)
        if array.ndim:
            # Says what a scalar is.
            as_scalar(self.backend, self.backend.xp.real(array))
        return self.backend.xp.asarray(array, copy=True)

    def many(self, value: Any, points: Array) -> Array:
        """Return the values at many points, along the first axis, as `one` does."""
        array = self._array(value)
        shape, count = tuple(array.shape), points.shape[0]
        if self.shape is None and shape[:1] == (count,):
            self.shape = shape[1:]
        if self.shape is None or shape != (count, *self.shape):
            wanted = f"({count}, ...)" if self.shape is None else f"{(count, *self.shape)}"
            msg = (
                f"with batched=True f must return one value per point: it was given points of "
                f"shape {tuple(points.shape)} and returned shape {shape}, not {wanted}"
            )
            raise ValueError(msg)
        # A copy, because they may lie in a buffer that the next call writes to.
        return self.backend.xp.asarray(array, copy=True)

    def stack(self, values: Sequence[Any]) -> Array:
        """Return what `one` has returned, many times, as one array."""
        backend = self.backend
        if all(backend.owns(value) for value in values):
            return backend.xp.stack(list(values))
        kind = complex if self.is_complex else float
        host = [backend.to_numpy(v) if backend.owns(v) else v for v in values]
        return backend.asarray(np.array([kind(value) for value in host]))

    def none(self, points: int) -> Array:
        """Return the values of no row of that many points."""
        return self.backend.asarray(np.zeros((0, points, *(self.shape or ()))))

    def _array(self, value: Any) -> Array:
        backend = self.backend
        if not self.is_complex:
            return as_floating(backend, value, "f(x)")
        backend.check_owned(value, "f(x)")
        array = value if backend.owns(value) else np.asarray(value)
        if not backend.owns(array):
            array = backend.asarray(array)
        if backend.xp.isdtype(array.dtype, "complex floating"):
            return array
        wide = "complex64" if dtype_name(array.dtype) == "float32" else "complex128"
        return backend.xp.astype(array, backend.dtype(wide))

    def _require(self, shape: tuple[int, ...]) -> None:
        if self.shape is None:
            self.shape = shape
        if shape != self.shape:
            msg = f"f returned shape {self.shape} at one point and shape {shape} at another"
            raise ValueError(msg)
