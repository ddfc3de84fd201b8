"""Data sets in the layout of the compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accelnn.backends._arrays import slices
from accelnn.backends._sparse import SparseRows
from accelnn.backends._training import Dataset
from accelnn.backends.numba.kernels.arguments import Data
from accelnn.backends.numba.kernels.nonzeros import (
    QUADS_BELOW,
    copy_nonzeros,
    count_nonzeros,
)
from accelnn.backends.numba.kernels.quads import copy_quads, encode_quads
from accelnn.backends.numba.team import Team
from accelnn.backends.numba.vectors import QUAD

if TYPE_CHECKING:
    from accelnn.backends._base import Backend
    from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["PackedDataset", "kernel_array", "kernel_data", "pack_dataset", "pack_rows"]

# Density below which sparse products are faster than dense ones: with random data an update of
# 784-50-10 took as long either way at about 0.4, in both dtypes.
SPARSE_BELOW = 0.3
# Non-zeros per quad above which quads are faster than single numbers: with random groups of them an
# update of 784-50-10 took as long either way at 2.1, in AVX2 and AVX-512, of wider nets at less.
PER_QUAD = 2.0
# Numbers that bytes were divided by: pixels, pixels as they are, grey levels of fewer bits.
DIVISORS = (255.0, 1.0, 256.0, 16.0)
# The most inputs whose lists of quads stay in cache.
QUAD_INPUTS = 4_096
# Samples, spread over the data set, whose density is estimated first, so that dense data costs
# little.
PROBE = 1_000
# Numbers of samples that are cast, or laid out, at a time.
PIECE = 1 << 20

# What a data set has none of.
NO_LABELS, NO_COLUMNS, NO_WEIGHTS = np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(0)
NO_CODES = np.zeros(0, np.uint32)
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
            dense = np.divide(dense, data.values[0], dtype=data.values.dtype)
        return dense.reshape(len(dense), math.prod(dense.shape[1:]))[:, : self.inputs]


def pack_dataset(
    backend: NumbaBackend, x: np.ndarray, t: np.ndarray, dtype: str, *, copy: bool
) -> PackedDataset:
    """Store the samples, of any real dtype, sparse if that is faster, else dense."""
    found = _nonzeros(x, np.dtype(dtype), backend.team)
    if found is not None:
        data = kernel_data(np.zeros((0, x.shape[1]), dtype), t, found)
    else:
        data = kernel_data(x.astype(dtype, order="C", copy=copy), t)
    return PackedDataset(data, x.shape[1], t, backend, dtype)


def pack_rows(backend: NumbaBackend, rows: SparseRows, t: np.ndarray, dtype: str) -> PackedDataset:
    """Store samples of which only the non-zeros are given, dense if they are most of them."""
    is_first = _are_first_of_quads(rows)
    form = _form(rows.shape, rows.values.size, int(np.count_nonzero(is_first)))
    if form == "dense":
        data = kernel_data(rows.all_dense(), t)
    else:
        columns = rows.columns.astype(np.uint32, copy=False)
        found = _Nonzeros(False, rows.starts, columns, rows.values)  # noqa: FBT003 - no quads
        if form == "quads":
            found = _quads_of(rows, is_first, backend.team)
        data = kernel_data(np.zeros((0, rows.inputs), dtype), t, found)
    return PackedDataset(data, rows.inputs, t, backend, dtype)


def kernel_data(x: np.ndarray, t: np.ndarray, nonzeros: _Nonzeros | None = None) -> Data:
    """Return samples and targets in the layout that kernels read; targets may be empty."""
    found = nonzeros or _Nonzeros(False, NO_LABELS, NO_COLUMNS, NOTHING[x.dtype])  # noqa: FBT003
    return Data(
        nonzeros is not None,
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


class _Nonzeros(NamedTuple):
    """What is stored of sparse samples: `Data` says what these are."""

    quads: bool
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    codes: np.ndarray = NO_CODES


def _form(shape: tuple[int, ...], nonzeros: int, quads: int) -> str:
    """Return how to store samples that have so many non-zeros, in so many quads."""
    samples, inputs = shape
    most = QUADS_BELOW * samples * -(-inputs // QUAD)
    if inputs <= QUAD_INPUTS and nonzeros > PER_QUAD * quads and quads <= most:
        return "quads"
    return "nonzeros" if nonzeros <= SPARSE_BELOW * (samples * inputs) else "dense"


def _nonzeros(x: np.ndarray, dtype: np.dtype, team: Team) -> _Nonzeros | None:
    """Return the non-zeros of all rows, or None if `x` is better dense."""
    rows, inputs = x.shape
    probe = x[:: -(-rows // PROBE)]
    if _form(probe.shape, *map(np.sum, _counts(probe, dtype, team))) == "dense":
        return None
    counts, quads = _counts(x, dtype, team)
    form = _form(x.shape, counts.sum(), quads.sum())
    if form == "dense":
        return None
    starts = np.zeros(rows + 1, np.int64)
    np.cumsum(quads if form == "quads" else counts, out=starts[1:])
    columns = np.empty(starts[-1], np.uint16 if form == "quads" else np.uint32)
    if form == "quads":
        for divisor in DIVISORS:
            codes = _codes(x, starts, columns, dtype.type(divisor), team)
            if codes is not None:
                return _Nonzeros(True, starts, columns, np.array([divisor], dtype), codes)  # noqa: FBT003
    values = np.empty(starts[-1] * (QUAD if form == "quads" else 1), dtype)
    copy = copy_quads if form == "quads" else copy_nonzeros
    for part, flat in _pieces(x, dtype):
        of_part = starts[part.start : part.stop + 1]
        _share(team, copy, flat, inputs, of_part, columns, values)
    return _Nonzeros(form == "quads", starts, columns, values)


def _codes(
    x: np.ndarray, starts: np.ndarray, columns: np.ndarray, divisor: np.floating, team: Team
) -> np.ndarray | None:
    """Return the quads of all rows as bytes, or None if not all are bytes divided by `divisor`."""
    codes, inputs = np.empty(columns.size, np.uint32), x.shape[1]
    for part, flat in _pieces(x, divisor.dtype, most=_rows_of_piece(inputs)):
        of_part = starts[part.start : part.stop + 1]
        quads = slice(of_part[0], of_part[-1])
        values = np.empty(QUAD * (quads.stop - quads.start), divisor.dtype)
        _share(team, copy_quads, flat, inputs, of_part - of_part[0], columns[quads], values)
        if not _encode(values, divisor, codes[quads], team):
            return None
    return codes


def _encode(values: np.ndarray, divisor: np.floating, codes: np.ndarray, team: Team) -> bool:
    """Write quads of values as bytes; return whether they are such, divided by `divisor`."""
    failures = np.zeros(team.size, np.int64)
    _share(team, encode_quads, values, divisor, codes, failures)
    return not failures.any()


def _counts(x: np.ndarray, dtype: np.dtype, team: Team) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of non-zeros of every row, and of its quads."""
    counts, quads = np.zeros(len(x), np.int64), np.zeros(len(x), np.int64)
    for part, flat in _pieces(x, dtype):
        _share(team, count_nonzeros, flat, x.shape[1], counts[part], quads[part])
    return counts, quads


