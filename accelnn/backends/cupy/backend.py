"""The CuPy backend: arrays on a CUDA device."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from accelnn._optional import install_command
from accelnn._typing import Array, ArrayLike
from accelnn.backends._arrays import from_dlpack, speaks_dlpack
from accelnn.backends._base import Backend
from accelnn.backends._engine import Engine
from accelnn.backends._memory import Memory
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import Dataset
from accelnn.errors import BackendMismatchError, BackendUnavailableError

__all__ = ["CupyBackend"]

# For which there are builds of CuPy.
OLDEST_CUDA_MAJOR, NEWEST_CUDA_MAJOR = 12, 13
# DLPack's device types for CUDA memory and CUDA managed memory.
DLPACK_CUDA = (2, 13)


class CupyBackend(Backend):
    """The portable ops on CuPy arrays and fused engines, on one device.

    Work is queued on the calling thread's current stream of that device. Results are CuPy arrays,
    which other libraries import through DLPack or ``__cuda_array_interface__`` without a copy;
    `asarray` imports theirs in the same way. CuPy computes with an array only while its device is
    current: put a loop of your own, such as ``net.params[k] -= lr * grads[k]``, inside ``with
    net.backend.current():`` if the net is on another device.

    Parameters
    ----------
    device : int, optional
        The number of the device; by default the current one. In `accelnn.get_backend`,
        ``"cupy:0"``, ``"cupy:1"`` and so on.
    """

    name = "cupy"

    def __init__(self, device: int | None = None) -> None:
        _require_some_device()
        import cupy

        self.xp = cupy
        self._device = cupy.cuda.Device(device)
        _require_compiler(self._device)
        self.number = int(self._device.id)
        self.device = f"cuda:{self.number}"

    @classmethod
    def check_available(cls) -> None:
        """Raise `BackendUnavailableError` unless CuPy imports and can compile for some device."""
        _require_some_device()
        import cupy

        devices = map(cupy.cuda.Device, range(cls.device_count()))
        _require_compiler(max(devices, key=lambda device: int(device.compute_capability)))

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is a CuPy array, without importing CuPy."""
        cupy = sys.modules.get("cupy")
        return cupy is not None and isinstance(x, cupy.ndarray)

    @classmethod
    def device_count(cls) -> int:
        """Return how many CUDA devices there are."""
        _require_some_device()
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())

    @classmethod
    def number_of(cls, x: Array) -> int | None:
        """Return the number of the device that `x` is on."""
        return int(x.device.id)

    def current(self) -> AbstractContextManager[object]:
        """See `Backend.current`."""
        return self._device  # type: ignore[no-any-return]

    def check_owned(self, x: object, name: str = "x") -> None:
        """See `Backend.check_owned`."""
        super().check_owned(x, name)
        if self.owns(x) and self.number_of(x) != self.number:
            msg = (
                f"{name} is on the device cuda:{self.number_of(x)}, but the backend is "
                f"{self.name!r} (device {self.device}) and nothing is converted implicitly. Move "
                f"it with accelnn.get_backend({self.address!r}).asarray(...), or choose the "
                f"backend '{self.name}:{self.number_of(x)}'."
            )
            raise BackendMismatchError(msg)

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` as an array on this device.

        CuPy arrays on another device are copied to this one. CUDA arrays of other libraries are
        imported through DLPack or ``__cuda_array_interface__``, without a copy if they are on this
        device.
        """
        array = self._handed_over(x)
        if self.owns(array) and self.number_of(array) != self.number:
            # The copy runs on this device's stream, which does not wait for the other's.
            with array.device:
                self.xp.cuda.get_current_stream().synchronize()
        with self._device:
            return self.xp.asarray(array, dtype=dtype)

    def _handed_over(self, x: Any) -> Any:
        if not speaks_dlpack(x) or self.owns(x):
            return x
        on_device = x.__dlpack_device__()[0] in DLPACK_CUDA
        return from_dlpack(self.xp if on_device else np, x)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new array of zeros on the device."""
        with self._device:
            return self.xp.zeros(shape, dtype=dtype)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """See `Backend.empty`."""
        with self._device:
            return self.xp.empty(shape, dtype=dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Copy `x` to the host."""
        with self._device:
            return self.xp.asnumpy(x)  # type: ignore[no-any-return]

    def make_engine(self, spec: NetSpec, dtype: str) -> Engine:
        """Return a fused engine, or the portable one if there are no kernels for the net."""
        from accelnn.backends.cupy.engine import CupyEngine

        if not CupyEngine.supports(spec):
            return super().make_engine(spec, dtype)
        return CupyEngine(self, spec, dtype)

    def prepare(self, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
        """See `Backend.prepare`."""
        from accelnn.backends.cupy.dataset import device_dataset

        return device_dataset(self, x, t, dtype, copy=copy)

    def synchronize(self) -> None:
        """Wait for all streams of this device, whichever device is current."""
        self._device.synchronize()

    def memory(self) -> Memory:
        """See `Backend.memory`; free blocks of CuPy's memory pool count as free."""
        with self._device:
            pool = self.xp.get_default_memory_pool()
            free, total = self._device.mem_info
            memory = Memory(free + pool.free_bytes(), total)
            limit = pool.get_limit()
            if limit:
                memory = Memory(min(memory.free, max(0, limit - pool.used_bytes())), limit)
        return memory

    def release_memory(self) -> None:
        """See `Backend.release_memory`."""
        with self._device:
            self.xp.get_default_memory_pool().free_all_blocks()


def _require_some_device() -> None:
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


def _require_compiler(device: Any) -> None:
    """Raise `BackendUnavailableError` unless CUDA's run-time compiler knows a device.

    That of CUDA 13 no longer compiles for devices before compute capability 7.5, such as a V100,
    while that driver and CuPy's arrays still work there.
    """
    import cupy

    nvrtc = cupy.cuda.nvrtc
    try:
        major, minor = nvrtc.getVersion()
        oldest = min(nvrtc.getSupportedArchs())
    except Exception as error:
        msg = (
            f"cupy {cupy.__version__} is installed, but the compiler of its kernels, NVRTC, cannot "
            f"be used: {type(error).__name__}: {error}. Install it with:\n\n"
            f"    {install_command(f'cuda{_cuda_major_of_cupy()}x')}\n"
        )
        raise BackendUnavailableError(msg, reason="no compiler") from error
    capability = int(device.compute_capability)
    if capability < oldest:
        msg = (
            f"the device cuda:{device.id} has compute capability {_dotted(capability)}, and NVRTC "
            f"{major}.{minor} compiles for {_dotted(oldest)} and later"
        )
        if major > OLDEST_CUDA_MAJOR:
            command = install_command(f"cuda{OLDEST_CUDA_MAJOR}x")
            msg += (
                f". Uninstall cupy-cuda{major}x, and install the build for CUDA "
                f"{OLDEST_CUDA_MAJOR}, which knows older devices:\n\n    {command}\n"
            )
        raise BackendUnavailableError(msg, reason="no compiler")


def _cuda_major_of_cupy() -> int:
    """Return the CUDA version that CuPy was built for; the driver may be newer."""
    import cupy

    return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000


def _dotted(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"


def _install_cupy() -> str:
    major = _driver_cuda_major() or NEWEST_CUDA_MAJOR
    return install_command(f"cuda{min(major, NEWEST_CUDA_MAJOR)}x")


def _driver_cuda_major() -> int | None:
    """Return the CUDA version that the NVIDIA driver supports, or None without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value // 1000 or None
