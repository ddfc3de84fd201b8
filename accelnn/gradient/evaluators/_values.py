"""Values of f, checked and copied; arrays of other libraries."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn._validation import as_floating
from accelnn.backends import (
    Backend,
    BackendLike,
    from_dlpack,
    get_backend,
    resolve,
    speaks_dlpack,
)
from accelnn.gradient._precision import DOUBLE

__all__ = ["Values", "adopt", "from_foreign"]

DTYPE = np.dtype(np.float64)


class Values:
    """Checks and copies what f returns.

    Parameters
    ----------
    backend : Backend
        Whose arrays.
    is_complex : bool
        Whether values may be complex, as the points are.
    scalar : bool or None
        Whether every value must be a single number (True), an array (False) or either (None).

    Attributes
    ----------
    shape : tuple of int or None
        The shape of f(x); None before the first call.
    epsilon : float
        Machine epsilon of the least precise value so far; 0 before the first call.
    """

    def __init__(self, backend: Backend, *, is_complex: bool, scalar: bool | None) -> None:
        self.backend = backend
        self.is_complex = is_complex
        self.scalar = scalar
        # Whether a float64 NumPy array can be used without further checks.
        self.takes_numpy = not is_complex and backend.owns(np.zeros(0))
        self.shape: tuple[int, ...] | None = () if scalar else None
        self.epsilon = 0.0

    def one(self, value: Any) -> Any:
        """Return the value at one point, copied."""
        kind = type(value)
        if self.scalar and (kind is float or kind is np.float64):
            self.epsilon = self.epsilon or DOUBLE
            return value
        array = self._array(value)
        shape = tuple(array.shape)
        if self.scalar and math.prod(shape) != 1:
            msg = (
                f"f must return one number, but f(x) has shape {shape}: differentiate all of its "
                f"values with numerical_jacobian, or return their .sum(). If f takes many points "
                f"at once and returns one value for each, pass batched=True"
            )
            raise ValueError(msg)
        if not self.scalar:
            self.require(shape)
        # A copy, because it may be a view of x, or a buffer that the next call reuses.
        copy = self.backend.xp.asarray(array, copy=True)
        return self.backend.xp.reshape(copy, ()) if self.scalar and shape else copy

    def many(self, value: Any, points: Array) -> Array:
        """Return the values at many points, copied, along the first axis."""
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
        # A copy, because f may reuse its output buffer in the next call.
        return self.backend.xp.asarray(array, copy=True)

    def note_single(self, f: Any) -> None:
        """Note that a Numba-compiled f returns float32, which its Python float does not show."""
        signatures = getattr(f, "nopython_signatures", None)
        if signatures and str(signatures[-1].return_type) == "float32":
            self.epsilon = float(np.finfo(np.float32).eps)

    def on_host(self, value: Any) -> np.ndarray:
        """Return one value, or an array of many, on the host."""
        if isinstance(value, np.ndarray | float) or not self.backend.owns(value):
            return np.asarray(value)
        return self.backend.to_numpy(value)

    def all_on_host(self, values: Any) -> np.ndarray:
        """Return many values, an array or a list, on the host in double precision at least."""
        backend = self.backend
        if isinstance(values, list) and all(backend.owns(value) for value in values):
            # One transfer for all of them.
            values = backend.xp.stack(values)
        elif isinstance(values, list):
            values = [v if isinstance(v, float) else self.on_host(v) for v in values]
        found = self.on_host(values)
        wide = np.complex128 if self.is_complex else np.float64
        return found if found.dtype == wide else found.astype(np.result_type(found, wide))

    def _array(self, value: Any) -> Array:
        backend, xp = self.backend, self.backend.xp
        if self.takes_numpy and type(value) is np.ndarray and value.dtype == DTYPE:
            # The common case.
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
        """Return a value as NumPy or the backend knows it, or raise TypeError saying why not."""
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
                f"If that is a value with its gradient, or with what a backward pass needs, take "
                f"the value alone, as in lambda x: f(x)[0]; check_gradient(f, True, x) takes a "
                f"value and its gradient"
            )
            raise TypeError(msg)
        # Decimal is not registered as a Real.
        return float(value) if isinstance(value, Real | Decimal) else value

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse a value whose shape differs from those before."""
        if self.shape is None:
            self.shape = shape
        if shape != self.shape:
            msg = (
                f"f returned shape {self.shape} at one point (or f0 has that shape) and shape "
                f"{shape} at another"
            )
            raise ValueError(msg)


def adopt(backend: Backend, value: Any) -> Any:
    """Return an array of another library as one of `backend`, through DLPack.

    Anything else, and what cannot be converted, is returned as it is, for the usual checks.
    """
    if not (backend.owns(value) or speaks_dlpack(value)):
        return value
    value = _detached(value)
    if backend.owns(value):
        return value
    try:
        return from_dlpack(backend.xp, value)
    except (AttributeError, TypeError):
        return value


def _detached(value: Any) -> Any:
    """Return an array that records no gradients, as torch exports no other."""
    return value.detach() if hasattr(value, "detach") else value


def from_foreign(
    backend: BackendLike | None, f: Any, grad: Any, x: Any
) -> tuple[BackendLike | None, Any, Any, Any]:
    """Return backend, f, grad and x, with NumPy in place of a library without a backend.

    f and grad are still called with arrays of that library.
    """
    if not speaks_dlpack(x):
        return backend, f, grad, x
    home = resolve(backend, x)
    if home.owns(x):
        return backend, f, grad, x
    if backend is not None:
        home.check_owned(x)
    try:
        host = np.array(np.from_dlpack(_detached(x)))
    except (BufferError, RuntimeError) as error:
        msg = f"x, of dtype {getattr(x, 'dtype', '?')}, cannot be handed over to NumPy: {error}"
        raise TypeError(msg) from error
    # Nobody else would see this copy move, so that it must not be taken for the caller's x.
    host.flags.writeable = False
    library = sys.modules[type(x).__module__.partition(".")[0]]
    if hasattr(x, "__array_namespace__"):
        library = x.__array_namespace__()

    def foreign(function: Any) -> Any:
        if not callable(function):
            return function
        return lambda point: function(library.from_dlpack(np.array(point)))

    return get_backend("numpy"), foreign(f), foreign(grad), host