def _are_first_of_quads(rows: SparseRows) -> np.ndarray:
    """Return for each non-zero whether it is the first of its quad."""
    quads = rows.columns // QUAD
    is_first = np.ones(quads.size, bool)
    np.not_equal(quads[1:], quads[:-1], out=is_first[1:])
    is_first[rows.starts[:-1][np.diff(rows.starts) > 0]] = True
    return is_first


def _quads_of(rows: SparseRows, is_first: np.ndarray, team: Team) -> _Nonzeros:
    """Return the quads of all rows."""
    place = np.cumsum(is_first)
    starts = np.append(0, place)[rows.starts]
    values = np.zeros((starts[-1], QUAD), rows.values.dtype)
    values[place - 1, rows.columns % QUAD] = rows.values
    quads = _Nonzeros(True, starts, rows.columns[is_first] // QUAD, values.reshape(-1))  # noqa: FBT003
    codes = np.empty(quads.columns.size, np.uint32)
    for divisor in map(values.dtype.type, DIVISORS):
        if _encode(quads.values, divisor, codes, team):
            return quads._replace(values=np.array([divisor]), codes=codes)
    return quads


def _pieces(
    x: np.ndarray, dtype: np.dtype, most: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield consecutive rows, flattened as a kernel reads them: `most`, or all, if they are so."""
    rows, inputs = x.shape
    as_read = x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned
    for part in slices(rows, (most or rows) if as_read else _rows_of_piece(inputs)):
        yield part, kernel_array(x[part], dtype).reshape(-1)


def _rows_of_piece(inputs: int) -> int:
    return max(1, PIECE // max(1, inputs))


def _share(team: Team, kernel: Callable[..., None], *arguments: Any) -> None:
    team.run(lambda member: kernel(member, *arguments))
