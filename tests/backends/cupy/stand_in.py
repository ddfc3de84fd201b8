"""As much of CuPy as the backend and its engine use, on a machine without a device.

Arrays are NumPy's. Kernels are compiled by g++ and really run, as a few threads of the processor,
whatever grid the engine asks for; captured graphs are replayed. Everything that is asked of the
device is recorded.
"""

import threading
import time
import weakref
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from on_cpu import Kernels, build

from accelnn.backends.cupy.resident import RESIDENT
from accelnn.backends.cupy.source import (
    KERNELS,
    TILES,
    purpose_option,
    shared_bytes,
    tile_bytes,
)


class Launch(NamedTuple):
    """A kernel, as the engine asked for it."""

    name: str
    blocks: int
    threads: int
    is_cooperative: bool
    device: int
    stream: Any = None


class Product(NamedTuple):
    """A matrix product of cuBLAS, by its three sizes."""

    rows: int
    inner: int
    columns: int


class Capture(NamedTuple):
    """A graph that was captured, by the names of its kernels."""

    names: tuple[str, ...]


class Replay(NamedTuple):
    """A graph that was launched."""

    kernels: int


class Transfer(NamedTuple):
    """A copy between host and device."""

    to: str
    size: int


class Wait(NamedTuple):
    """A wait of the host for the current stream of a device."""

    device: int


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array on a device, which NumPy cannot read without being asked to.

    Only where its device is current can it be computed with.
    """

    __array__ = None

    def __init__(self, host: np.ndarray) -> None:
        MEMORY.take(host)
        self.host = host
        self.made_on = CURRENT.devices[-1]

    def __dlpack_device__(self) -> tuple[int, int]:
        return DLPACK_CUDA, self.made_on

    def __dlpack__(self, **options: Any) -> np.ndarray:
        return self.host

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        operands = [*inputs, *options.get("out", ())]
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in operands):
            return NotImplemented
        _require_current(operands)
        result = ufunc(*map(_host, inputs), **_host(options))
        return options["out"][0] if "out" in options else _own(result)

    def __getitem__(self, index: Any) -> "ndarray":
        return _own(self.host[_host(index)], self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        assert not isinstance(value, np.ndarray) or value.ndim == 0
        _require_current((self, index, value))
        self.host[_host(index)] = _host(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.host, name)
        if callable(value):
            return lambda *arguments, **options: _own(
                value(*_host(arguments), **_host(options)), self, arguments, options
            )
        return _own(value, self) if isinstance(value, np.ndarray) else value

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.host)

    def __float__(self) -> float:
        return float(self.host)

    def __int__(self) -> int:
        return int(self.host)

    def __bool__(self) -> bool:
        return bool(self.host)

    @property
    def device(self) -> "Device":
        return Device(self.made_on)


class OutOfMemoryError(MemoryError):
    """There is not so much memory."""


class Memory:
    """The bytes of all devices together, with a pool that keeps what arrays leave."""

    def __init__(self) -> None:
        self.used = 0
        self.forget()

    def forget(self) -> None:
        self.total, self.kept, self.limit = 1 << 40, 0, 0

    def take(self, host: np.ndarray) -> None:
        """Count an array that is no view of another."""
        if not host.flags.owndata:
            return
        if self.used + host.nbytes > (self.limit or self.total):
            raise OutOfMemoryError(f"Out of memory allocating {host.nbytes:,} bytes")
        self.used += host.nbytes
        self.kept = max(0, self.kept - host.nbytes)
        weakref.finalize(host, self.leave, host.nbytes)

    def leave(self, size: int) -> None:
        self.used -= size
        self.kept += size

    def free_bytes(self) -> int:
        return self.kept

    def used_bytes(self) -> int:
        return self.used

    def get_limit(self) -> int:
        return self.limit

    def free_all_blocks(self) -> None:
        self.kept = 0


MEMORY = Memory()
DLPACK_CUDA = 2


class Current(threading.local):
    """What is current in each thread by itself."""

    def __init__(self) -> None:
        self.devices = [0]


# Numbers of the devices that are current, the last one now.
CURRENT = Current()


class Device:
    """One of two devices."""

    attributes: ClassVar[dict[str, int]] = {}

    def __init__(self, number: int | None = None) -> None:
        self.id = CURRENT.devices[-1] if number is None else number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __enter__(self) -> Self:
        CURRENT.devices.append(self.id)
        return self

    def __exit__(self, *error: object) -> None:
        CURRENT.devices.pop()

    def synchronize(self) -> None:
        """Have nothing to wait for."""

    @property
    def mem_info(self) -> tuple[int, int]:
        return MEMORY.total - MEMORY.used - MEMORY.kept, MEMORY.total


class Stream:
    """Runs what it is given at once, unless it captures."""

    current: ClassVar[list["Stream"]] = []
    log: ClassVar[list[Any]] = []

    def __init__(self, *, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.captured: list[Any] | None = None

    def __enter__(self) -> Self:
        self.current.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.current.pop()

    @classmethod
    def captures(cls) -> bool:
        return bool(cls.current) and cls.current[-1].captured is not None

    def synchronize(self) -> None:
        self.log.append(Wait(CURRENT.devices[-1]))

    def begin_capture(self) -> None:
        assert self.non_blocking, "the default stream cannot be captured"
        self.captured = []

    def end_capture(self) -> "Graph":
        captured, self.captured = self.captured, None
        assert captured is not None
        self.log.append(Capture(tuple(name for name, _ in captured)))
        return Graph([run for _, run in captured], self.log)


class Graph:
    """Launches that are done again and again."""

    def __init__(self, launches: list[Any], log: list[Any]) -> None:
        self.launches, self.log = launches, log

    def launch(self) -> None:
        self.log.append(Replay(len(self.launches)))
        for launch in self.launches:
            launch()


class Event:
    """A moment, of a device that is never behind the host."""

    def record(self) -> None:
        self.moment = time.perf_counter()

    def synchronize(self) -> None:
        """Have nothing to wait for."""


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
            memory=memory,
        )

    def forget(self) -> None:
        """Return to what a device is at first."""
        self.events: list[Any] = []
        # Of every launch, captured ones too: its name, and where the arrays lie that it was given.
        self.buffers: list[tuple[str, list[int]]] = []
        Stream.log = self.events
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
            assert not any(isinstance(x, np.ndarray) for x in arguments), name
            return _own(value(*_host(arguments), **_host(options)), arguments, options)

        return function

    def from_dlpack(self, x: Any) -> ndarray:
        kind, number = x.__dlpack_device__()
        assert kind == DLPACK_CUDA
        with Device(number):
            return ndarray(x.__dlpack__(stream=1))

    def asarray(self, x: Any, dtype: Any = None, *, copy: bool | None = None) -> ndarray:
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
        return ndarray(np.array(_host(x), dtype))

    def astype(self, x: ndarray, dtype: Any, *, copy: bool = True) -> ndarray:
        return x.astype(dtype) if copy else self.asarray(x, dtype)

    def asnumpy(self, x: Any) -> np.ndarray:
        assert not Stream.captures(), "a stream that captures cannot be waited for"
        assert isinstance(x, ndarray)
        self.events.append(Transfer("host", x.nbytes))
        return np.array(x.host)

    def matmul(self, a: Any, b: Any, out: Any) -> None:
        assert not Stream.captures(), "CuPy does not capture cuBLAS"
        assert all(isinstance(x, ndarray) for x in (a, b, out))
        _require_current((a, b, out))
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


BEFOREHAND = ("-DPURPOSE", "-DACTIVATION", "-DLOSS", "-DDECAYS")
# What a tile is compiled for on the processor.
THREADS_OF_TILE = 4
# Without shared memory that a block can ask for, no net is kept on the device.
ATTRIBUTES = {
    "MultiProcessorCount": 4,
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
        self.itemsize = 8 if "-DREAL=double" in options else 4

    def shared_bytes(self, threads: int) -> int:
        """Return the shared memory that a block must be given."""
        if self.name == RESIDENT:
            return self.max_dynamic_shared_size_bytes
        return tile_bytes(self.itemsize) if self.name in TILES else shared_bytes(threads)

    def __call__(
        self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], *, shared_mem: int
    ) -> None:
        assert self.is_cooperative == (self.name in {"train", RESIDENT})
        assert block[0] <= self.max_threads_per_block
        assert shared_mem == self.shared_bytes(block[0])
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
        hosts = _host(arguments)
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
        _require_current(argument)
    else:
        assert isinstance(argument, np.generic), type(argument)


def _require_current(*values: Any) -> None:
    for x in _arrays(values):
        assert x.made_on == CURRENT.devices[-1], "the device of an array is not current"


def _arrays(value: Any) -> Iterator[ndarray]:
    """Yield the arrays in arguments of a function."""
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, list | tuple | dict):
        for x in value.values() if isinstance(value, dict) else value:
            yield from _arrays(x)


def _own(value: Any, *sources: Any) -> Any:
    """Return what NumPy gave as it is on the device: that of what it views, or the current one."""
    if isinstance(value, list):
        return [_own(x, *sources) for x in value]
    if not isinstance(value, np.ndarray | np.generic):
        return value
    own, arrays = ndarray(np.asarray(value)), list(_arrays(sources))
    viewed = [x for x in arrays if np.may_share_memory(x.host, own.host)]
    if viewed:
        own.made_on = viewed[0].made_on
    else:
        _require_current(arrays)
    return own


def _host(value: Any) -> Any:
    """Return what is on the device as NumPy takes it."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, dict):
        return {key: _host(x) for key, x in value.items()}
    return type(value)(map(_host, value)) if isinstance(value, list | tuple) else value
