"""NumPy, the backend that is always there."""

from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends._base import Backend, from_dlpack, speaks_dlpack

__all__ = ["NumpyBackend"]


class NumpyBackend(Backend):
    """The portable bodies on `numpy` itself."""

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
