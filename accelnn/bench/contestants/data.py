"""Data sets of the benchmarks."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accelnn.bench._case import Case
from accelnn.bench.contestants.base import Lazy
from accelnn.datasets import load_mnist

__all__ = ["DESCRIPTIONS", "SEED", "Data", "digits", "load"]

datasets: Any = Lazy("sklearn.datasets")
model_selection: Any = Lazy("sklearn.model_selection")
SEED = 0
DESCRIPTIONS = {
    "mnist": "the full MNIST, 60,000 training and 10,000 test images",
    "5k": "the shipped part of MNIST, 4,000 training and 1,000 test images",
    "gaussian": "standard normal features without zeros, 60,000 and 10,000 samples of 784, "
    "as many numbers where samples are wider",
    "8x8": "the digits of scikit-learn, 1,200 training and 450 test images of 8 x 8 pixels",
    "table": "four random classes of scikit-learn's, 75,000 training and 25,000 test samples of 50 "
    "features",
}
GAUSSIAN = (60_000, 10_000)


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


def load(case: Case) -> Data:
    """Load the data of a case, with as many training samples as fill whole batches."""
    if case.data == "gaussian":
        (x, t), (x_test, t_test) = _gaussian(case.sizes[0], case.sizes[-1])
    elif case.data in ("8x8", "table"):
        x, x_test, t, t_test = _of_sklearn(case.data)
    else:
        (x, t), (x_test, t_test) = load_mnist(subset="5k" if case.data == "5k" else None)
    whole = max(case.batch, len(x) // case.batch * case.batch)
    cast, cast_test = (a.astype(case.dtype, copy=False) for a in (x[:whole], x_test))
    return Data(cast, t[:whole], cast_test, t_test)


def _of_sklearn(name: str) -> list[np.ndarray]:
    if name == "8x8":
        x, t = datasets.load_digits(return_X_y=True)
        x = x / 16
    else:
        kind = {"n_informative": 20, "n_classes": 4, "random_state": SEED}
        x, t = datasets.make_classification(100_000, 50, **kind)
    parts: list[np.ndarray] = model_selection.train_test_split(x, t, random_state=SEED)
    return parts


def _gaussian(
    width: int, classes: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    train, test = (n * 784 // max(width, 784) for n in GAUSSIAN)
    draw = np.random.default_rng(SEED)
    x = draw.standard_normal((train + test, width), dtype=np.float32)
    t = np.argmax(x @ draw.standard_normal((width, classes), dtype=np.float32), axis=1)
    return (x[:train], t[:train]), (x[train:], t[train:])
