"""Named arrays on disk, as safetensors: arrays and plain text, never pickled code.

The files are those of the safetensors package, to the byte. It is not used, because it maps files
into memory: one that another program truncates then ends the interpreter, and what is read takes
its memory twice.
"""

import contextlib
import json
import math
import os
import stat
import sys
from collections.abc import Iterator
from io import FileIO
from typing import Any, NamedTuple, NoReturn

import numpy as np

from accelnn._atomic import replacing
from accelnn._shown import shown

__all__ = ["DTYPES", "LARGEST_HEADER", "Stored", "opened", "read", "write"]

PathLike = str | os.PathLike[str]

# The format's limit, in bytes.
LARGEST_HEADER = 100_000_000
# Bytes of the number before the header that says how long it is.
PREFIX = 8
# The largest number of axes and of bytes of an array of NumPy.
AXES, BYTES = 64, 2**63
# What NumPy has of the format's dtypes. The arrays of later ones come first in a file, which keeps
# all of them aligned.
DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "C64": np.dtype("<c8"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
RANKS = {dtype: rank for rank, dtype in enumerate(DTYPES.values())}


class Tensor(NamedTuple):
    """What a header says of one array: its dtype, its shape, and where in the data it stands."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Stored:
    """An open file of which only the header has been read; see `opened`.

    Attributes
    ----------
    description : object
        What `write` was given.
    tensors : dict of str to Tensor
        The arrays in it. They fill the file without gaps, each with the size of its shape, unless
        NumPy does not have its dtype.
    """

    def __init__(self, file: FileIO, path: str, key: str, kind: str, most: int) -> None:
        self._file = file
        self._path = path
        with _naming(path):
            header, self._data, length = _read_header(file, most)
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict):
                _refuse("its metadata is no object")
        if key not in metadata:
            msg = f"{path!r} holds no {kind} of accelnn: its metadata has no entry {key!r}"
            raise ValueError(msg)
        with _naming(path):
            self.tensors = {name: _tensor(name, entry) for name, entry in header.items()}
            _check_places(self.tensors, length)
        try:
            self.description: Any = _parse(str(metadata[key]))
        except ValueError as error:
            msg = f"{path!r} describes no {kind} that can be built here: {error!s:.300}"
            raise ValueError(msg) from error

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read an array into a contiguous one of its shape and dtype.

        Raises
        ------
        ValueError
            If the file has become shorter.
        """
        self._file.seek(self._data + self.tensors[name].start)
        with _naming(self._path):
            _fill(self._file, out.reshape(-1).view(np.uint8).data)
        if sys.byteorder == "big":
            out.byteswap(inplace=True)


@contextlib.contextmanager
def opened(
    path: PathLike, key: str, kind: str = "net", *, most: int = LARGEST_HEADER
) -> Iterator[Stored]:
    """Open a file that `write` wrote, reading and checking what it says before what it holds.

    Parameters
    ----------
    path : path-like
        The file.
    key : str
        The metadata entry that holds the description.
    kind : str, default "net"
        What errors call it.
    most : int, optional
        How long the header may be, in bytes.

    Raises
    ------
    OSError
        If there is no such file, or it is a folder, a FIFO, a device or a socket.
    TypeError
        If `path` is none.
    ValueError
        If it is damaged, or has no description under that key, or no file can have that path.
    """
    path = _text(path)
    # Before it is opened, because to open a FIFO is to wait for its writer.
    mode = os.stat(path).st_mode  # noqa: PTH116 - no Path is needed
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a FIFO, a device or a socket"
        msg = f"cannot read {path!r}: it is {what}"
        raise (IsADirectoryError if stat.S_ISDIR(mode) else OSError)(msg)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
        yield Stored(file, path, key, kind, most)


def read(path: PathLike, key: str, kind: str = "net") -> tuple[dict[str, np.ndarray], Any]:
    """Return the arrays and the description that `write` wrote; errors call them by `kind`.

    Raises
    ------
    OSError, ValueError
        As `opened` does; and ValueError too if NumPy lacks the dtype of an array.
    """
    arrays = {}
    with opened(path, key, kind) as stored:
        for name, tensor in stored.tensors.items():
            if tensor.dtype not in DTYPES:
                msg = (
                    f"{os.fspath(path)!r} holds {shown(name)} in {shown(tensor.dtype)}, "
                    f"which NumPy does not have"
                )
                raise ValueError(msg)
            arrays[name] = np.empty(tensor.shape, DTYPES[tensor.dtype].newbyteorder("="))
            stored.read_into(name, arrays[name])
        return arrays, stored.description


def write(
    path: PathLike,
    arrays: dict[str, np.ndarray],
    key: str,
    description: object,
    *,
    most: int = LARGEST_HEADER,
) -> None:
    """Write arrays and their description to one file; see `accelnn._atomic.replacing`.

    Parameters
    ----------
    path : path-like
        Written to a temporary file and renamed: an interruption leaves the old file.
    arrays : dict of str to numpy.ndarray
        Those that are contiguous are not copied.
    key : str
        The metadata entry that holds the description. There is only one, as safetensors writes
        several in random order, and equal arrays are to give equal bytes.
    description : object
        Any JSON-serialisable object.
    most : int, optional
        How long the header may be, in bytes.

    Raises
    ------
    TypeError
        If the format has no such dtype, or `path` is none.
    ValueError
        If the header is too long, or no file can have that path.
    """
    path = _text(path)
    header: dict[str, Any] = {"__metadata__": {key: json.dumps(description)}}
    content, names = [], {dtype: name for name, dtype in DTYPES.items()}
    little = {name: array.dtype.newbyteorder("<") for name, array in arrays.items()}
    for name, dtype in little.items():
        if dtype not in names:
            msg = f"a file cannot hold {name!r}, of dtype {dtype}"
            raise TypeError(msg)
    start = 0
    for name in sorted(arrays, key=lambda name: (-RANKS[little[name]], name)):
        array = np.asarray(arrays[name], little[name], order="C")
        stop = start + array.nbytes
        header[name] = {
            "dtype": names[array.dtype],
            "shape": array.shape,
            "data_offsets": (start, stop),
        }
        content.append(array)
        start = stop
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % PREFIX)
    if len(encoded) > most:
        msg = (
            f"cannot write {path!r}: its header would take {len(encoded):,} bytes, of at most "
            f"{most:,}"
        )
        raise ValueError(msg)
    with replacing(path) as file:
        file.write(len(encoded).to_bytes(PREFIX, "little"))
        file.write(encoded)
        for array in content:
            file.write(array.data)


