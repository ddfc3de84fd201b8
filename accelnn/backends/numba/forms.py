"""How samples are stored: dense, or their non-zeros, alone or in quads, whatever is fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from accelnn.backends._arrays import slices
from accelnn.backends._sparse import SparseRows, column_type
from accelnn.backends.numba.arrays import kernel_array
from accelnn.backends.numba.kernels.nonzeros import QUADS_BELOW, copy_nonzeros, count_nonzeros
from accelnn.backends.numba.kernels.quads import copy_quads, encode_quads
from accelnn.backends.numba.team import Team
from accelnn.backends.numba.vectors import QUAD

__all__ = ["NO_CODES", "QUAD_INPUTS", "Entries", "entries_of", "entries_of_rows"]

# Density below which sparse products are faster than dense ones: with random data an update of
# 784-50-10 took as long either way at about 0.4, in both dtypes.
SPARSE_BELOW = 0.3
# Non-zeros per quad above which quads are faster than single numbers: with random groups of them an
# update of 784-50-10 took as long either way at 2.1, in AVX2 and AVX-512 on an AMD EPYC (Zen 5), of
# wider nets at less.
PER_QUAD = 2.0
# The most inputs of which quads are stored or listed: a list has room for every sample of a piece.
QUAD_INPUTS = 4_096
# Numbers that bytes were divided by: pixels, pixels as they are, grey levels of fewer bits.
DIVISORS = (255.0, 1.0, 256.0, 16.0)
# Samples, spread over the data set, whose density is estimated first, so that dense data costs
# little.
PROBE = 1_000
# From so many numbers on, several threads read them; one reads fewer before another is awake.
SHARED = 1 << 19
# Numbers of samples that are cast, or laid out, at a time.
PIECE = 1 << 20
# Of samples without codes. Kernels tell single non-zeros from all else by the type.
NO_CODES, NO_CODES_OF_SINGLES = np.zeros(0, np.uint32), np.zeros(0, np.uint8)


class Entries(NamedTuple):
    """What is stored of sparse samples; see `accelnn.backends.numba.kernels.arguments.Data`."""

    quads: bool
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    codes: np.ndarray


class _Code(NamedTuple):
    """How bytes become numbers: they are divided, and perhaps rounded to single precision."""

    divisor: float
    single: bool


def entries_of(x: np.ndarray, dtype: np.dtype, team: Team) -> Entries | None:
    """Return what is stored of samples of any real dtype, or None if they are better dense."""
    rows, inputs = x.shape
    probe = x[:: -(-rows // PROBE)]
    if _form(probe.shape, *map(np.sum, _counts(probe, dtype, team))) == "dense":
        return None
    nonzeros, quads = _counts(x, dtype, team)
    form = _form(x.shape, nonzeros.sum(), quads.sum())
    if form == "dense":
        return None
    starts = np.zeros(rows + 1, np.int64)
    np.cumsum(quads if form == "quads" else nonzeros, out=starts[1:])
    columns = np.empty(starts[-1], column_type(inputs))
    if form == "singles":
        values = np.empty(starts[-1], dtype)
        _copy(copy_nonzeros, x, starts, columns, values, team)
        return _singles(starts, columns, values)
    for code in _codes_of(dtype):
        codes = _encoded(x, starts, columns, dtype, code, team)
        if codes is not None:
            return _encoded_quads(starts, columns, codes, code, dtype)
    values = np.empty(QUAD * starts[-1], dtype)
    _copy(copy_quads, x, starts, columns, values, team)
    return _plain_quads(starts, columns, values)


def entries_of_rows(rows: SparseRows, team: Team) -> Entries | None:
    """Return the same for samples of which only the non-zeros are given."""
    if rows.inputs > QUAD_INPUTS:
        form = _form(rows.shape, rows.values.size, rows.values.size)
    else:
        is_first = _are_first_of_quads(rows)
        form = _form(rows.shape, rows.values.size, int(np.count_nonzero(is_first)))
    if form == "dense":
        return None
    if form == "singles":
        return _singles(rows.starts, rows.columns, rows.values)
    place = np.cumsum(is_first, dtype=np.int64)
    starts = np.append(0, place)[rows.starts]
    columns = (rows.columns[is_first] // QUAD).astype(column_type(rows.inputs), copy=False)
    values = np.zeros((columns.size, QUAD), rows.values.dtype)
    values[place - 1, rows.columns % QUAD] = rows.values
    values = values.reshape(-1)
    codes = np.empty(columns.size, np.uint32)
    for code in _codes_of(values.dtype):
        if _encode(values, code, codes, team):
            return _encoded_quads(starts, columns, codes, code, values.dtype)
    return _plain_quads(starts, columns, values)


def _form(shape: tuple[int, ...], nonzeros: int, quads: int) -> str:
    """Return how to store samples that have so many non-zeros, in so many quads."""
    samples, inputs = shape
    most = QUADS_BELOW * samples * -(-inputs // QUAD)
    if inputs <= QUAD_INPUTS and nonzeros > PER_QUAD * quads and quads <= most:
        return "quads"
    return "singles" if nonzeros <= SPARSE_BELOW * (samples * inputs) else "dense"


def _singles(starts: np.ndarray, columns: np.ndarray, values: np.ndarray) -> Entries:
    return Entries(False, starts, columns, values, NO_CODES_OF_SINGLES)  # noqa: FBT003 - no quads


def _plain_quads(starts: np.ndarray, columns: np.ndarray, values: np.ndarray) -> Entries:
    return Entries(True, starts, columns, values, NO_CODES)  # noqa: FBT003 - quads


def _encoded_quads(
    starts: np.ndarray, columns: np.ndarray, codes: np.ndarray, code: _Code, dtype: np.dtype
) -> Entries:
    return Entries(True, starts, columns, np.array(code, dtype), codes)  # noqa: FBT003 - quads


def _counts(x: np.ndarray, dtype: np.dtype, team: Team) -> tuple[np.ndarray, np.ndarray]:
    """Return how many non-zeros every row has, and how many quads with some."""
    nonzeros, quads = np.zeros(len(x), np.int64), np.zeros(len(x), np.int64)
    for part, flat in _pieces(x, dtype):
        _share(team, count_nonzeros, flat, x.shape[1], nonzeros[part], quads[part])
    return nonzeros, quads


def _copy(
    kernel: Callable[..., None],
    x: np.ndarray,
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    team: Team,
) -> None:
    for part, flat in _pieces(x, values.dtype):
        of_part = starts[part.start : part.stop + 1]
        _share(team, kernel, flat, x.shape[1], of_part, columns, values)


def _codes_of(dtype: np.dtype) -> Iterator[_Code]:
    """Yield the codes that are tried."""
    for divisor in DIVISORS:
        yield _Code(divisor, False)  # noqa: FBT003 - a field
    if dtype == np.float64:
        # Pixels that were divided in single precision.
        yield _Code(DIVISORS[0], True)  # noqa: FBT003


def _encoded(
    x: np.ndarray,
    starts: np.ndarray,
    columns: np.ndarray,
    dtype: np.dtype,
    code: _Code,
    team: Team,
) -> np.ndarray | None:
    """Return the quads of all rows as bytes, and write their columns; None if that cannot be."""
    codes, inputs = np.empty(columns.size, np.uint32), x.shape[1]
    # A few rows at a time, because their values are in memory as well.
    for part, flat in _pieces(x, dtype, most=_rows_of_piece(inputs)):
        of_part = starts[part.start : part.stop + 1]
        quads = slice(of_part[0], of_part[-1])
        values = np.empty(QUAD * (quads.stop - quads.start), dtype)
        _share(team, copy_quads, flat, inputs, of_part - of_part[0], columns[quads], values)
        if not _encode(values, code, codes[quads], team):
            return None
    return codes


def _encode(values: np.ndarray, code: _Code, codes: np.ndarray, team: Team) -> bool:
    """Write quads of values as bytes; return whether the code gives the same values back."""
    failures = np.zeros(team.size, np.int64)
    divisor = values.dtype.type(code.divisor)
    _share(team, encode_quads, values, divisor, code.single, codes, failures)
    return not failures.any()


def _are_first_of_quads(rows: SparseRows) -> np.ndarray:
    """Return for each non-zero whether it is the first of its quad."""
    quads = rows.columns // QUAD
    is_first = np.ones(quads.size, bool)
    np.not_equal(quads[1:], quads[:-1], out=is_first[1:])
    is_first[rows.starts[:-1][np.diff(rows.starts) > 0]] = True
    return is_first


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


def _share(team: Team, kernel: Callable[..., None], numbers: np.ndarray, *others: Any) -> None:
    size = team.size if numbers.size >= SHARED else 1
    team.run(lambda member: kernel(member, numbers, *others), size)
