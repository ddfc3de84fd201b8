"""Data sets in the layout of the compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.backends._arrays import slices
from accelnn.backends._sparse import SparseRows, column_type
from accelnn.backends._training import Dataset
from accelnn.backends.numba.kernels.arguments import Data
from accelnn.backends.numba.kernels.nonzeros import copy_nonzeros, count_nonzeros
from accelnn.backends.numba.team import Team

if TYPE_CHECKING:
    from accelnn.backends._base import Backend
    from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["PackedDataset", "kernel_array", "kernel_data", "pack_dataset", "pack_rows"]

# Density below which sparse products are faster than dense ones: with random data an update of
# 784-50-10 took as long either way at about 0.4, in both dtypes.
SPARSE_BELOW = 0.3
# Samples, spread over the data set, whose density is estimated first, so that dense data costs
# little.
PROBE = 1_000
# Numbers of samples that are cast, or laid out, at a time.
PIECE = 1 << 20

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
        form = "non-zeros" if self.kernel_data.sparse else "dense"
        return (
            f"<PackedDataset of {self.size:,} samples with {self.inputs:,} inputs, {form}, "
            f"{self.dtype} on {self.backend.name}>"
        )

    @property
    def x(self) -> np.ndarray:
        """Samples, of shape (n, inputs)."""
        if not self.kernel_data.sparse:
            return self.kernel_data.x.reshape(-1, self.inputs)
        return self._rows.all_dense()

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
        return self._rows.dense(index), t

    @property
    def _rows(self) -> SparseRows:
        data = self.kernel_data
        return SparseRows(data.starts, data.columns, data.values, self.inputs)


def pack_dataset(
    backend: NumbaBackend, x: np.ndarray, t: np.ndarray, dtype: str, *, copy: bool
) -> PackedDataset:
    """Store the samples, of any real dtype, sparse if that is faster, else dense."""
    nonzeros = _nonzeros(x, np.dtype(dtype), backend.team)
    if nonzeros is not None:
        data = kernel_data(np.zeros((0, x.shape[1]), dtype), t, nonzeros)
    else:
        data = kernel_data(x.astype(dtype, order="C", copy=copy), t)
    return PackedDataset(data, x.shape[1], t, backend, dtype)


def pack_rows(backend: NumbaBackend, rows: SparseRows, t: np.ndarray, dtype: str) -> PackedDataset:
    """Store samples of which only the non-zeros are given, dense if they are most of them."""
    if rows.values.size > SPARSE_BELOW * math.prod(rows.shape):
        data = kernel_data(rows.all_dense(), t)
    else:
        nonzeros = rows.starts, rows.columns, rows.values
        data = kernel_data(np.zeros((0, rows.inputs), dtype), t, nonzeros)
    return PackedDataset(data, rows.inputs, t, backend, dtype)


def kernel_data(
    x: np.ndarray,
    t: np.ndarray,
    nonzeros: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Data:
    """Return samples and targets in the layout that kernels read; targets may be empty."""
    starts, columns, values = nonzeros or (NO_LABELS, NO_COLUMNS, NOTHING[x.dtype])
    return Data(
        nonzeros is not None,
        kernel_array(x).reshape(-1),
        starts,
        columns,
        values,
        *_kernel_targets(t, x.dtype),
        NO_WEIGHTS,
    )


def _kernel_targets(t: np.ndarray, dtype: np.dtype) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether targets are labels, the labels, and other targets."""
    if t.dtype.kind in "iu":
        return True, kernel_array(t, np.int64), NOTHING[dtype]
    return False, NO_LABELS, kernel_array(t, dtype).reshape(-1)


def kernel_array(x: np.ndarray, dtype: np.dtype | type | None = None) -> np.ndarray:
    """Return a contiguous, aligned, writable array: the only kind that kernels are compiled for.

    Kernels do not write to their inputs, so a read-only array is wrapped, not copied.
    """
    if type(x) is not np.ndarray or x.dtype != (dtype or x.dtype) or not x.flags.carray:
        x = np.require(np.asarray(x, dtype or x.dtype), requirements=["C", "A"])
        if type(x) is not np.ndarray or not x.flags.writeable:
            return np.asarray(_Writable(x))
    return x


class _Writable:
    """Exposes the memory of a read-only array as writable."""

    def __init__(self, array: np.ndarray) -> None:
        self._keeps_alive = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _nonzeros(
    x: np.ndarray, dtype: np.dtype, team: Team
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return starts, columns and values of the non-zeros of all rows, or None if `x` is dense."""
    rows, inputs = x.shape
    probe = x[:: -(-rows // PROBE)]
    found = sum(
        int(np.count_nonzero(probe[part].astype(dtype, copy=False)))
        for part in slices(len(probe), _rows_of_piece(inputs))
    )
    if found > SPARSE_BELOW * probe.size:
        return None
    starts = np.zeros(rows + 1, np.int64)
    counts = starts[1:]
    for part, flat in _pieces(x, dtype):
        _share(team, count_nonzeros, flat, inputs, counts[part])
    np.cumsum(counts, out=counts)
    if starts[-1] > SPARSE_BELOW * x.size:
        return None
    columns, values = np.empty(starts[-1], column_type(inputs)), np.empty(starts[-1], dtype)
    for part, flat in _pieces(x, dtype):
        of_part = starts[part.start : part.stop + 1]
        _share(team, copy_nonzeros, flat, inputs, of_part, columns, values)
    return starts, columns, values


def _pieces(x: np.ndarray, dtype: np.dtype) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield consecutive rows, flattened as a kernel reads them; all at once if they are so."""
    rows, inputs = x.shape
    as_read = x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned
    for part in slices(rows, rows if as_read else _rows_of_piece(inputs)):
        yield part, kernel_array(x[part], dtype).reshape(-1)


def _rows_of_piece(inputs: int) -> int:
    return max(1, PIECE // max(1, inputs))


def _share(team: Team, kernel: Callable[..., None], *arguments: Any) -> None:
    team.run(lambda member: kernel(member, *arguments))
