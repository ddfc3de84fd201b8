"""What a computation takes of a backend's memory, and the error where there is not so much."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accelnn.backends._spec import NetSpec
from accelnn.errors import OutOfMemoryError

if TYPE_CHECKING:
    from accelnn.backends._base import Backend

__all__ = ["Memory", "MemoryFor", "out_of_memory", "pass_bytes"]


class Memory(NamedTuple):
    """Bytes of a device's memory.

    Attributes
    ----------
    free : int
        What a new array can have.
    total : int
        All there are.
    """

    free: int
    total: int


# A class, because one written with `contextlib` would take longer than a small net's loss bears.
class MemoryFor:
    """A context in which memory that runs out is a clear error.

    Parameters
    ----------
    backend : Backend
        Whose memory.
    needs : callable
        Returns what takes how much, for the error.
    remedy : str
        What the caller can do.
    """

    __slots__ = ("backend", "needs", "remedy")

    def __init__(self, backend: Backend, needs: Callable[[], str], remedy: str) -> None:
        self.backend, self.needs, self.remedy = backend, needs, remedy

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise `accelnn.errors.OutOfMemoryError` from what the backend has raised."""
        if isinstance(error, MemoryError) and not isinstance(error, OutOfMemoryError):
            raise out_of_memory(self.backend, self.needs(), self.remedy, error) from error


def out_of_memory(
    backend: Backend, needs: str, remedy: str, error: BaseException
) -> OutOfMemoryError:
    """Return the error that says what is needed, what is free, and what to do."""
    memory = backend.memory()
    free = "" if memory is None else f"; {memory.free:,} of {memory.total:,} bytes are free"
    return OutOfMemoryError(
        f"out of memory on {backend.device}: {needs}{free} ({type(error).__name__}: {error}). "
        f"{remedy}"
    )


def pass_bytes(spec: NetSpec, dtype: str, samples: int) -> int:
    """Return what a forward pass keeps: parameters, samples, and every unit's output."""
    return (spec.size + samples * sum(spec.sizes)) * np.dtype(dtype).itemsize
