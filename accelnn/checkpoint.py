"""Nets on disk, as safetensors: arrays and plain-text metadata, never pickled code."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from accelnn._optional import import_optional
from accelnn.backends import NetSpec, get_backend
from accelnn.backends._resolve import BackendLike
from accelnn.losses import LOSSES
from accelnn.nets import MLP, Net, SimpleNet, TwoLayerNet

__all__ = ["load", "save"]

FORMAT = "accelnn-net-1"
NETS: dict[str, type[Net]] = {cls.__name__: cls for cls in (MLP, TwoLayerNet, SimpleNet)}


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
        "net": type(net).__name__,
        "sizes": list(net.spec.sizes),
        "activation": net.spec.activation,
        "loss": net.spec.loss.name,
        "bias": net.spec.bias,
        "dtype": net.dtype,
    }
    metadata = {"format": FORMAT, "architecture": json.dumps(architecture)}
    arrays = {k: np.ascontiguousarray(net.backend.to_numpy(v)) for k, v in net.params.items()}
    _write_atomically(Path(path), safetensors.save(arrays, metadata))


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
        If it is damaged, or no net of accelnn.
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
    if metadata.get("format") != FORMAT:
        msg = (
            f"{os.fspath(path)!r} holds no net of accelnn: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}"
        )
        raise ValueError(msg)
    return _rebuild(json.loads(metadata["architecture"]), arrays, path, backend)


def _rebuild(
    architecture: dict[str, Any],
    arrays: dict[str, np.ndarray],
    path: str | os.PathLike[str],
    backend: BackendLike | None,
) -> Net:
    spec = NetSpec(
        tuple(architecture["sizes"]),
        architecture["activation"],
        LOSSES[architecture["loss"]],
        architecture["bias"],
    )
    expected = {p.name: p.shape for p in spec.parameters}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        msg = (
            f"{os.fspath(path)!r} is inconsistent: its architecture has the parameters {expected}, "
            f"and it holds {found}"
        )
        raise ValueError(msg)
    flat = np.concatenate([arrays[name].ravel() for name in expected])
    net = object.__new__(NETS[architecture["net"]])
    Net.__init__(net, spec, flat, architecture["dtype"], get_backend(backend))
    return net


def _write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename, so that `path` is the old file or the new one, never half."""
    handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a saved net is an ordinary one.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
