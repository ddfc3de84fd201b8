"""As much of CuPy as the backend and its engine use, on a machine without a device.

Arrays are NumPy arrays on the host. Kernels are compiled by g++ and really run, on a few threads of
the CPU whatever grid the engine asks for; captured graphs are replayed. Everything that is asked of
the device is recorded.

CuPy itself can be built without CUDA (`CUPY_INSTALL_USE_STUB=1`), but then its functions of CUDA
are declared without parameters and do nothing, and its own ops are CUDA source that only a compiler
of CUDA takes.
"""

from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from on_cpu import Kernels, build
from stand_in_arrays import (
    CALLS,
    CURRENT,
    DLPACK_CUDA,
    MEMORY,
    Device,
    Memory,
    OutOfMemoryError,
    ndarray,
    require_current,
    to_device,
    to_host,
)
from stand_in_streams import Event, Launch, Product, Stream, Transfer

from accelnn.backends.cupy.formulas import TOLD_BEFOREHAND
from accelnn.backends.cupy.launch import COOPERATIVE
from accelnn.backends.cupy.resident import RESIDENT
from accelnn.backends.cupy.source import (
    KERNELS,
    PHASES_BYTES,
    TILE_BYTES,
    TILES,
    purpose_option,
    shared_bytes,
)


class StandIn(ModuleType):
    """The module itself; what it does not have, NumPy has."""

    def __init__(self, folder: Path) -> None:
        super().__init__("cupy")
        self.__spec__ = ModuleSpec("cupy", None)
        self.__version__ = "0"
        self.ndarray = ndarray
        self.folder: Path = folder
        self.built: dict[tuple[str, ...], Kernels] = {}
        self.forget()
        runtime = SimpleNamespace(
            getDeviceCount=lambda: 2, CUDARuntimeError=type("CUDARuntimeError", (Exception,), {})
        )
        memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        self.cuda = SimpleNamespace(
            Device=Device,
            Event=Event,
            Stream=Stream,
            get_elapsed_time=lambda start, end: (end.moment - start.moment) * 1e3,
            set_allocator=lambda _allocator: None,
            get_current_stream=lambda: Stream.current[-1] if Stream.current else Stream(),
            runtime=runtime,
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0), getSupportedArchs=lambda: (75, 120)),
            memory=memory,
        )

    def forget(self) -> None:
        """Return to what a device is at first."""
        self.events: list[Any] = []
        # Of every launch, captured ones too: its name, and where the arrays lie that it was given.
        self.buffers: list[tuple[str, list[int]]] = []
        Stream.log = self.events
        CALLS.clear()
        self.grid = 2, 3
        MEMORY.forget()
        Device.attributes = ATTRIBUTES

    def get_default_memory_pool(self) -> Memory:
        return MEMORY

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value

        def function(*arguments: Any, **options: Any) -> Any:
            CALLS.append(name)
            assert not any(isinstance(x, np.ndarray) for x in arguments), name
            return to_device(value(*to_host(arguments), **to_host(options)), arguments, options)

        return function

    def from_dlpack(self, x: Any) -> ndarray:
        CALLS.append("from_dlpack")
        kind, number = x.__dlpack_device__()
        assert kind == DLPACK_CUDA
        with Device(number):
            return ndarray(x.__dlpack__(stream=1))

    def asarray(self, x: Any, dtype: Any = None, *, copy: bool | None = None) -> ndarray:
        CALLS.append("asarray")
        if hasattr(x, "__cuda_array_interface__"):
            described = SimpleNamespace(__array_interface__=x.__cuda_array_interface__)
            with Device(x.device.id):
                x = ndarray(np.asarray(described))
        # What is on another device is copied to this one.
        is_here = isinstance(x, ndarray) and x.made_on == CURRENT.devices[-1]
        if is_here and not copy and dtype in (None, x.dtype):
            return x
        if not isinstance(x, ndarray):
            self.events.append(Transfer("device", np.asarray(x).nbytes))
        return ndarray(np.array(to_host(x), dtype))

    def astype(self, x: ndarray, dtype: Any, *, copy: bool = True) -> ndarray:
        return x.astype(dtype) if copy else self.asarray(x, dtype)

    def asnumpy(self, x: Any) -> np.ndarray:
        CALLS.append("asnumpy")
        assert not Stream.captures(), "a stream that captures cannot be waited for"
        assert isinstance(x, ndarray)
        self.events.append(Transfer("host", x.nbytes))
        return np.array(x.host)

    def matmul(self, a: Any, b: Any, out: Any) -> None:
        CALLS.append("matmul")
        assert not Stream.captures(), "CuPy does not capture cuBLAS"
        assert all(isinstance(x, ndarray) for x in (a, b, out))
        require_current((a, b, out))
        assert out.host.flags.c_contiguous
        self.events.append(Product(*a.shape, b.shape[1]))
        np.matmul(a.host, b.host, out=out.host)

    def RawKernel(self, *arguments: Any, **options: Any) -> "RawKernel":  # noqa: N802 - CuPy's name
        return RawKernel(self, *arguments, **options)

    def library(self, source: str, options: tuple[str, ...]) -> Kernels:
        if options not in self.built:
            names = [RESIDENT] if f"{RESIDENT}(" in source else KERNELS
            self.built[options] = Kernels(build(source, options, self.folder, kernels=names))
        return self.built[options]


