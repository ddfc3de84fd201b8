"""Folders with images and labels in the files of MNIST, as Fashion-MNIST, KMNIST and EMNIST are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accelnn.datasets._idx import read_header, read_idx
from accelnn.errors import DatasetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["find", "folder_of", "images_as", "labels_as", "load_idx_folder"]

_Part: TypeAlias = tuple[NDArray[Any], NDArray[Any]]

# The parts of a data set, with what files call them.
_PARTS = {"train": ("train",), "test": ("t10k", "test")}
# A file of EMNIST has the name of its split.
_NAME = re.compile(
    r"(?:emnist-(?P<split>\w+)-)?(?P<part>train|t10k|test)-(?P<kind>images|labels)"
    r"[-.]idx[13]-ubyte(?:\.gz)?"
)
# Its letters are counted from 1.
_FIRST_LABEL = {"letters": 1}


def load_idx_folder(
    folder: str | os.PathLike[str],
    split: str | None = None,
    *,
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
) -> tuple[_Part, _Part]:
    """Load images and labels from a folder with the four files of a data set like MNIST.

    The files have the names of MNIST, as those of Fashion-MNIST and KMNIST do, or those of EMNIST.
    Images may have any size, and labels are 0 to K - 1 for any number K of classes.

    Parameters
    ----------
    folder : str or path-like
        A folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``. ``.gz`` may follow, ``.idx`` may
        stand in the place of ``-idx``, and ``test`` in that of ``t10k``. Of EMNIST the files are
        such as ``emnist-letters-train-images-idx3-ubyte.gz``.
    split : str, optional
        Which part of EMNIST, if the folder has several: ``"balanced"`` and ``"bymerge"`` (47
        classes), ``"byclass"`` (62), ``"letters"`` (26), ``"digits"`` or ``"mnist"`` (10). Its
        images, which are stored on their side, are set upright, and its letters counted from 0.
    normalize : bool, default True
        Scale the pixels to float32 in [0, 1]; False keeps uint8 in [0, 255].
    flatten : bool, default True
        Return each image as a row of pixels; False keeps ``(1, height, width)``.
    one_hot_label : bool, default False
        Return each label as a one-hot row of K float32; False returns int64.

    Returns
    -------
    (x_train, t_train) : tuple of numpy.ndarray
        Training images ``(N, pixels)`` or ``(N, 1, height, width)``, and labels ``(N,)`` or
        ``(N, K)``.
    (x_test, t_test) : tuple of numpy.ndarray
        Test images and labels, of the same form.

    Raises
    ------
    DatasetError
        If a file is missing or damaged, there are two for one purpose, or images and labels do not
        match.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), test = accelnn.load_idx_folder("emnist", "letters")  # doctest: +SKIP
    """
    folder = folder_of(folder)
    split, paths = _files_of(folder, split)
    parts = {part: _read(split, paths[part, "images"], paths[part, "labels"]) for part in _PARTS}
    (images, labels), (test_images, test_labels) = parts["train"], parts["test"]
    if images.shape[1:] != test_images.shape[1:]:
        msg = (
            f"the images in {folder} do not fit: those for training have the shape {images.shape}, "
            f"and those for testing {test_images.shape}"
        )
        raise DatasetError(msg)
    classes = None
    if one_hot_label:
        classes = 1 + max(int(t.max(initial=0)) for t in (labels, test_labels))
    train, test = (
        (images_as(x, normalize=normalize, flatten=flatten), labels_as(t, classes))
        for x, t in parts.values()
    )
    return train, test


def folder_of(named: str | os.PathLike[str]) -> Path:
    """Return a folder by its name, in which ``~`` is the home of a user."""
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        msg = f"there is no folder {os.fspath(named)!r}: {error}"
        raise DatasetError(msg) from error


def find(folder: Traversable, name: str) -> Traversable | None:
    """Return the file with one of the usual names, or None."""
    names = [name, name.replace("-idx", ".idx")]
    candidates = (folder / f"{name}{suffix}" for suffix in ("", ".gz") for name in names)
    return next((path for path in candidates if path.is_file()), None)


def images_as(images: NDArray[Any], *, normalize: bool, flatten: bool) -> NDArray[Any]:
    """Return images of unsigned bytes as rows or with a channel, scaled or not."""
    height, width = images.shape[1:]
    images = images.reshape(len(images), *((height * width,) if flatten else (1, height, width)))
    return np.divide(images, 255, dtype=np.float32) if normalize else images


def labels_as(labels: NDArray[Any], classes: int | None) -> NDArray[Any]:
    """Return labels as int64, or as one-hot rows of so many classes."""
    return labels.astype(np.int64) if classes is None else np.eye(classes, dtype=np.float32)[labels]


def _files_of(folder: Path, split: str | None) -> tuple[str | None, dict[tuple[str, str], Path]]:
    """Return the split, and the path of each part's images and labels."""
    if not folder.is_dir():
        msg = f"{folder} is no folder; expected one with images and labels in IDX files"
        raise DatasetError(msg)
    found: dict[str | None, dict[tuple[str, str], list[Path]]] = {}
    part_of = {name: part for part, names in _PARTS.items() for name in names}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            files = found.setdefault(match["split"], {})
            files.setdefault((part_of[match["part"]], match["kind"]), []).append(path)
    if split is None and len(found) == 1:
        split = next(iter(found))
    elif split is None and len(found) > 1:
        splits = ", ".join(repr(name) for name in found if name is not None)
        msg = f"{folder} has several data sets: choose one with split=, such as {splits}"
        raise DatasetError(msg)
    chosen = found.get(split, {})
    purposes = [(part, kind) for part in _PARTS for kind in ("images", "labels")]
    missing = [_usual_name(split, *purpose) for purpose in purposes if purpose not in chosen]
    if missing:
        known = ", ".join(sorted(filter(None, found)))
        hint = f" It has the splits {known}." if known and split not in found else ""
        msg = f"{folder} lacks {', '.join(missing)} (as is or .gz).{hint} Put the files there."
        raise DatasetError(msg)
    for candidates in chosen.values():
        if len(candidates) > 1:
            names = " and ".join(path.name for path in candidates)
            msg = f"{folder} has {names}, of which one is to be read: move the other away"
            raise DatasetError(msg)
    return split, {purpose: paths[0] for purpose, paths in chosen.items()}


