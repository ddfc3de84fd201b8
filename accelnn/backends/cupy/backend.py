"""The backend of arrays on a CUDA device."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from typing import Any

import numpy as np

from accelnn._optional import install_command
from accelnn._typing import Array, ArrayLike
from accelnn.backends._base import Backend
from accelnn.backends._engine import Dataset, Engine
from accelnn.backends._spec import NetSpec
from accelnn.errors import BackendUnavailableError

__all__ = ["CupyBackend"]

NEWEST_CUDA_MAJOR = 13


class CupyBackend(Backend):
    """The portable bodies on `cupy` and fused engines, on the device that was current at first."""

    name = "cupy"

    def __init__(self) -> None:
        self.check_available()
        import cupy

        self.xp = cupy
        self._device = cupy.cuda.Device()
        self.device = f"cuda:{self._device.id}"

    @classmethod
    def check_available(cls) -> None:
        """Raise `BackendUnavailableError` unless CuPy imports and finds a CUDA device."""
        if importlib.util.find_spec("cupy") is None:
            msg = (
                f"the cupy backend needs the package cupy, which is not installed. "
                f"Install the build for your CUDA version with:\n\n    {_install_cupy()}\n"
            )
            raise BackendUnavailableError(msg, reason="not installed")
        try:
            import cupy
        except Exception as error:
            msg = (
                f"cupy is installed, but importing it failed with {type(error).__name__}: {error}. "
                f"Exactly one cupy package may be installed; remove all of them, then run:\n\n"
                f"    {_install_cupy()}\n"
            )
            raise BackendUnavailableError(msg, reason="import failed") from error
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            devices, why = 0, str(error)
        else:
            why = "the CUDA runtime counts 0 devices"
        if devices == 0:
            msg = (
                f"cupy {cupy.__version__} is installed, but no CUDA device can be used: {why}. "
                f"Check the driver with:\n\n    nvidia-smi\n"
            )
            raise BackendUnavailableError(msg, reason="no device")

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is a CuPy array; without CuPy imported, nothing can be."""
        cupy = sys.modules.get("cupy")
        return cupy is not None and isinstance(x, cupy.ndarray)

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` on the device."""
        with self._device:
            return self.xp.asarray(x, dtype=dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new array of zeros on the device."""
        with self._device:
            return self.xp.zeros(shape, dtype=dtype)

    def set_items(self, x: Array, columns: np.ndarray, values: Array) -> None:
        """See `Backend.set_items`."""
        x[self.xp.arange(len(columns))[:, None], self.asarray(columns)] = values

    def to_numpy(self, x: Array) -> np.ndarray:
        """Copy `x` to the host."""
        return self.xp.asnumpy(x)  # type: ignore[no-any-return]

    def make_engine(self, spec: NetSpec, dtype: str) -> Engine:
        """Return a fused engine, or the portable one where a net has parts that are not ours."""
        from accelnn.backends.cupy.engine import ACTIVATIONS, MOST_PARAMETERS, CupyEngine
        from accelnn.losses import LOSSES

        has_activation = len(spec.sizes) > 2  # noqa: PLR2004 - input and output
        if (
            LOSSES.get(spec.loss.name) != spec.loss
            or (has_activation and spec.activation not in ACTIVATIONS)
            or spec.size > MOST_PARAMETERS
        ):
            return super().make_engine(spec, dtype)
        return CupyEngine(self, spec, dtype)

    def prepare(self, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
        """See `Backend.prepare`."""
        from accelnn.backends.cupy.dataset import device_dataset

        return device_dataset(self, x, t, dtype, copy=copy)

    def synchronize(self) -> None:
        """Wait for all streams of the device, whichever device is current."""
        self._device.synchronize()


def _install_cupy() -> str:
    major = _driver_cuda_major() or NEWEST_CUDA_MAJOR
    return install_command(f"cuda{min(major, NEWEST_CUDA_MAJOR)}x")


def _driver_cuda_major() -> int | None:
    """Ask the NVIDIA driver, if there is one, which CUDA it supports."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value // 1000 or None
