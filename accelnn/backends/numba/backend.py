"""The Numba backend: NumPy's arrays, compiled loops where they pay."""

import importlib.util
from collections.abc import Callable
from types import ModuleType

import numpy as np

from accelnn._optional import install_command
from accelnn._typing import Array
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendUnavailableError

__all__ = ["NumbaBackend"]

# Widest row for which one compiled pass beats NumPy's vectorised passes: their overhead is per
# call, its own is one scalar exponential per element.
NARROW = 16
COMPILED_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class NumbaBackend(NumpyBackend):
    """NumPy arrays with compiled, fused kernels for the ops that NumPy needs many passes for."""

    name = "numba"
    inferred = False

    def __init__(self) -> None:
        self.check_available()
        from accelnn.backends.numba import kernels

        self._kernels: ModuleType = kernels

    @classmethod
    def check_available(cls) -> None:
        """Raise `BackendUnavailableError` if Numba is missing or does not import."""
        if importlib.util.find_spec("numba") is None:
            msg = (
                f"the numba backend needs the package numba, which is not installed. "
                f"Install it with:\n\n    {install_command('numba')}\n"
            )
            raise BackendUnavailableError(msg, reason="not installed")
        try:
            import numba  # noqa: F401 - whether it imports is the question
        except Exception as error:
            msg = (
                f"numba is installed, but importing it failed with {type(error).__name__}: "
                f"{error}. Reinstall it with:\n\n"
                f"    pip install --force-reinstall numba\n"
            )
            raise BackendUnavailableError(msg, reason="import failed") from error

    def sigmoid_delta(self, x: Array, d: Array) -> Array:
        """See `Backend.sigmoid_delta`."""
        if not _compiled(x) or x.dtype != d.dtype:
            return super().sigmoid_delta(x, d)
        x, d = np.broadcast_arrays(x, d)
        out = np.empty(x.shape, x.dtype)
        self._kernels.sigmoid_delta(x.ravel(), d.ravel(), out.reshape(-1))
        return out

    def softmax(self, x: Array) -> Array:
        """See `Backend.softmax`."""
        if not (_compiled(x) and x.shape[-1] <= NARROW):
            return super().softmax(x)
        return _by_row(self._kernels.softmax_rows, x)

    def log_softmax(self, x: Array) -> Array:
        """See `Backend.log_softmax`."""
        if not (_compiled(x) and x.shape[-1] <= NARROW):
            return super().log_softmax(x)
        return _by_row(self._kernels.log_softmax_rows, x)


def _compiled(x: Array) -> bool:
    return x.dtype in COMPILED_DTYPES


def _by_row(kernel: Callable[[Array, Array], None], x: Array) -> Array:
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    kernel(rows, out)
    return out.reshape(x.shape)
