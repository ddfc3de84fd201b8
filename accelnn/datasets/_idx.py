"""Reading and writing of IDX, the file format of MNIST.

A file is two zero bytes, a byte for the type, a byte for the number of dimensions, one big-endian
32-bit size for each dimension, and then the values, big-endian too.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from accelnn._shown import shown
from accelnn.errors import DatasetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["Header", "read_header", "read_idx", "write_idx"]

# The dtypes of values, by the byte that names them in a file.
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_UNSIGNED_BYTE = 0x08
_MAGIC_BYTES = 4
_SIZE_BYTES = 4
# The most that deflate, the method of gzip, makes of a byte.
_MOST_PER_BYTE = 1032
_CHUNK = 1 << 20
_REMEDY = "Replace the file with a fresh copy"


class Header(NamedTuple):
    """What a file says of its values: their type and shape, and how many bytes say so."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    length: int


def read_idx(path: str | os.PathLike[str] | Traversable) -> NDArray[Any]:
    """Read an IDX file, the format of MNIST and of the data sets that follow it.

    No more is decompressed than the header declares, and no memory is asked for that the file
    cannot fill.

    Parameters
    ----------
    path : str, path-like or Traversable
        The file, which may be a resource of a package; decompressed if its name ends in ``.gz``.

    Returns
    -------
    numpy.ndarray
        The values, in the shape and the type that the file declares: uint8, int8, int16, int32,
        float32 or float64, in the byte order of this machine.

    Raises
    ------
    DatasetError
        If the file is missing, truncated, too long, corrupted, or not an IDX file.
    TypeError
        If `path` is no path.

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
    place = _checked(path)
    with _opened(place) as (content, most, is_packed):
        return _read(place, content, most, is_packed=is_packed)


def read_header(path: Traversable) -> Header:
    """Return what an IDX file says of its values, of which none is decompressed."""
    place = _checked(path)
    with _opened(place) as (content, _, _):
        return _read_header(place, content)


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


def _checked(path: str | os.PathLike[str] | Traversable) -> Traversable:
    """Return the place of a file, if there is one."""
    from importlib.resources.abc import Traversable

    if isinstance(path, str | os.PathLike):
        path = Path(path)
    if not isinstance(path, Traversable):
        msg = (
            f"path must be a str, a path or a resource of a package, got {shown(path)}: call "
            f"read_idx('train-images-idx3-ubyte.gz'), for example"
        )
        raise TypeError(msg)
    if not path.is_file():
        found = "nothing"
        if path.is_dir():
            found = "a folder"
        elif isinstance(path, Path) and path.exists():
            found = "a FIFO, a device or a socket, which is no regular file"
        msg = (
            f"{path} is missing: expected an IDX file there, found {found}. Check the path, or put "
            f"the file there."
        )
        raise DatasetError(msg)
    return path


@contextlib.contextmanager
def _opened(path: Traversable) -> Iterator[tuple[IO[bytes], int, bool]]:
    """Open a file: its content, how many bytes that has at most, and whether it is compressed."""
    is_packed = path.name.endswith(".gz")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        most = file.seek(0, io.SEEK_END) * (_MOST_PER_BYTE if is_packed else 1)
        file.seek(0)
        content = stack.enter_context(gzip.open(file)) if is_packed else file
        try:
            yield cast("IO[bytes]", content), most, is_packed
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            msg = (
                f"{path} is corrupted: expected a gzip stream because its name ends in .gz, found "
                f"one that cannot be decompressed ({error}). {_REMEDY}, or take the .gz off the "
                f"name of a file that is not compressed."
            )
            raise DatasetError(msg) from error


def _read(path: Traversable, content: IO[bytes], most: int, *, is_packed: bool) -> NDArray[Any]:
    """Read a file of at most so many bytes, decompressed."""
    dtype, shape, start = _read_header(path, content)
    expected, found, limit = math.prod(shape) * dtype.itemsize, most - start, ""
    if expected <= found:
        values = _empty(path, shape, dtype)
        filled = _fill(content, values.reshape(-1).view(np.uint8).data)
        # Beyond the end too, because a gzip stream has its checksum there.
        beyond = len(content.read(1))
        if is_packed:
            found, limit = filled + beyond, " or more" if beyond else ""
    else:
        limit = " at most" if is_packed else ""
    if found != expected:
        problem = "truncated" if found < expected else "too long"
        msg = (
            f"{path} is {problem}: its header declares the shape {shape}, which takes "
            f"{expected:,} bytes, but {found:,}{limit} follow. {_REMEDY}."
        )
        raise DatasetError(msg)
    if not dtype.isnative:
        values.byteswap(inplace=True)
    return values.view(dtype.newbyteorder("="))


def _read_header(path: Traversable, content: IO[bytes]) -> Header:
    magic = content.read(_MAGIC_BYTES)
    if len(magic) < _MAGIC_BYTES or magic[:2] != bytes(2) or magic[2] not in _DTYPES:
        found = magic.hex(" ") or "nothing"
        types = ", ".join(f"{number:02x}" for number in _DTYPES)
        msg = (
            f"{path} is no IDX file: expected it to begin with 00 00, a type (one of {types}) and "
            f"the number of dimensions, found {found}. {_REMEDY}; a compressed file must be named "
            f".gz."
        )
        raise DatasetError(msg)
    sizes = content.read(_SIZE_BYTES * magic[3])
    start = _MAGIC_BYTES + _SIZE_BYTES * magic[3]
    if len(sizes) < start - _MAGIC_BYTES:
        msg = (
            f"{path} is truncated: expected a header of {start} bytes for {magic[3]} dimensions, "
            f"found {_MAGIC_BYTES + len(sizes)} bytes in all. {_REMEDY}."
        )
        raise DatasetError(msg)
    return Header(np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes), start)


def _fill(content: IO[bytes], memory: memoryview) -> int:
    """Read until the memory is full, or nothing is left; return how much was read."""
    filled = 0
    while filled < len(memory):
        # A little at a time, because gzip makes a copy.
        part = memory[filled : filled + _CHUNK]
        read = cast("io.BufferedIOBase", content).readinto(part)
        if not read:
            break
        filled += read
    return filled


def _empty(path: Traversable, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return np.empty(shape, dtype)
    except ValueError as error:
        msg = (
            f"{path} is corrupted: expected a shape that NumPy can hold, found one of {len(shape)} "
            f"dimensions in the header ({error}). {_REMEDY}."
        )
        raise DatasetError(msg) from error
