"""The NumPy backend, which is always available."""

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends._arrays import from_dlpack, speaks_dlpack
from accelnn.backends._base import Backend

__all__ = ["NumpyBackend"]

# numpy.sum and numpy.max call these through three Python functions.
_total: Callable[..., Array] = np.add.reduce
_largest: Callable[..., Array] = np.maximum.reduce


class NumpyBackend(Backend):
    """The portable ops on NumPy arrays."""

    name = "numpy"
    xp: Any = np
    device = "cpu"

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is a NumPy array."""
        return isinstance(x, np.ndarray)

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` as a NumPy array; see `Backend.asarray`."""
        if type(x) is not np.ndarray and speaks_dlpack(x):
            x = from_dlpack(np, x)
        return np.asarray(x, dtype=dtype)

    def matmul_into(self, out: Array, a: Array, b: Array) -> None:
        """See `Backend.matmul_into`."""
        np.matmul(a, b, out=out)

    def sum(self, x: Array, axis: int, *, keepdims: bool = False) -> Array:
        """See `Backend.sum`."""
        return _total(x, axis=axis, keepdims=keepdims)

    def max(self, x: Array, axis: int, *, keepdims: bool = False) -> Array:
        """See `Backend.max`."""
        return _largest(x, axis=axis, keepdims=keepdims)

    def one_hot(self, labels: Array, n: int, dtype: Any) -> Array:
        """See `Backend.one_hot`."""
        return (labels[..., None] == np.arange(n)).astype(self.dtype(dtype))
