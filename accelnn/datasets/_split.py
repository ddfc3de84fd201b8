"""Shuffled data sets, and their splitting into training and validation parts."""

from numbers import Real
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelnn._remedies import labels_from, labels_of_names
from accelnn._shown import shown
from accelnn._tables import plain
from accelnn.backends import is_sparse

__all__ = ["shuffle_dataset", "train_validation_split"]

_X = TypeVar("_X", bound=np.generic)
_T = TypeVar("_T", bound=np.generic)
_Part: TypeAlias = tuple[NDArray[_X], NDArray[_T]]


@overload
def train_validation_split(
    x: NDArray[_X],
    t: NDArray[_T],
    fraction: float = 0.2,
    rng: int | np.random.Generator | None = None,
) -> tuple[_Part[_X, _T], _Part[_X, _T]]: ...
@overload
def train_validation_split(
    x: ArrayLike,
    t: ArrayLike,
    fraction: float = 0.2,
    rng: int | np.random.Generator | None = None,
) -> tuple[_Part[Any, Any], _Part[Any, Any]]: ...
def train_validation_split(
    x: ArrayLike,
    t: ArrayLike,
    fraction: float = 0.2,
    rng: int | np.random.Generator | None = None,
) -> tuple[_Part[Any, Any], _Part[Any, Any]]:
    """Split samples at random, stratified by class.

    The validation part gets ``round(fraction * N)`` samples, from each class ``fraction`` of its
    samples to within one. At least one sample of every class stays in the training part, even if
    that makes the validation part smaller.

    Parameters
    ----------
    x : array_like, shape (N, ...)
        Samples, one per row; parts of a matrix of scipy.sparse are in its format csr.
    t : array_like, shape (N,) or (N, C)
        Integer labels; or one row per sample, one-hot or a distribution over C >= 2 classes, whose
        largest entry is taken as the class.
    fraction : float, default 0.2
        The fraction of samples for validation, between 0 and 1 exclusive.
    rng : int or numpy.random.Generator, optional
        Seed or generator for the random order; None takes a fresh seed from the operating system.

    Returns
    -------
    (x_train, t_train) : tuple of numpy.ndarray
        The training samples, shuffled, as copies with the dtypes of `x` and `t`.
    (x_validation, t_validation) : tuple of numpy.ndarray
        The validation samples, likewise.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples, `fraction` is out of range or so small that
        the validation part would be empty, or `t` does not hold labels.

    Examples
    --------
    >>> from accelnn.datasets import load_mnist, train_validation_split
    >>> (x, t), _ = load_mnist(subset="5k")
    >>> (x_train, t_train), (x_validation, t_validation) = train_validation_split(x, t, rng=0)
    >>> x_train.shape, x_validation.shape
    ((3200, 784), (800, 784))
    >>> np.bincount(t_validation)
    array([80, 80, 80, 80, 80, 80, 80, 80, 80, 80])
    """
    x, t = _rows(x), np.asarray(plain(t, "t"))
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < fraction < 1:
        msg = f"fraction must lie between 0 and 1, exclusive; it is {shown(fraction)}"
        raise ValueError(msg)
    labels = _labels(t)
    if x.ndim == 0 or x.shape[0] != len(labels):
        msg = f"x and t must hold as many samples: their shapes are {x.shape} and {t.shape}"
        raise ValueError(msg)
    draw = np.random.default_rng(rng)
    order = draw.permutation(len(labels))
    aside = _set_aside(labels[order], fraction)
    if not aside.any():
        msg = (
            f"fraction={fraction!r} of {len(labels)} samples sets none aside, because one sample "
            f"of every class stays to train on, and one of targets without classes; give more "
            f"samples or a larger fraction"
        )
        raise ValueError(msg)
    # Again, because those set aside come first of their class, so that their parts begin with what
    # classes have given when others still had to give.
    train, validation = draw.permutation(order[~aside]), draw.permutation(order[aside])
    return (x[train], t[train]), (x[validation], t[validation])


