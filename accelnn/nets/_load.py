"""Nets from disk."""

import os
from typing import Any

import numpy as np

from accelnn import checkpoint
from accelnn._typing import DTypeName
from accelnn._validation import check_dtype
from accelnn.backends import BackendLike, NetSpec, get_backend
from accelnn.formulas._table import ACTIVATIONS, LOSSES, described
from accelnn.nets._mlp import MLP, TwoLayerNet, mlp_spec
from accelnn.nets._net import FORMAT, KEY, SAVED, Net, rebuild
from accelnn.nets._simple import SimpleNet, simple_spec

__all__ = ["load"]

# name -> class, and number of sizes where it is fixed.
NETS: dict[str, tuple[type[Net], int | None]] = {
    "MLP": (MLP, None),
    "TwoLayerNet": (TwoLayerNet, 3),
    "SimpleNet": (SimpleNet, 2),
}


def load(path: str | os.PathLike[str], *, backend: BackendLike | None = None) -> Net:
    """Read a net that `Net.save` wrote.

    For activations and losses of your own, the file names the functions, and loading imports their
    modules: load such files only from sources whose code you would run.

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
        cls, spec, dtype = _described(architecture)
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"{os.fspath(path)!r} describes no net that can be built here: "
            f"{type(error).__name__}: {error}"
        )
        raise ValueError(msg) from error
    expected = {p.name: (p.shape, dtype) for p in spec.parameters}
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if expected != found:
        msg = (
            f"{os.fspath(path)!r} is inconsistent: its architecture has the parameters {expected}, "
            f"and it holds {found}"
        )
        raise ValueError(msg)
    flat = np.concatenate([arrays[name].ravel() for name in expected])
    return rebuild(cls, spec, flat, dtype, chosen)


def _described(architecture: dict[str, Any]) -> tuple[type[Net], NetSpec, DTypeName]:
    """Return the class, architecture and dtype that a file describes, checked."""
    if architecture["format"] != FORMAT:
        msg = f"its format is {architecture['format']!r}, and this version reads {FORMAT}"
        raise ValueError(msg)
    kind, sizes = architecture["net"], architecture["sizes"]
    activation, loss = architecture["activation"], architecture["loss"]
    if not isinstance(kind, str) or kind not in NETS:
        msg = f"unknown net {kind!r}; known nets are {', '.join(map(repr, SAVED))}"
        raise ValueError(msg)
    cls, layers = NETS[kind]
    if layers is not None and len(sizes) != layers:
        msg = f"a {kind} has {layers} sizes, got {sizes}"
        raise ValueError(msg)
    if cls is SimpleNet:
        return cls, simple_spec(*sizes), check_dtype(architecture["dtype"])
    if isinstance(activation, list):
        activation = [described(one, ACTIVATIONS) for one in activation]
    spec = mlp_spec(sizes, activation, described(loss, LOSSES))
    return cls, spec, check_dtype(architecture["dtype"])
