"""Data sets of the benchmarks."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accelnn.datasets import load_mnist

__all__ = ["DESCRIPTIONS", "SEED", "Data", "digits", "load"]

SEED = 0
DESCRIPTIONS = {
    "mnist": "the full MNIST, 60,000 training and 10,000 test images",
    "5k": "the shipped part of MNIST, 4,000 training and 1,000 test images",
    "gaussian": "standard normal features without zeros, 60,000 and 10,000 samples of 784",
}


class Data(NamedTuple):
    """Training and test samples, and their classes."""

    x: np.ndarray
    t: np.ndarray
    x_test: np.ndarray
    t_test: np.ndarray


def digits() -> str:
    """Return ``"mnist"`` if the full data set is on this machine, else ``"5k"``.

    Raises
    ------
    accelnn.errors.DatasetError
        If ``ACCELNN_DATA_DIR`` names a folder that does not hold it.
    """
    if os.environ.get("ACCELNN_DATA_DIR"):
        # Read here, so that an error is reported once and not by every contestant.
        load_mnist()
        return "mnist"
    try:
        import pooch
    except ImportError:
        return "5k"
    from accelnn.datasets._download import MNIST_SHA256

    folder = Path(pooch.os_cache("accelnn")) / "mnist"
    return "mnist" if all((folder / name).is_file() for name in MNIST_SHA256) else "5k"


def load(name: str, dtype: str, batch: int = 1) -> Data:
    """Load a data set, with as many training samples as fill whole batches."""
    (x, t), (x_test, t_test) = _gaussian() if name == "gaussian" else _mnist(name)
    whole = max(batch, len(x) // batch * batch)
    cast, cast_test = (a.astype(dtype, copy=False) for a in (x[:whole], x_test))
    return Data(cast, t[:whole], cast_test, t_test)


def _mnist(name: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return load_mnist(subset="5k" if name == "5k" else None)


def _gaussian() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(SEED)
    x = draw.standard_normal((70_000, 784), dtype=np.float32)
    t = np.argmax(x @ draw.standard_normal((784, 10), dtype=np.float32), axis=1)
    return (x[:60_000], t[:60_000]), (x[60_000:], t[60_000:])
