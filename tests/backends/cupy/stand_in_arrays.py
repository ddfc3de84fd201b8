"""Arrays, memory and devices of the stand-in for CuPy."""

import threading
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# The multiprocessors of an H100, and of an H200.
PROCESSORS = 132


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
# The names of all functions and methods that were called, views and the like included.
CALLS: list[str] = []
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
    compute_capability = "90"

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
        CALLS.append(ufunc.__name__)
        require_current(operands)
        result = ufunc(*map(to_host, inputs), **to_host(options))
        return options["out"][0] if "out" in options else to_device(result)

    def __getitem__(self, index: Any) -> "ndarray":
        CALLS.append("getitem")
        return to_device(self.host[to_host(index)], self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        CALLS.append("setitem")
        assert not isinstance(value, np.ndarray) or value.ndim == 0
        require_current((self, index, value))
        self.host[to_host(index)] = to_host(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.host, name)
        if not callable(value):
            return to_device(value, self) if isinstance(value, np.ndarray) else value

        def method(*arguments: Any, **options: Any) -> Any:
            CALLS.append(name)
            found = value(*to_host(arguments), **to_host(options))
            return to_device(found, self, arguments, options)

        return method

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


def require_current(*values: Any) -> None:
    for x in arrays_in(values):
        assert x.made_on == CURRENT.devices[-1], "the device of an array is not current"


def arrays_in(value: Any) -> Iterator[ndarray]:
    """Yield the arrays in arguments of a function."""
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, list | tuple | dict):
        for x in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(x)


def to_device(value: Any, *sources: Any) -> Any:
    """Return what NumPy gave as it is on the device: that of what it views, or the current one."""
    if isinstance(value, list):
        return [to_device(x, *sources) for x in value]
    if not isinstance(value, np.ndarray | np.generic):
        return value
    own, arrays = ndarray(np.asarray(value)), list(arrays_in(sources))
    viewed = [x for x in arrays if np.may_share_memory(x.host, own.host)]
    if viewed:
        own.made_on = viewed[0].made_on
    else:
        require_current(arrays)
    return own


def to_host(value: Any) -> Any:
    """Return what is on the device as NumPy takes it."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, dict):
        return {key: to_host(x) for key, x in value.items()}
    return type(value)(map(to_host, value)) if isinstance(value, list | tuple) else value