def _text(path: PathLike) -> str:
    """Return a path as text. A number is none: it would be an open file, which is the caller's."""
    text = os.fsdecode(path)
    try:
        is_path = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        msg = f"no file can have the path {text!r:.300}: it has characters that no path has"
        raise ValueError(msg)
    return text


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Name the file in an error."""
    try:
        yield
    except ValueError as error:
        msg = f"{path!r} is damaged or no safetensors file: {error!s:.300}"
        raise ValueError(msg) from error


def _read_header(file: FileIO, most: int) -> tuple[dict[str, Any], int, int]:
    """Return the header, and where the data start and how long they are."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(PREFIX)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < PREFIX or PREFIX + length > size:
        _refuse(f"it ends after {size:,} bytes, within its header")
    if length > most:
        _refuse(f"its header takes {length:,} bytes, of at most {most:,}")
    content = bytearray(length)
    _fill(file, memoryview(content))
    header = _parse(content.decode(), parse_constant=_refuse_constant)
    if not isinstance(header, dict):
        _refuse("its header is no object")
    return header, PREFIX + length, size - PREFIX - length


def _fill(file: FileIO, left: memoryview) -> None:
    """Read until memory is full."""
    while left:
        count = file.readinto(left)
        if not count:
            _refuse("it has become shorter while it was read")
        left = left[count:]


def _parse(text: str, **options: Any) -> Any:
    """Return what JSON says."""
    try:
        return json.loads(text, object_pairs_hook=_unique, **options)
    except RecursionError:
        _refuse("its JSON is nested too deeply")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose names are all different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse("its JSON has a name twice")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    """Return what an entry of the header says of an array, checked."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            pass
        case _:
            _refuse(f"the entry of {shown(name)} has not the form of an array's")
    if len(shape) > AXES or not all(type(size) is int and 0 <= size < BYTES for size in shape):
        _refuse(f"{shown(name)} has not the shape of an array")
    if dtype in DTYPES:
        # Of an empty array too, because NumPy refuses sizes beyond memory beside a zero.
        itemsize = DTYPES[dtype].itemsize
        if math.prod(size or 1 for size in shape) * itemsize >= BYTES:
            _refuse(f"{shown(name)} is larger than any memory")
        if stop - start != math.prod(shape) * itemsize:
            _refuse(f"{shown(name)} has another size than its shape")
    return Tensor(dtype, tuple(shape), start, stop)


def _check_places(tensors: dict[str, Tensor], length: int) -> None:
    """Refuse arrays that overlap, or leave gaps in the data."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if not end == tensor.start <= tensor.stop:
            _refuse(f"{shown(name)} does not start where the array before it ends")
        end = tensor.stop
    if end != length:
        _refuse(f"its arrays take {end:,} bytes, and it holds {length:,}")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no JSON")
