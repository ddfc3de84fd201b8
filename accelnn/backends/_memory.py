"""The memory of a backend's device, and the error when it runs out."""

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
    """The memory of a device, in bytes.

    Attributes
    ----------
    free : int
        Available for new arrays.
    total : int
        The size of the memory.
    """

    free: int
    total: int


# A class, because `contextlib.contextmanager` would slow down the loss of a small net noticeably.
class MemoryFor:
    """A context manager that explains errors for lack of memory.

    Parameters
    ----------
    backend : Backend
        The backend that computes.
    needs : callable
        Returns the part of the message that says what needs how much.
    remedy : str
        The part of the message that says what to do.
    """

    __slots__ = ("backend", "needs", "remedy")

    def __init__(self, backend: Backend, needs: Callable[[], str], remedy: str) -> None:
        self.backend, self.needs, self.remedy = backend, needs, remedy

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Raise `accelnn.errors.OutOfMemoryError` from the backend's MemoryError."""
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
    """Return the bytes of a forward pass: parameters, samples, and the output of every unit."""
    return (spec.size + samples * sum(spec.sizes)) * np.dtype(dtype).itemsize