BEFOREHAND = ("-DPURPOSE", *map("-D{}".format, TOLD_BEFOREHAND))
# What a tile is compiled for on the processor.
THREADS_OF_TILE = 8
# Without shared memory that a block can ask for, no net is kept on the device.
ATTRIBUTES = {
    "MultiProcessorCount": 4,
    "ComputeCapabilityMajor": 9,
    "CooperativeLaunch": 1,
    "MaxSharedMemoryPerBlockOptin": 0,
}


class RawKernel:
    """A kernel that runs on the processor, with fewer blocks and threads than it is given."""

    max_threads_per_block = 896
    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(
        self,
        cupy: StandIn,
        code: str,
        name: str,
        *,
        options: tuple[str, ...],
        enable_cooperative_groups: bool,
    ) -> None:
        self.cupy, self.name, self.is_cooperative = cupy, name, enable_cooperative_groups
        if name != RESIDENT:
            assert purpose_option(name) in options
        # Once for all purposes, and all formulas, which kernels are told when they run.
        options = tuple(option for option in options if not option.startswith(BEFOREHAND))
        self.library = cupy.library(code, options)

    def shared_bytes(self, threads: int) -> int:
        """Return the shared memory that a block must be given."""
        if self.name == RESIDENT:
            return self.max_dynamic_shared_size_bytes
        return TILE_BYTES + PHASES_BYTES if self.name in TILES else shared_bytes(threads)

    def __call__(
        self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], *, shared_mem: int
    ) -> None:
        assert self.is_cooperative == (self.name in {*COOPERATIVE, RESIDENT})
        assert block[0] <= self.max_threads_per_block
        assert shared_mem == self.shared_bytes(block[0])
        CALLS.append(self.name)
        for argument in arguments:
            _check(argument)
        stream = Stream.current[-1] if Stream.current else None
        device = CURRENT.devices[-1]
        launch = Launch(self.name, grid[0], block[0], self.is_cooperative, device, stream)
        blocks, threads = np.minimum((grid[0], block[0]), self.cupy.grid)
        if self.name == RESIDENT:
            # It is compiled for as many as it is given.
            blocks, threads = grid[0], block[0]
        elif self.name in TILES:
            threads = THREADS_OF_TILE
        hosts = to_host(arguments)
        addresses = [x.ctypes.data for x in hosts if isinstance(x, np.ndarray)]
        self.cupy.buffers.append((self.name, addresses))

        def run() -> None:
            self.library(self.name, int(blocks), int(threads), hosts, shared=shared_mem)

        captured = stream.captured if stream else None
        if captured is None:
            self.cupy.events.append(launch)
            run()
        else:
            captured.append((self.name, run))


def _check(argument: Any) -> None:
    """Assert that CuPy would take an argument, and that it is where the kernel runs."""
    if isinstance(argument, ndarray):
        assert argument.host.flags.c_contiguous
        require_current(argument)
    else:
        assert isinstance(argument, np.generic), type(argument)