def shuffle_dataset(
    x: ArrayLike, t: ArrayLike, rng: int | np.random.Generator | None = None
) -> _Part[Any, Any]:
    """Return samples and targets in one random order.

    Parameters
    ----------
    x, t : array_like, shape (N, ...)
        Samples and targets, one per row; a matrix of scipy.sparse comes back in its format csr.
    rng : int or numpy.random.Generator, optional
        Seed or generator; None takes a fresh seed from the operating system.

    Returns
    -------
    (x, t) : tuple of numpy.ndarray
        Shuffled copies.

    Raises
    ------
    ValueError
        If the lengths differ.

    Examples
    --------
    >>> import accelnn
    >>> x, t = accelnn.shuffle_dataset([[0.0], [1.0], [2.0]], [0, 10, 20], rng=0)
    >>> (10 * x[:, 0]).tolist() == t.tolist()
    True
    """
    x, t = _rows(x), np.asarray(plain(t, "t"))
    if x.ndim == 0 or t.ndim == 0 or x.shape[0] != len(t):
        msg = f"x and t must hold as many samples: their shapes are {x.shape} and {t.shape}"
        raise ValueError(msg)
    order = np.random.default_rng(rng).permutation(len(t))
    return x[order], t[order]


def _rows(x: Any) -> NDArray[Any]:
    """Return samples as an array, or as a sparse matrix whose rows can be chosen like one's."""
    rows: NDArray[Any] = x.tocsr() if is_sparse(x) else np.asarray(plain(x, "x"))
    return rows


def _labels(t: NDArray[Any]) -> NDArray[Any]:
    """Return the class of each sample."""
    if t.size == 0:
        msg = f"there are no samples to split: t has the shape {t.shape}"
        raise ValueError(msg)
    if t.ndim == 1 and t.dtype.kind in "iu":
        return t
    if t.ndim == 2 and t.shape[1] > 1 and t.dtype.kind in "biuf":  # noqa: PLR2004 - (N, C)
        classes: NDArray[np.intp] = np.argmax(t, axis=1)
        return classes
    msg = (
        "t must hold integer labels of shape (N,), or one row of numbers to a sample of shape "
        f"(N, C) with C >= 2; it has the dtype {t.dtype} and the shape {t.shape}"
    )
    if t.dtype.kind in "biuf" and t.ndim > 0 and t.size == len(t):
        call = labels_from(t.shape, t.shape[:1], integral=t.dtype.kind in "iu")
        msg += f"; for labels pass {call}; numbers have no classes: split "
        msg += "np.random.default_rng(0).permutation(len(t))"
    elif t.dtype.kind in "OSU":
        msg += labels_of_names("t")
    raise ValueError(msg)


def _set_aside(labels: NDArray[Any], fraction: float) -> NDArray[np.bool_]:
    """Mark the first samples of each class, as many as `fraction` asks for."""
    classes, sizes = np.unique(labels, return_counts=True)
    aside = np.zeros(len(labels), dtype=np.bool_)
    for label, count in zip(classes, _counts(sizes, fraction), strict=True):
        aside[np.flatnonzero(labels == label)[:count]] = True
    return aside


def _counts(sizes: NDArray[np.intp], fraction: float) -> NDArray[np.intp]:
    """Apportion the validation samples to classes of these sizes, by Hamilton's method.

    Every class gets the integer part of its share, and those with the largest remainders one more,
    up to the total. Rounding each class separately would give ten classes of four samples nothing
    at a fraction of 0.1.
    """
    shares = sizes * fraction
    counts: NDArray[np.intp] = np.floor(shares).astype(np.intp)
    missing = round(float(sizes.sum() * fraction)) - int(counts.sum())
    can_give = counts < sizes - 1
    by_remainder = np.argsort(np.where(can_give, counts - shares, np.inf), kind="stable")
    counts[by_remainder[: min(missing, int(can_give.sum()))]] += 1
    return counts
