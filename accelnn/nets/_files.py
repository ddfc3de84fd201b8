"""Nets on disk."""

import os
from typing import Any

import numpy as np

from accelnn import checkpoint
from accelnn._typing import DTypeName
from accelnn._validation import check_dtype
from accelnn.backends import BackendLike, NetSpec, get_backend
from accelnn.formulas._table import ACTIVATIONS, LOSSES, describe, described
from accelnn.nets._mlp import MLP, TwoLayerNet, mlp_spec
from accelnn.nets._net import Net, rebuild
from accelnn.nets._simple import SimpleNet, simple_spec

__all__ = ["load", "save"]

# How a net is described in a file.
KEY = "accelnn_net"
FORMAT = 1
# What training does with a net beside its computations.
OPTIONS = ("dropout", "label_smoothing")

# name -> class, and number of sizes where it is fixed.
NETS: dict[str, tuple[type[Net], int | None]] = {
    "MLP": (MLP, None),
    "TwoLayerNet": (TwoLayerNet, 3),
    "SimpleNet": (SimpleNet, 2),
}


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Write architecture and parameters to a file; see `Net.save`."""
    to_numpy = net.backend.to_numpy
    arrays = {name: np.ascontiguousarray(to_numpy(array)) for name, array in net.params.items()}
    checkpoint.write(path, arrays, KEY, architecture_of(net))


def architecture_of(net: Net) -> dict[str, Any]:
    """Return what a file says of a net."""
    kind = type(net).__name__
    if kind not in NETS:
        msg = f"only the nets {', '.join(NETS)} can be saved; this is a {kind}"
        raise TypeError(msg)
    spec = net.spec
    named = [describe(formula, ACTIVATIONS) for formula in spec.activations]
    is_plain = all(a == named[0] and isinstance(a, str) for a in named)
    return {
        "format": FORMAT,
        "net": kind,
        "sizes": list(spec.sizes),
        "activation": spec.activation if is_plain else named,
        "loss": describe(spec.loss, LOSSES),
        "dtype": net.dtype,
        # Left out where there is none, as in files of earlier versions.
        **{name: value for name in OPTIONS if (value := getattr(spec, name))},
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
        msg = f"unknown net {kind!r}; known nets are {', '.join(map(repr, NETS))}"
        raise ValueError(msg)
    cls, layers = NETS[kind]
    if layers is not None and len(sizes) != layers:
        msg = f"a {kind} has {layers} sizes, got {sizes}"
        raise ValueError(msg)
    if cls is SimpleNet:
        return cls, simple_spec(*sizes), check_dtype(architecture["dtype"])
    if isinstance(activation, list):
        activation = [described(one, ACTIVATIONS) for one in activation]
    options = {name: architecture.get(name, 0.0) for name in OPTIONS}
    spec = mlp_spec(sizes, activation, described(loss, LOSSES), **options)
    return cls, spec, check_dtype(architecture["dtype"])