def _usual_name(split: str | None, part: str, kind: str) -> str:
    number = 3 if kind == "images" else 1
    name = part if part == "train" or split else "t10k"
    return f"{f'emnist-{split}-' if split else ''}{name}-{kind}-idx{number}-ubyte"


def _read(split: str | None, images_path: Path, labels_path: Path) -> _Part:
    """Read and check the images and labels of one part."""
    # Compared before anything is decompressed, which may be a thousand times as long as the files.
    images, labels = read_header(images_path), read_header(labels_path)
    if len(images.shape) != 3 or images.dtype != np.uint8:  # noqa: PLR2004 - images in a row
        problem = (
            f"{images_path.name} has the shape {images.shape} of {images.dtype.name}, expected "
            f"(N, height, width) of uint8"
        )
    elif labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        problem = (
            f"{labels_path.name} has the shape {labels.shape} of {labels.dtype.name}, expected "
            f"integers of the shape {images.shape[:1]}: one label for each image of "
            f"{images_path.name}"
        )
    else:
        x, t = read_idx(images_path), read_idx(labels_path)
        first = _FIRST_LABEL.get(split or "", 0)
        if t.min(initial=first) >= first:
            return (x.transpose(0, 2, 1) if split else x), t - t.dtype.type(first)
        problem = f"{labels_path.name} holds the label {t.min()}, expected {first} or more"
    msg = f"the files in {images_path.parent} do not fit: {problem}"
    raise DatasetError(msg)
