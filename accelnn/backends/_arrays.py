"""Queries about arrays and dtypes of any array library."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from accelnn._typing import Array

__all__ = [
    "dtype_name",
    "from_dlpack",
    "is_array",
    "is_floating",
    "kind_of",
    "slices",
    "speaks_dlpack",
]


def dtype_name(dtype: Any) -> str:
    """Return the plain name ("float32") of a dtype of any array library."""
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, np.dtype):
        return _numpy_name(dtype)
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype).rpartition(".")[2]


# NumPy takes microseconds to name a dtype.
@functools.cache
def _numpy_name(dtype: np.dtype[Any]) -> str:
    return str(dtype.name)


def is_floating(dtype: Any) -> bool:
    """Return whether a dtype of any array library is real and floating."""
    name = _numpy_name(dtype) if isinstance(dtype, np.dtype) else dtype_name(dtype)
    return name.startswith("float")


def speaks_dlpack(x: object) -> bool:
    """Return whether `x` is a non-NumPy array that supports DLPack."""
    return hasattr(type(x), "__dlpack__") and not isinstance(x, np.ndarray | np.generic)


def from_dlpack(xp: Any, x: Any) -> Array:
    """Return an array of another library as one of `xp`, sharing memory."""
    try:
        return xp.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        msg = (
            f"the {kind_of(x)}, of dtype {getattr(x, 'dtype', '?')}, cannot be handed over to "
            f"{xp.__name__}: {error}. Let its own library move it, or cast it to float32, first"
        )
        raise TypeError(msg) from error


def kind_of(x: object) -> str:
    """Return library and type of an array for an error message, such as ``torch.Tensor``."""
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"


def is_array(x: object) -> bool:
    """Return whether `x` is an array of any library."""
    protocols = ("__array_namespace__", "__dlpack__", "__cuda_array_interface__")
    return any(hasattr(type(x), protocol) for protocol in protocols)


def slices(total: int, length: int) -> Iterator[slice]:
    """Split ``range(total)`` into slices within bounds, as the array API requires."""
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))
