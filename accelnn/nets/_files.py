"""Nets on disk."""

import os
from typing import Any

import numpy as np

from accelnn import checkpoint
from accelnn._shown import shown
from accelnn._typing import DTypeName
from accelnn._validation import check_dtype
from accelnn.backends import BackendLike, NetSpec, get_backend
from accelnn.checkpoint import DTYPES, Tensor
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
# The longest header of a net's file, in bytes: that of some twenty thousand layers. What it says is
# then read in a second at most, whoever wrote it.
LARGEST_HEADER = 1 << 22

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
    checkpoint.write(path, arrays, KEY, architecture_of(net), most=LARGEST_HEADER)


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
    OSError
        If there is no such file, it is a folder, a FIFO, a device or a socket, or cannot be read.
    ValueError
        If it is damaged, or describes no net of accelnn. What a file says is checked before memory
        is taken for what it holds.

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
    with checkpoint.opened(path, KEY, most=LARGEST_HEADER) as stored:
        chosen = get_backend(backend)
        try:
            cls, spec, dtype = _described(stored.description, len(stored.tensors))
        except (KeyError, TypeError, ValueError) as error:
            msg = (
                f"{os.fspath(path)!r} describes no net that can be built here: "
                f"{type(error).__name__}: {error!s:.300}"
            )
            raise ValueError(msg) from error
        wrong = _difference(spec, dtype, stored.tensors)
        if wrong:
            msg = f"{os.fspath(path)!r} is inconsistent: {wrong}"
            raise ValueError(msg)
        net = rebuild(cls, spec, np.zeros(()), dtype, chosen)
        with chosen.current():
            for name, live in net.params.items():
                # Straight into the net's memory, if that is NumPy's.
                is_host = type(live) is np.ndarray
                array = live if is_host else np.empty(stored.tensors[name].shape, dtype)
                stored.read_into(name, array)
                if not is_host:
                    live[...] = chosen.asarray(array)
        return net


def _described(architecture: Any, arrays: int) -> tuple[type[Net], NetSpec, DTypeName]:
    """Return the class, architecture and dtype that a file with so many arrays describes."""
    if architecture["format"] != FORMAT:
        msg = f"its format is {architecture['format']!r}, and this version reads {FORMAT}"
        raise ValueError(msg)
    kind, sizes = architecture["net"], architecture["sizes"]
    activation, loss = architecture["activation"], architecture["loss"]
    if not isinstance(kind, str) or kind not in NETS:
        msg = f"unknown net {kind!r}; known nets are {', '.join(map(repr, NETS))}"
        raise ValueError(msg)
    cls, layers = NETS[kind]
    if isinstance(sizes, list) and len(sizes) > 1 + arrays:
        # Before a million of them are looked at.
        msg = f"{len(sizes):,} sizes need more than its {arrays:,} arrays"
        raise ValueError(msg)
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


def _difference(spec: NetSpec, dtype: DTypeName, found: dict[str, Tensor]) -> str:
    """Return in what the arrays of a file are not those of an architecture, or nothing."""
    names = {str(known): name for name, known in DTYPES.items()}
    wanted = {p.name: (names[dtype], p.shape) for p in spec.parameters}
    for name in wanted | found:
        should, tensor = wanted.get(name), found.get(name)
        if tensor is None or should != tensor[:2]:
            described = [
                f"of dtype {shown(one[0])} and shape {one[1]!s:.80}" if one else "missing"
                for one in (should, tensor)
            ]
            return f"{shown(name)} is {described[1]}, and in its architecture {described[0]}"
    return ""
