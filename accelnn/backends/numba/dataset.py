"""Data sets in the layout of the compiled kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from accelnn.backends._sparse import SparseRows
from accelnn.backends._training import Dataset
from accelnn.backends.numba.arrays import kernel_array
from accelnn.backends.numba.forms import NO_CODES, Entries, entries_of, entries_of_rows
from accelnn.backends.numba.kernels.arguments import Data
from accelnn.backends.numba.vectors import QUAD

if TYPE_CHECKING:
    from accelnn.backends._base import Backend
    from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["PackedDataset", "kernel_data", "pack_dataset", "pack_rows"]

# What a data set has none of.
NO_LABELS, NO_COLUMNS, NO_WEIGHTS = np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(0)
NOTHING = {np.dtype(dtype): np.zeros(0, dtype) for dtype in ("float32", "float64")}


class PackedDataset(Dataset):
    """A data set in the layout that kernels read.

    If the samples are stored sparse, `x` is not stored: it is built on each access.

    Attributes
    ----------
    kernel_data : Data
        The samples, dense or sparse, and targets.
    """

    kernel_data: Data
    _inputs: int

    def __init__(
        self, kernel_data: Data, inputs: int, t: np.ndarray, backend: Backend, dtype: str
    ) -> None:
        own = {"kernel_data": kernel_data, "_inputs": inputs}
        # The base class is frozen.
        self.__dict__.update(own, t=t, backend=backend, dtype=dtype)

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.t)

    @property
    def inputs(self) -> int:
        """Number of features per sample."""
        return self._inputs

    def __repr__(self) -> str:
        form = "dense"
        if self.kernel_data.sparse:
            form = f"non-zeros in groups of {QUAD}" if self.kernel_data.quads else "non-zeros"
        return (
            f"<PackedDataset of {self.size:,} samples with {self.inputs:,} inputs, {form}, "
            f"{self.dtype} on {self.backend.name}>"
        )

    @property
    def x(self) -> np.ndarray:
        """Samples, of shape (n, inputs)."""
        if not self.kernel_data.sparse:
            return self.kernel_data.x.reshape(-1, self.inputs)
        return self._columns_of(self._rows.all_dense())

    @property
    def rows_at_once(self) -> int:
        """See `Dataset.rows_at_once`."""
        return self._rows.rows_of_piece if self.kernel_data.sparse else super().rows_at_once

    def piece(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """See `Dataset.piece`."""
        if not self.kernel_data.sparse:
            return super().piece(rows)
        return self.take(np.arange(*rows.indices(self.size)))

    def with_targets(self, t: np.ndarray) -> PackedDataset:
        """See `Dataset.with_targets`."""
        labelled, labels, targets = _kernel_targets(t, np.dtype(self.dtype))
        data = self.kernel_data._replace(labelled=labelled, labels=labels, targets=targets)
        return PackedDataset(data, self.inputs, t, self.backend, self.dtype)

    def take(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Dataset.take`."""
        data, t = self.kernel_data, self.t[index]
        if not data.sparse:
            return self.x[index], t
        return self._columns_of(self._rows.dense(index)), t

    @property
    def _rows(self) -> SparseRows:
        """The non-zeros, or the quads, each of which is a row of values or of bytes."""
        data = self.kernel_data
        if not data.quads:
            return SparseRows(data.starts, data.columns, data.values, self.inputs)
        values = data.codes.view(np.uint8) if data.codes.size else data.values
        quads = -(-self.inputs // QUAD)
        return SparseRows(data.starts, data.columns, values.reshape(-1, QUAD), quads)

    def _columns_of(self, dense: np.ndarray) -> np.ndarray:
        """Return samples, given dense rows of them, or of their quads."""
        data = self.kernel_data
        if data.codes.size:
            divisor, single = data.values
            dense = np.divide(dense, divisor, dtype=data.values.dtype)
            if single:
                dense = dense.astype(np.float32).astype(dense.dtype)
        dense = dense.reshape(len(dense), math.prod(dense.shape[1:]))
        return np.ascontiguousarray(dense[:, : self.inputs])


def pack_dataset(
    backend: NumbaBackend, x: np.ndarray, t: np.ndarray, dtype: str, *, copy: bool
) -> PackedDataset:
    """Store the samples, of any real dtype, sparse if that is faster, else dense."""
    found = entries_of(x, np.dtype(dtype), backend.team)
    if found is None:
        data = kernel_data(x.astype(dtype, order="C", copy=copy), t)
    else:
        data = kernel_data(np.zeros((0, x.shape[1]), dtype), t, found)
    return PackedDataset(data, x.shape[1], t, backend, dtype)


def pack_rows(backend: NumbaBackend, rows: SparseRows, t: np.ndarray, dtype: str) -> PackedDataset:
    """Store samples of which only the non-zeros are given, dense if they are most of them."""
    found = entries_of_rows(rows, backend.team)
    if found is None:
        data = kernel_data(rows.all_dense(), t)
    else:
        data = kernel_data(np.zeros((0, rows.inputs), dtype), t, found)
    return PackedDataset(data, rows.inputs, t, backend, dtype)


def kernel_data(x: np.ndarray, t: np.ndarray, entries: Entries | None = None) -> Data:
    """Return samples and targets in the layout that kernels read; targets may be empty."""
    nothing = Entries(False, NO_LABELS, NO_COLUMNS, NOTHING[x.dtype], NO_CODES)  # noqa: FBT003
    found = entries or nothing
    return Data(
        entries is not None,
        found.quads,
        kernel_array(x).reshape(-1),
        found.starts,
        found.columns,
        found.values,
        found.codes,
        *_kernel_targets(t, x.dtype),
        NO_WEIGHTS,
    )


def _kernel_targets(t: np.ndarray, dtype: np.dtype) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether targets are labels, the labels, and other targets."""
    if t.dtype.kind in "iu":
        return True, kernel_array(t, np.int64), NOTHING[dtype]
    return False, NO_LABELS, kernel_array(t, dtype).reshape(-1)
