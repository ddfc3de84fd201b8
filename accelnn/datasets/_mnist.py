"""MNIST, in full or the subset that comes with accelnn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from accelnn._shown import shown
from accelnn.datasets._download import MNIST_SHA256, fetch_mnist
from accelnn.datasets._folder import find, folder_of, images_as, labels_as
from accelnn.datasets._idx import read_header, read_idx
from accelnn.errors import DatasetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["load_mnist"]

_SHIPPED = {"5k": "mnist5k"}
_IMAGE_SHAPE = (28, 28)
_CLASSES = 10

_Pixel = TypeVar("_Pixel", bound=np.generic)
_Label = TypeVar("_Label", bound=np.generic)
_Part: TypeAlias = tuple[NDArray[_Pixel], NDArray[_Label]]
_Parts: TypeAlias = tuple[_Part[_Pixel, _Label], _Part[_Pixel, _Label]]


class _Source(TypedDict, total=False):
    subset: Literal["5k"] | None
    data_dir: str | os.PathLike[str] | None
    progress: bool


@overload
def load_mnist(
    normalize: Literal[True] = True,
    flatten: bool = True,
    one_hot_label: Literal[False] = False,
    **source: Unpack[_Source],
) -> _Parts[np.float32, np.int64]: ...
@overload
def load_mnist(
    normalize: Literal[False],
    flatten: bool = True,
    one_hot_label: Literal[False] = False,
    **source: Unpack[_Source],
) -> _Parts[np.uint8, np.int64]: ...
@overload
def load_mnist(
    normalize: Literal[True] = True,
    flatten: bool = True,
    *,
    one_hot_label: Literal[True],
    **source: Unpack[_Source],
) -> _Parts[np.float32, np.float32]: ...
@overload
def load_mnist(
    normalize: Literal[False],
    flatten: bool = True,
    *,
    one_hot_label: Literal[True],
    **source: Unpack[_Source],
) -> _Parts[np.uint8, np.float32]: ...
@overload
def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    **source: Unpack[_Source],
) -> _Parts[Any, Any]: ...
def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    subset: Literal["5k"] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> _Parts[Any, Any]:
    """Load the MNIST images of handwritten digits.

    The full data set has 60,000 training and 10,000 test images. It is read from `data_dir` if
    given, otherwise from the folder in the environment variable ``ACCELNN_DATA_DIR`` if set,
    otherwise from a cache folder, into which it is downloaded the first time (this needs the extra
    ``data``). A given folder is never silently replaced by a download.

    Parameters
    ----------
    normalize : bool, default True
        Scale the pixels to float32 in [0, 1]; False keeps uint8 in [0, 255].
    flatten : bool, default True
        Return each image as a row of 784 pixels; False keeps ``(1, 28, 28)``.
    one_hot_label : bool, default False
        Return each label as a one-hot row of ten float32; False returns int64 in 0..9.
    subset : {"5k"}, optional
        ``"5k"`` loads 5,000 of the training images, which come with accelnn: 400 of each digit
        for training and 100 for testing. It needs neither a network nor another package.
    data_dir : str or path-like, optional
        A folder with the four original files, such as ``train-images-idx3-ubyte`` or
        ``train-images.idx3-ubyte``, compressed (``.gz``) or not. Those of Fashion-MNIST and KMNIST
        have the same names; for EMNIST and other numbers of classes see `load_idx_folder`.
    progress : bool, default False
        Show progress bars if files must be downloaded.

    Returns
    -------
    (x_train, t_train) : tuple of numpy.ndarray
        Training images ``(N, 784)`` or ``(N, 1, 28, 28)``, and labels ``(N,)`` or ``(N, 10)``.
    (x_test, t_test) : tuple of numpy.ndarray
        Test images and labels, of the same form.

    Raises
    ------
    ValueError
        If `subset` is unknown, or given together with `data_dir`.
    DatasetError
        If a file is missing or damaged, images and labels do not match, or the download fails.
    MissingDependencyError
        If no folder is given and pooch, which manages the cache, is not installed.

    Examples
    --------
    >>> from accelnn.datasets import load_mnist
    >>> (x_train, t_train), (x_test, t_test) = load_mnist(subset="5k")
    >>> x_train.shape, x_train.dtype, float(x_train.max())
    ((4000, 784), dtype('float32'), 1.0)
    >>> t_test.shape, t_test.dtype
    ((1000,), dtype('int64'))

    Images for a convolution, and one-hot labels:

    >>> (x_train, t_train), _ = load_mnist(flatten=False, one_hot_label=True, subset="5k")
    >>> x_train.shape, t_train.shape
    ((4000, 1, 28, 28), (4000, 10))
    """
    folder = _choose_folder(subset, data_dir, progress=progress)

    def part(name: str) -> _Part[Any, Any]:
        x, t = _read_part(folder, name)
        return (
            images_as(x, normalize=normalize, flatten=flatten),
            labels_as(t, _CLASSES if one_hot_label else None),
        )

    return part("train"), part("t10k")


def _choose_folder(
    subset: str | None, data_dir: str | os.PathLike[str] | None, *, progress: bool
) -> Traversable:
    if subset is not None:
        return _subset_folder(subset, data_dir)
    if data_dir is not None:
        return _checked_folder(data_dir, "data_dir")
    # An empty variable counts as unset, as is usual in shells.
    if named := os.environ.get("ACCELNN_DATA_DIR"):
        return _checked_folder(named, "ACCELNN_DATA_DIR")
    return fetch_mnist(progress=progress)


def _subset_folder(subset: str, data_dir: str | os.PathLike[str] | None) -> Traversable:
    if subset not in _SHIPPED:
        known = ", ".join(map(repr, _SHIPPED))
        msg = f"unknown subset {shown(subset)}; known are {known}, and None for the full MNIST"
        raise ValueError(msg)
    if data_dir is not None:
        msg = (
            f"subset={shown(subset)} comes with accelnn and is not read from data_dir "
            f"({os.fspath(data_dir)!r}); give one of the two"
        )
        raise ValueError(msg)
    from importlib.resources import files

    return files("accelnn.datasets") / _SHIPPED[subset]


def _checked_folder(named: str | os.PathLike[str], origin: str) -> Path:
    folder = folder_of(named)
    remedy = f"Put the files there, or leave {origin} unset to have them downloaded."
    if not folder.is_dir():
        msg = f"{origin} names {folder}, which is no folder; expected one with MNIST. {remedy}"
        raise DatasetError(msg)
    missing = [name for name in MNIST_SHA256 if find(folder, name) is None]
    if missing:
        msg = f"{origin} names {folder}, which lacks {', '.join(missing)} (as is or .gz). {remedy}"
        raise DatasetError(msg)
    return folder


def _read_part(folder: Traversable, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read and check the images and labels of ``"train"`` or ``"t10k"``."""
    images_name, labels_name = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    paths = [find(folder, name) or folder / name for name in (images_name, labels_name)]
    # Compared before anything is decompressed, which may be a thousand times as long as the files.
    images, labels = map(read_header, paths)
    if {images.dtype, labels.dtype} != {np.dtype(np.uint8)}:
        problem = f"{images_name} and {labels_name} hold no unsigned bytes"
    elif images.shape[1:] != _IMAGE_SHAPE:
        problem = f"{images_name} has the shape {images.shape}, expected (N, 28, 28)"
    elif labels.shape != images.shape[:1]:
        problem = (
            f"{labels_name} has the shape {labels.shape}, expected {images.shape[:1]}: one label "
            f"for each image of {images_name}"
        )
    else:
        x, t = map(read_idx, paths)
        if not np.any(t >= _CLASSES):
            return x, t
        problem = f"{labels_name} holds the label {t.max()}, expected 0 to 9"
    msg = f"the MNIST files in {folder} do not fit: {problem}. Replace them with fresh copies."
    raise DatasetError(msg)
