"""Named arrays on disk, as safetensors: arrays and plain text, never pickled code."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from accelnn._optional import import_optional

__all__ = ["read", "write"]

PathLike = str | os.PathLike[str]


def write(path: PathLike, arrays: dict[str, np.ndarray], key: str, description: object) -> None:
    """Write arrays and their description to one file.

    Parameters
    ----------
    path : path-like
        Written to a temporary file and renamed: an interruption leaves the old file.
    arrays : dict of str to numpy.ndarray
        Contiguous arrays.
    key : str
        The metadata entry that holds the description. There is only one, because safetensors
        writes several in random order, and equal arrays are to give equal bytes.
    description : object
        Any JSON-serialisable object.
    """
    safetensors = import_optional("safetensors.numpy", feature="Saving a net", extra="save")
    _write_atomically(Path(path), safetensors.save(arrays, {key: json.dumps(description)}))


def read(path: PathLike, key: str, kind: str = "net") -> tuple[dict[str, np.ndarray], Any]:
    """Return the arrays and the description that `write` wrote; errors call them by `kind`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or has no description under that key.
    """
    safetensors = import_optional("safetensors", feature="Loading a net", extra="save")
    if not Path(path).is_file():
        msg = f"there is no file {os.fspath(path)!r}"
        raise FileNotFoundError(msg)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except safetensors.SafetensorError as error:
        msg = f"{os.fspath(path)!r} is damaged or no safetensors file: {error}"
        raise ValueError(msg) from error
    if key not in metadata:
        msg = f"{os.fspath(path)!r} holds no {kind} of accelnn: its metadata has no entry {key!r}"
        raise ValueError(msg)
    try:
        return arrays, json.loads(metadata[key])
    except ValueError as error:
        msg = f"{os.fspath(path)!r} describes no {kind} that can be built here: {error}"
        raise ValueError(msg) from error


def _write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file and rename, so that `path` is never half written."""
    path = path.resolve()  # A symbolic link stays one.
    if not path.parent.is_dir():
        msg = f"cannot write {os.fspath(path)!r}: there is no folder {os.fspath(path.parent)!r}"
        raise FileNotFoundError(msg)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
