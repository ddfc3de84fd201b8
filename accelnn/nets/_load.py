"""Nets from disk."""

import os
from typing import Any

from accelnn import checkpoint
from accelnn.backends import Backend, get_backend
from accelnn.backends._resolve import BackendLike
from accelnn.nets._mlp import MLP, TwoLayerNet
from accelnn.nets._net import FORMAT, KEY, SAVED, Net
from accelnn.nets._simple import SimpleNet

__all__ = ["load"]


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
    arrays, architecture = checkpoint.read(path, KEY)
    chosen = get_backend(backend)
    try:
        net = _build(architecture, chosen)
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
    msg = f"unknown net {kind!r}; known nets are {', '.join(map(repr, SAVED))}"
    raise ValueError(msg)
