"""Data sets that stay where they are, such as in a file, and are read batch by batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._typing import ArrayLike
from accelnn._validation import ROWS, flatten_hint
from accelnn.backends import Dataset, is_sparse

if TYPE_CHECKING:
    from accelnn.backends import Backend

__all__ = ["StreamedDataset"]

# Bytes of samples that are read at a time, unless a single batch has more.
PIECE = 1 << 25


class StreamedDataset(Dataset):
    """Samples and targets that are read when they are needed.

    Attributes
    ----------
    x, t : array_like
        What was given to `prepare`: arrays, or anything else that has a shape and can be indexed
        with slices and with arrays of increasing row numbers.
    """

    def __init__(self, x: Any, t: Any, backend: Backend, dtype: str) -> None:
        # The base class is frozen.
        self.__dict__.update(x=x, t=t, backend=backend, dtype=dtype)

    @classmethod
    def of(cls, x: ArrayLike, t: ArrayLike, backend: Backend, dtype: str) -> StreamedDataset:
        """Return a data set that leaves its samples where they are, or raise."""
        if is_sparse(x):
            msg = "the non-zeros of sparse samples are kept in memory: leave stream=True out"
            raise TypeError(msg)
        for name, array in (("x", x), ("t", t)):
            if not hasattr(array, "shape") or not hasattr(array, "__getitem__"):
                msg = (
                    f"prepare(stream=True) reads rows of an array, such as numpy.memmap, when they "
                    f"are needed, and {name} is of type {type(array).__name__}"
                )
                raise TypeError(msg)
        shape, targets = tuple(getattr(x, "shape", ())), tuple(getattr(t, "shape", ()))
        if len(shape) != ROWS or shape[0] == 0:
            msg = f"x has shape {shape}; expected (n, inputs) with n > 0{flatten_hint(shape)}"
            raise ValueError(msg)
        if targets[:1] != shape[:1]:
            msg = f"t has shape {targets}, which does not fit x of shape {shape}"
            raise ValueError(msg)
        return cls(x, t, backend, dtype)

    def __repr__(self) -> str:
        return (
            f"<StreamedDataset of {self.size:,} samples with {self.inputs:,} inputs, for "
            f"{self.dtype} on {self.backend.name}>"
        )

    @property
    def rows_at_once(self) -> int:
        """How many samples are to be read at a time."""
        size = math.prod(self.x.shape[1:]) * np.dtype(self.dtype).itemsize
        return max(1, PIECE // max(1, int(size)))

    def read(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of some rows, in host memory."""
        # From the first to the last, as a file is read fastest, and as h5py asks for.
        rows, places = np.unique(index, return_inverse=True)
        return np.asarray(self.x[rows])[places], np.asarray(self.t[rows])[places]
