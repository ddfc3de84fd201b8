"""Reading and writing of IDX, the file format of MNIST.

A file is two zero bytes, a byte for the type, a byte for the number of dimensions, one big-endian
32-bit size for each dimension, and then the values. Only unsigned bytes (type 0x08) are supported.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelnn.errors import DatasetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["read_idx", "write_idx"]

_UNSIGNED_BYTE = 0x08
_MAGIC_BYTES = 4
_SIZE_BYTES = 4
_REMEDY = "Replace the file with a fresh copy"


def read_idx(path: str | os.PathLike[str] | Traversable) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Parameters
    ----------
    path : str, path-like or Traversable
        The file, which may be a resource of a package; decompressed if its name ends in ``.gz``.

    Returns
    -------
    numpy.ndarray of uint8
        The values, in the shape that the file declares.

    Raises
    ------
    DatasetError
        If the file is missing, truncated, too long, corrupted, or not an IDX file of unsigned
        bytes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "values-idx2-ubyte.gz"
    ...     write_idx(path, np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8))
    ...     read_idx(path)
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint8)
    """
    if isinstance(path, str | os.PathLike):
        path = Path(path)
    content = _read_bytes(path)
    shape, start = _parse_header(path, content)
    expected, found = math.prod(shape), len(content) - start
    if found != expected:
        problem = "truncated" if found < expected else "too long"
        msg = (
            f"{path} is {problem}: its header declares the shape {shape}, which takes "
            f"{expected:,} bytes, but {found:,} follow. {_REMEDY}."
        )
        raise DatasetError(msg)
    return _shaped(path, np.frombuffer(content, dtype=np.uint8, offset=start), shape)


def write_idx(path: str | os.PathLike[str], values: NDArray[np.uint8]) -> None:
    """Write an array of unsigned bytes as an IDX file.

    Parameters
    ----------
    path : str or path-like
        The file to write, compressed if its name ends in ``.gz``. The compressed file contains
        neither a time nor a name, so that the same values give the same bytes.
    values : numpy.ndarray of uint8
        The values, with any number of dimensions.

    Raises
    ------
    TypeError
        If `values` are not unsigned bytes.
    """
    path = Path(path)
    if values.dtype != np.uint8:
        msg = f"values must be of dtype uint8, not {values.dtype}"
        raise TypeError(msg)
    magic = bytes((0, 0, _UNSIGNED_BYTE, values.ndim))
    content = magic + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    if path.suffix != ".gz":
        path.write_bytes(content)
        return
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        packed.write(content)


def _read_bytes(path: Traversable) -> bytes:
    if not path.is_file():
        msg = (
            f"{path} is missing: expected an IDX file there, found "
            f"{'a folder' if path.is_dir() else 'nothing'}. Check the path, or put the file there."
        )
        raise DatasetError(msg)
    content = path.read_bytes()
    if not path.name.endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        msg = (
            f"{path} is corrupted: expected a gzip stream because its name ends in .gz, found one "
            f"that cannot be decompressed ({error}). {_REMEDY}, or take the .gz off the name of a "
            "file that is not compressed."
        )
        raise DatasetError(msg) from error


def _parse_header(path: Traversable, content: bytes) -> tuple[tuple[int, ...], int]:
    """Return the shape and the offset of the first value."""
    magic = content[:_MAGIC_BYTES]
    if len(magic) < _MAGIC_BYTES or magic[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        found = magic.hex(" ") or "nothing"
        msg = (
            f"{path} is no IDX file of unsigned bytes: expected it to begin with 00 00 08 and the "
            f"number of dimensions, found {found}. {_REMEDY}; a compressed file must be named .gz."
        )
        raise DatasetError(msg)
    start = _MAGIC_BYTES + _SIZE_BYTES * magic[3]
    if len(content) < start:
        msg = (
            f"{path} is truncated: expected a header of {start} bytes for {magic[3]} dimensions, "
            f"found {len(content)} bytes in all. {_REMEDY}."
        )
        raise DatasetError(msg)
    return struct.unpack_from(f">{magic[3]}I", content, _MAGIC_BYTES), start


def _shaped(path: Traversable, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        # A copy, because a view of the file's bytes is read-only.
        return values.reshape(shape).copy()
    except ValueError as error:
        msg = (
            f"{path} is corrupted: expected a shape that NumPy can hold, found one of {len(shape)} "
            f"dimensions in the header ({error}). {_REMEDY}."
        )
        raise DatasetError(msg) from error
