"""Tables and columns of pandas, polars and Arrow as NumPy arrays, without importing any of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from accelnn._remedies import labels_of_names
from accelnn._shown import shown

__all__ = ["plain"]


class Column(NamedTuple):
    """A column of a table, or one by itself.

    Attributes
    ----------
    name : object
        Its name.
    kind : str
        Its type, as its library writes it.
    dtype : numpy.dtype
        That of its numbers, or of objects.
    size : int
        Number of rows.
    has_missing : bool
        Whether a value is missing.
    values : callable
        Returns the numbers.
    dummies : str
        What makes columns of numbers of categories.
    """

    name: object
    kind: str
    dtype: np.dtype[Any]
    size: int
    has_missing: bool
    values: Callable[[], np.ndarray]
    dummies: str


def plain(x: Any, name: str) -> Any:
    """Return a table of n rows and k columns as an array of shape (n, k), a column as one of (n,).

    Anything else is returned as it is.

    Raises
    ------
    TypeError
        If a column does not hold numbers.
    ValueError
        If a value is missing.
    """
    read = _reader_of(type(x))
    if read is None:
        return x
    found = read(x, name)
    if isinstance(found, Column):
        _check(found, name, name)
        return found.values()
    for column in found:
        _check(column, name, f"column {shown(column.name)} of {name}")
    common = np.result_type(*(column.dtype for column in found)) if found else np.dtype(float)
    # Column by column, as tables are stored: rows are made when numbers are cast to a net's dtype.
    numbers = np.empty((len(found), found[0].size if found else 0), common)
    for row, column in zip(numbers, found, strict=True):
        row[...] = column.values()
    return numbers.T


def _check(column: Column, name: str, place: str) -> None:
    """Raise unless a column holds numbers, and all of them."""
    if column.dtype.kind not in "biuf":
        hint = labels_of_names(name)
        if not hint and column.kind.lower().startswith(("cat", "dict", "enum")):
            hint = f"; categories become columns of 0 and 1 by {column.dummies}"
        msg = f"{place} must hold real numbers, got dtype {column.kind:.80}{hint}"
        raise TypeError(msg)
    if column.has_missing:
        msg = f"{place} has missing values: fill them, or drop their rows, before"
        raise ValueError(msg)


def _pandas_column(x: Any, name: object) -> Column:
    dtype = x.dtype
    kind = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))
    is_number = getattr(dtype, "kind", "O") in "biuf"
    numbers = np.dtype(kind) if is_number else np.dtype(object)
    return Column(
        name,
        str(dtype),
        numbers,
        len(x),
        is_number and bool(x.isna().any()),
        lambda: x.to_numpy(dtype=numbers),
        "pandas.get_dummies",
    )


def _pandas_frame(x: Any, _: str) -> list[Column]:
    return [_pandas_column(column, label) for label, column in x.items()]


def _polars_column(x: Any, name: object) -> Column:
    dtype, kind = x.dtype, np.dtype(object)
    # Categories are part of the type.
    type_name = dtype.base_type().__name__
    is_number = dtype.is_integer() or dtype.is_float() or type_name == "Boolean"
    # NumPy has none of 128 bits.
    if is_number and not type_name.endswith("128"):
        kind = x.head(0).to_numpy().dtype
    return Column(
        name,
        type_name,
        kind,
        len(x),
        x.null_count() > 0,
        x.to_numpy,
        "its method to_dummies",
    )


def _polars_frame(x: Any, _: str) -> list[Column]:
    return [_polars_column(column, column.name) for column in x.get_columns()]


def _lazy_frame(_: Any, name: str) -> list[Column]:
    msg = f"{name} is a polars.LazyFrame, which is not computed yet: pass {name}.collect()"
    raise TypeError(msg)


def _arrow_column(x: Any, name: object) -> Column:
    try:
        kind = np.dtype(x.type.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        kind = np.dtype(object)
    return Column(
        name,
        str(x.type),
        kind,
        len(x),
        x.null_count > 0,
        lambda: x.to_numpy(zero_copy_only=False),
        "its method to_pandas and pandas.get_dummies",
    )


def _arrow_table(x: Any, _: str) -> list[Column]:
    return [
        _arrow_column(column, name) for name, column in zip(x.schema.names, x.columns, strict=True)
    ]


def _arrow_stream(x: Any, name: str) -> list[Column] | Column:
    """Read a table that another library hands over through Arrow."""
    if importlib.util.find_spec("pyarrow") is None:
        msg = f"{name} is a {type(x).__name__}, which pyarrow can read: pip install pyarrow"
        raise TypeError(msg)
    import pyarrow as pa

    return _arrow_table(pa.table(x), name)


# The classes of tables and columns, with what reads them.
READERS: dict[str, Callable[[Any, str], list[Column] | Column]] = {
    "pandas.DataFrame": _pandas_frame,
    "pandas.Series": _pandas_column,
    "pandas.Index": _pandas_column,
    "pandas.ExtensionArray": _pandas_column,
    "polars.DataFrame": _polars_frame,
    "polars.LazyFrame": _lazy_frame,
    "polars.Series": _polars_column,
    "pyarrow.Table": _arrow_table,
    "pyarrow.RecordBatch": _arrow_table,
    "pyarrow.Array": _arrow_column,
    "pyarrow.ChunkedArray": _arrow_column,
}


def _reader_of(kind: type) -> Callable[[Any, str], list[Column] | Column] | None:
    """Return what reads objects of a class, or None if they are no tables."""
    for base in kind.__mro__:
        reader = READERS.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if reader is not None:
            return reader
    return _arrow_stream if hasattr(kind, "__arrow_c_stream__") else None
