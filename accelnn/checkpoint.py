"""Nets on disk, as safetensors: arrays and plain-text metadata, never pickled code."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from accelnn._optional import import_optional
from accelnn.backends import Backend, get_backend
from accelnn.backends._resolve import BackendLike
from accelnn.losses import LOSSES
from accelnn.nets import MLP, Net, SimpleNet, TwoLayerNet

__all__ = ["load", "save"]

# One entry, because safetensors writes several in random order: the same net, the same bytes.
KEY = "accelnn_net"
FORMAT = 1
NETS = ("MLP", "TwoLayerNet", "SimpleNet")


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Write a net; this is `Net.save`."""
    safetensors = import_optional("safetensors.numpy", feature="Saving a net", extra="save")
    if net.spec.loss.name not in LOSSES or type(net).__name__ not in NETS:
        msg = (
            f"only the nets {', '.join(NETS)} with the losses {', '.join(LOSSES)} can be saved; "
            f"this is a {type(net).__name__} with the loss {net.spec.loss.name!r}"
        )
        raise TypeError(msg)
    architecture = {
        "format": FORMAT,
        "net": type(net).__name__,
        "sizes": list(net.spec.sizes),
        "activation": net.spec.activation,
        "loss": net.spec.loss.name,
        "dtype": net.dtype,
    }
    arrays = {k: np.ascontiguousarray(net.backend.to_numpy(v)) for k, v in net.params.items()}
    _write_atomically(Path(path), safetensors.save(arrays, {KEY: json.dumps(architecture)}))


def load(path: str | os.PathLike[str], *, backend: BackendLike | None = None) -> Net:
    """Read a net that `Net.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    backend : str, Backend or subclass, optional
        Where the net is to compute; see `accelnn.get_backend`. It need not be where it was saved.

    Returns
    -------
    MLP, TwoLayerNet or SimpleNet
        With the saved architecture, dtype and parameters.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or describes no net of accelnn.
    accelnn.errors.MissingDependencyError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile, pathlib, accelnn
    >>> net = accelnn.MLP([4, 3, 2], rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "net.safetensors")
    ...     net.save(path)
    ...     accelnn.load(path)
    <MLP 4-3-2, sigmoid, cross_entropy, float32, 23 parameters on numpy>
    """
    safetensors = import_optional("safetensors", feature="Loading a net", extra="save")
    if not Path(path).is_file():
        msg = f"there is no file {os.fspath(path)!r}"
        raise FileNotFoundError(msg)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except safetensors.SafetensorError as error:
        msg = f"{os.fspath(path)!r} is damaged or no safetensors file: {error}"
        raise ValueError(msg) from error
    if KEY not in metadata:
        msg = f"{os.fspath(path)!r} holds no net of accelnn: its metadata has no entry {KEY!r}"
        raise ValueError(msg)
    chosen = get_backend(backend)
    try:
        net = _build(json.loads(metadata[KEY]), chosen)
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"{os.fspath(path)!r} describes no net that can be built here: "
            f"{type(error).__name__}: {error}"
        )
        raise ValueError(msg) from error
    expected = {p.name: (p.shape, net.dtype) for p in net.spec.parameters}
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if expected != found:
        msg = (
            f"{os.fspath(path)!r} is inconsistent: its architecture has the parameters {expected}, "
            f"and it holds {found}"
        )
        raise ValueError(msg)
    for name, array in arrays.items():
        net.params[name] = chosen.asarray(array)
    return net


def _build(architecture: dict[str, Any], backend: Backend) -> Net:
    """Make a net of that architecture; its constructor checks what the file says."""
    if architecture["format"] != FORMAT:
        msg = f"its format is {architecture['format']!r}, and this version reads {FORMAT}"
        raise ValueError(msg)
    kind, sizes = architecture["net"], architecture["sizes"]
    options = {"dtype": architecture["dtype"], "rng": 0, "backend": backend}
    if kind == "SimpleNet":
        return SimpleNet(*sizes, **options)
    options |= {"activation": architecture["activation"], "loss": architecture["loss"]}
    if kind == "TwoLayerNet":
        return TwoLayerNet(*sizes, **options)
    if kind == "MLP":
        return MLP(sizes, **options)
    msg = f"unknown net {kind!r}; known nets are {', '.join(map(repr, NETS))}"
    raise ValueError(msg)


def _write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename, so that `path` is the old file or the new one, never half."""
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
