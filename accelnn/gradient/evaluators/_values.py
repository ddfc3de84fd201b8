"""What a function returned, as numbers of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn._validation import as_floating
from accelnn.backends import Backend, from_dlpack, speaks_dlpack
from accelnn.gradient._precision import DOUBLE

__all__ = ["Values", "adopt"]

DTYPE = np.dtype(np.float64)


class Values:
    """The kind of values that a function returns.

    Parameters
    ----------
    backend : Backend
        Whose arrays.
    is_complex : bool
        Whether values may be complex, because the point is.
    scalar : bool or None
        Whether every value must be one number; None where it may be.

    Attributes
    ----------
    shape : tuple of int or None
        Of one value; None until the first value of an array function has told.
    epsilon : float
        Machine epsilon of the least precise value so far; 0 before the first.
    """

    def __init__(self, backend: Backend, *, is_complex: bool, scalar: bool | None) -> None:
        self.backend = backend
        self.is_complex = is_complex
        self.scalar = scalar
        # Whether an array of NumPy's needs no questions.
        self.takes_numpy = not is_complex and backend.owns(np.zeros(0))
        self.shape: tuple[int, ...] | None = () if scalar else None
        self.epsilon = 0.0

    def one(self, value: Any) -> Any:
        """Return the value at one point; no later call of the function can change it."""
        kind = type(value)
        if self.scalar and (kind is float or kind is np.float64):
            self.epsilon = self.epsilon or DOUBLE
            return value
        array = self._array(value)
        shape = tuple(array.shape)
        if self.scalar and math.prod(shape) != 1:
            msg = (
                f"f must return one number, but f(x) has shape {shape}: differentiate all of its "
                f"values with numerical_jacobian, or return their .sum(). A function of many "
                f"points at once, one value each, is differentiated with batched=True"
            )
            raise ValueError(msg)
        if not self.scalar:
            self.require(shape)
        # A copy, because it may be a view of x, or a buffer that the next call writes to.
        copy = self.backend.xp.asarray(array, copy=True)
        return self.backend.xp.reshape(copy, ()) if self.scalar and shape else copy

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

    def note_single(self, f: Any) -> None:
        """Note that Numba computes f in float32, which a Python number does not show."""
        signatures = getattr(f, "nopython_signatures", None)
        if signatures and str(signatures[-1].return_type) == "float32":
            self.epsilon = float(np.finfo(np.float32).eps)

    def on_host(self, value: Any) -> np.ndarray:
        """Return one value, or many in one array, on the host."""
        if isinstance(value, np.ndarray | float) or not self.backend.owns(value):
            return np.asarray(value)
        return self.backend.to_numpy(value)

    def all_on_host(self, values: Any) -> np.ndarray:
        """Return many values, in one array or a list, as wide numbers."""
        backend = self.backend
        if isinstance(values, list) and all(backend.owns(value) for value in values):
            # One copy for all of them.
            values = backend.xp.stack(values)
        elif isinstance(values, list):
            values = [v if isinstance(v, float) else self.on_host(v) for v in values]
        found = self.on_host(values)
        wide = np.complex128 if self.is_complex else np.float64
        return found if found.dtype == wide else found.astype(np.result_type(found, wide))

    def _array(self, value: Any) -> Array:
        backend, xp = self.backend, self.backend.xp
        if self.takes_numpy and type(value) is np.ndarray and value.dtype == DTYPE:
            # What most functions return.
            self.epsilon = self.epsilon or DOUBLE
            return value
        value = self._number(adopt(backend, value))
        if self.is_complex:
            backend.check_owned(value, "f(x)")
            array = value if backend.owns(value) else backend.asarray(np.asarray(value))
            if not xp.isdtype(array.dtype, "complex floating"):
                return xp.astype(array, backend.dtype("complex128"))
        else:
            array = as_floating(backend, value, "f(x)")
        self.epsilon = max(self.epsilon, float(xp.finfo(array.dtype).eps))
        return array

    def _number(self, value: Any) -> Any:
        """Return any number as NumPy knows it; say what is wrong with what is none."""
        if isinstance(value, np.ndarray | np.generic | float | int | list):
            return value
        if value is None:
            msg = "f returned nothing: is a return missing?"
            raise TypeError(msg)
        if isinstance(value, tuple) and not self.scalar and len({np.shape(v) for v in value}) < 2:  # noqa: PLR2004
            return list(value)
        if isinstance(value, tuple | Mapping):
            msg = (
                f"f must return {'one number' if self.scalar else 'an array of numbers'}, but "
                f"returned a {type(value).__name__} of {len(value)}. "
                f"If that is a value and its gradient, or what a backward pass needs, take the "
                f"value alone, as in lambda x: f(x)[0]; check_gradient(f, True, x) takes a value "
                f"and its gradient"
            )
            raise TypeError(msg)
        # Decimal is a number, but no Real.
        return float(value) if isinstance(value, Real | Decimal) else value

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse a value of another shape than those before."""
        if self.shape is None:
            self.shape = shape
        if shape != self.shape:
            msg = (
                f"f returned shape {self.shape} at one point (or it is that of f0) and shape "
                f"{shape} at another"
            )
            raise ValueError(msg)


def adopt(backend: Backend, value: Any) -> Any:
    """Return what a function gave as an array of `backend`, if it is one of another library.

    Numbers, and what the backend owns, stay what they are; so does what cannot be handed over, for
    which the usual checks have words.
    """
    if not (backend.owns(value) or speaks_dlpack(value)):
        return value
    # What a torch tensor records is of no use here, and keeps it from being handed over.
    value = value.detach() if hasattr(value, "detach") else value
    if backend.owns(value):
        return value
    try:
        return from_dlpack(backend.xp, value)
    except (AttributeError, TypeError):
        return value
