"""Streams, graphs and events of the stand-in for CuPy, and records of all requests."""

import time
from typing import Any, ClassVar, NamedTuple, Self

from stand_in_arrays import CURRENT


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
