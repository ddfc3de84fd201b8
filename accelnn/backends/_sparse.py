"""Samples of which only the non-zeros are stored, as scipy.sparse stores them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends._arrays import kind_of, slices
from accelnn.backends._training import Dataset

if TYPE_CHECKING:
    from accelnn.backends._base import Backend

__all__ = ["SparseDataset", "SparseRows", "column_type", "is_sparse"]

# Above this a column index needs more than 16 bits.
NARROW_COLUMNS = 1 << 16
# Numbers that are made dense at a time: 128 MB in float32.
PIECE = 1 << 25


def is_sparse(x: object) -> bool:
    """Return whether `x` is a matrix or an array of scipy.sparse, which is not imported."""
    return hasattr(type(x), "tocsr")


def column_type(inputs: int) -> type[np.integer]:
    """Return the narrowest dtype of column indices that kernels read."""
    return np.uint16 if inputs <= NARROW_COLUMNS else np.uint32


@dataclass(frozen=True, eq=False)
class SparseRows:
    """The non-zeros of all rows, on the host, sorted by row and column.

    Attributes
    ----------
    starts : array of int64, shape (n + 1,)
        Where each row begins in `columns` and `values`.
    columns, values : array of shape (m,)
        Each non-zero and its column. A value may itself be a row of numbers.
    inputs : int
        The number of columns.
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    inputs: int

    @classmethod
    def of(cls, x: Any, name: str = "x") -> SparseRows:
        """Return the entries of a sparse matrix of any format, of which some may be zero.

        Raises
        ------
        TypeError
            If the matrix is not in the host's memory, or does not hold real numbers.
        ValueError
            If it has not two axes, or is damaged.
        """
        shape = tuple(x.shape)
        if len(shape) != 2:  # noqa: PLR2004 - rows and columns
            msg = f"{name} has shape {shape}; sparse samples have the shape (n, inputs)"
            raise ValueError(msg)
        if x.dtype.kind not in "biuf":
            msg = f"{name} must hold real numbers, got dtype {x.dtype}"
            raise TypeError(msg)
        try:
            if hasattr(x, "check_format"):
                # Kernels would follow a damaged index anywhere.
                x.check_format()
            rows = x.tocsr()
        except (ValueError, IndexError) as error:
            msg = f"{name} is a damaged {kind_of(x)}: {error}"
            raise ValueError(msg) from error
        if not isinstance(rows.indptr, np.ndarray):
            msg = (
                f"{name} is a {kind_of(x)}, and sparse samples are taken from scipy.sparse only: "
                f"pass {name}.get(), or {name}.toarray()"
            )
            raise TypeError(msg)
        if not rows.has_canonical_format:
            # The caller's own stays as it is.
            rows = rows.copy()
            rows.sum_duplicates()
        count = rows.indptr[-1]
        columns = rows.indices[:count].astype(column_type(shape[1]))
        return cls(rows.indptr.astype(np.int64), columns, rows.data[:count], shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.starts) - 1, self.inputs

    @property
    def rows_of_piece(self) -> int:
        """How many rows are made dense at a time."""
        return max(1, PIECE // max(1, self.inputs * math.prod(self.values.shape[1:])))

    def with_values(self, values: np.ndarray) -> SparseRows:
        """Return the rows with other values, without those that are zero."""
        is_kept = values != 0
        if is_kept.all():
            return SparseRows(self.starts, self.columns, values, self.inputs)
        starts = np.append(0, np.cumsum(is_kept, dtype=np.int64))[self.starts]
        return SparseRows(starts, self.columns[is_kept], values[is_kept], self.inputs)

    def place(self, entry: int) -> tuple[int, int]:
        """Return row and column of an entry."""
        row = int(np.searchsorted(self.starts, entry, side="right")) - 1
        return row, int(self.columns[entry])

    def dense(self, index: np.ndarray) -> np.ndarray:
        """Return some rows as an array."""
        first, counts = self.starts[index], self.starts[index + 1] - self.starts[index]
        ends = np.cumsum(counts)
        places = np.arange(counts.sum()) + np.repeat(first - (ends - counts), counts)
        x = np.zeros((len(index), self.inputs, *self.values.shape[1:]), self.values.dtype)
        x[np.repeat(np.arange(len(index)), counts), self.columns[places]] = self.values[places]
        return x

    def all_dense(self) -> np.ndarray:
        """Return all rows as an array."""
        x = np.empty((*self.shape, *self.values.shape[1:]), self.values.dtype)
        for part in slices(len(x), self.rows_of_piece):
            x[part] = self.dense(np.arange(part.start, part.stop))
        return x


class SparseDataset(Dataset):
    """Samples whose non-zeros are on the host, and of which each batch is made dense.

    Attributes
    ----------
    rows : SparseRows
        The samples, in `dtype`.
    """

    rows: SparseRows

    def __init__(self, rows: SparseRows, t: Array, backend: Backend, dtype: str) -> None:
        # The base class is frozen.
        self.__dict__.update(rows=rows, t=t, backend=backend, dtype=dtype)

    def __repr__(self) -> str:
        return (
            f"<SparseDataset of {self.size:,} samples with {self.inputs:,} inputs, "
            f"{self.rows.values.size:,} non-zeros, {self.dtype} for {self.backend.device}>"
        )

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.rows.shape[0]

    @property
    def inputs(self) -> int:
        """Number of features per sample."""
        return self.rows.inputs

    @property
    def rows_at_once(self) -> int:
        """See `Dataset.rows_at_once`."""
        return self.rows.rows_of_piece

    @property
    def x(self) -> Array:
        """Samples, of shape (n, inputs), all made dense."""
        return self.backend.asarray(self.rows.all_dense())

    def with_targets(self, t: Array) -> SparseDataset:
        """See `Dataset.with_targets`."""
        return SparseDataset(self.rows, t, self.backend, self.dtype)

    def take(self, index: Array) -> tuple[Array, Array]:
        """See `Dataset.take`."""
        x = self.backend.asarray(self.rows.dense(self.backend.to_numpy(index)))
        return x, self.backend.xp.take(self.t, index, axis=0)

    def piece(self, rows: slice) -> tuple[Array, Array]:
        """See `Dataset.piece`."""
        x = self.rows.dense(np.arange(rows.start, rows.stop))
        return self.backend.asarray(x), self.t[rows, ...]
