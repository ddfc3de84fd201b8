"""From the caller's arrays to a data set that a net can be trained on."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from accelnn._tables import plain
from accelnn._typing import Array, ArrayLike, DTypeLike
from accelnn._validation import (
    ROWS,
    as_array,
    as_floating,
    as_weights,
    check_dtype,
    check_entries,
    check_finite,
    flatten_hint,
    is_finite,
)
from accelnn.backends import (
    Backend,
    BackendLike,
    Dataset,
    MemoryFor,
    SparseRows,
    dtype_name,
    get_backend,
    is_sparse,
    resolve,
)
from accelnn.errors import BackendMismatchError
from accelnn.nets import Net
from accelnn.training._streams import StreamedDataset

__all__ = ["dataset_for", "prepare", "validation_for", "weights_for"]

logger = logging.getLogger("accelnn")


def prepare(
    x: ArrayLike,
    t: ArrayLike,
    *,
    backend: BackendLike | None = None,
    dtype: DTypeLike = "float32",
    stream: bool = False,
) -> Dataset:
    """Check a data set and bring it to where and how a backend trains on it fastest.

    `fit` does this itself; do it once beforehand to train several nets on the same data. This
    moves host data to the backend's device, the one place besides `fit` where that happens.

    Parameters
    ----------
    x : array_like of shape (n, inputs)
        Samples: an array, a table of pandas, polars or Arrow, or a matrix of scipy.sparse, which is
        never made dense as a whole.
    t : array_like
        Integer class labels of shape (n,), or targets of shape (n, outputs).
    backend : str, Backend or subclass, optional
        Where to; see `accelnn.get_backend`.
    dtype : {"float32", "float64"}, default "float32"
        That of the nets to be trained.
    stream : bool, default False
        Leave samples and targets where they are, such as in a file larger than memory, and read
        rows when they are needed: those of a batch, or for small batches of several. They are
        checked then. `x` and `t` are `numpy.memmap`, or anything else with a shape that can be
        indexed with slices and increasing row numbers; whoever changes them meanwhile changes the
        data set.

    Returns
    -------
    Dataset
        For `fit`, in the place of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no samples, or a value is not finite.
    accelnn.errors.OutOfMemoryError
        If there is no memory for so many samples.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), _ = accelnn.load_mnist(subset="5k")
    >>> data = accelnn.prepare(x, t)
    >>> data.size, data.dtype
    (4000, 'float32')
    """
    backend = resolve(backend, x, t) if not stream else resolve(backend)
    x, t = plain(x, "x"), plain(t, "t")
    if stream:
        return StreamedDataset.of(x, t, backend, check_dtype(dtype))
    with backend.current():
        return _prepared(backend, x, t, check_dtype(dtype), "x", "t", copy=True)


def validation_for(net: Net, validation: tuple[ArrayLike, ArrayLike] | Dataset) -> Dataset:
    """Return the test data that `fit` was given, ready for the net."""
    if isinstance(validation, Dataset):
        return dataset_for(net, validation, None, "validation x", "validation t")
    if not isinstance(validation, tuple | list) or len(validation) != 2:  # noqa: PLR2004 - x and t
        got = f"got {type(validation).__name__}"
        if isinstance(validation, tuple | list):
            got += f" of length {len(validation)}"
        msg = f"validation must be a tuple (x, t), or what prepare(x, t) returns; {got}"
        raise TypeError(msg)
    return dataset_for(net, *validation, "validation x", "validation t")


def dataset_for(
    net: Net, x: ArrayLike | Dataset, t: ArrayLike | None, x_name: str, t_name: str
) -> Dataset:
    """Return a data set that fits the net, prepared here unless it already is."""
    if not isinstance(x, Dataset):
        if t is None:
            msg = (
                f"{t_name} is missing; only a data set made by prepare() comes without it, or "
                f"batches from an iterator, such as fit(net, lambda: iter(batches), epochs=10)"
            )
            raise TypeError(msg)
        t = plain(t, t_name)
        if net.spec.takes_numbers:
            t = column_of(net.backend, t, t_name)
        # It is used while the caller waits.
        samples = plain(x, x_name)
        x = _prepared(net.backend, samples, t, net.dtype, x_name, t_name, copy=False)
    elif t is not None:
        msg = "t must be left out when x is a data set made by prepare(), which holds it"
        raise TypeError(msg)
    _check_fits(net, x, x_name, t_name)
    return x


def weights_for(net: Net, sample_weight: ArrayLike, n: int) -> Array:
    """Return the weights of `n` samples on the net's device, which the caller cannot change."""
    sample_weight = plain(sample_weight, "sample_weight")
    home = _home(net.backend, sample_weight, "sample_weight")
    weights = as_weights(home, sample_weight, n, net.dtype)
    return _moved(net.backend, home, weights, sample_weight, "sample_weight")


def column_of(backend: Backend, t: ArrayLike, name: str) -> ArrayLike:
    """Return targets of shape (n,) with an axis of one output."""
    home = _home(backend, t, name)
    array: Any = t if home.owns(t) else np.asarray(t)
    return array[:, None] if array.ndim == 1 else t


def _prepared(
    backend: Backend,
    x: ArrayLike,
    t: ArrayLike,
    dtype: str,
    x_name: str,
    t_name: str,
    *,
    copy: bool,
) -> Dataset:
    """Check a data set, each array where it is, and move it under the names the caller knows."""
    x_home, t_home = _home(backend, x, x_name), _home(backend, t, t_name)
    samples = SparseRows.of(x, x_name) if is_sparse(x) else as_array(x_home, x, x_name)
    targets = as_array(t_home, t, t_name)
    if len(samples.shape) != ROWS or samples.shape[0] == 0:
        msg = f"{x_name} has shape {tuple(samples.shape)}; expected (n, inputs) with n > 0"
        msg += flatten_hint(tuple(samples.shape))
        raise ValueError(msg)
    labels = t_home.xp.isdtype(targets.dtype, "integral") and targets.ndim == 1
    if targets.shape[:1] != samples.shape[:1] or not (labels or targets.ndim == ROWS):
        n = samples.shape[0]
        msg = (
            f"{t_name} has shape {tuple(targets.shape)} and dtype {dtype_name(targets.dtype)}, "
            f"which does not fit {x_name} of shape {tuple(samples.shape)}: pass integer class "
            f"labels of shape ({n},), or targets of shape ({n}, outputs)"
        )
        if tuple(targets.shape) == (n,):
            msg += "; for a single output t[:, None], for labels t.astype(int)"
        raise ValueError(msg)
    with _memory_for(backend, samples, x_name, dtype):
        at_home = x_home is backend
        if isinstance(samples, SparseRows):
            samples = _finite_rows(samples, x_name, dtype)
        else:
            cast = not (at_home and getattr(backend.prepare, "casts_samples", False))
            samples = _finite(x_home, samples, x_name, dtype, cast=cast)
        if not labels:
            targets = _finite(t_home, targets, t_name, dtype)
        if isinstance(samples, SparseRows):
            return backend.prepare_sparse(
                samples, _moved(backend, t_home, targets, t, t_name), dtype
            )
        return backend.prepare(
            samples if at_home else _moved(backend, x_home, samples, x, x_name),
            _moved(backend, t_home, targets, t, t_name),
            dtype,
            # A backend that packs the samples needs no copy of them.
            copy=copy and at_home and _shared(samples, x),
        )


def _memory_for(backend: Backend, samples: Array, name: str, dtype: str) -> MemoryFor:
    shape = tuple(samples.shape)
    is_rows = isinstance(samples, SparseRows)
    size = (samples.values.size if is_rows else math.prod(shape)) * np.dtype(dtype).itemsize

    def needs() -> str:
        return f"{name} of shape {shape} takes {size:,} bytes in {dtype}"

    return MemoryFor(backend, needs, "Pass fewer samples")


def _home(backend: Backend, a: ArrayLike, name: str) -> Backend:
    """Return where `a` is: arrays in host memory are checked there, before they are moved."""
    if not isinstance(a, np.ndarray):
        backend.check_owned(a, name)
    return backend if backend.owns(a) else get_backend("numpy")


def _finite(home: Backend, a: Array, name: str, dtype: str, *, cast: bool = True) -> Array:
    """Return `a`, in `dtype` unless it is to be cast later, or raise ValueError if not finite."""
    check_finite(home, a, name)
    with np.errstate(over="ignore"):
        found = as_floating(home, a, name, dtype) if cast else a
        is_within = dtype_name(a.dtype) == dtype or is_finite(home, found, dtype)
    if not is_within:
        msg = f"{name} holds numbers beyond the range of {dtype}; scale it, or use a float64 net"
        raise ValueError(msg)
    return found


def _finite_rows(rows: SparseRows, name: str, dtype: str) -> SparseRows:
    """Return sparse samples in `dtype`, sharing no memory with what the caller may change."""
    check_entries(rows, name)
    values = _finite(get_backend("numpy"), rows.values, name, dtype)
    return rows.with_values(values.copy() if values is rows.values else values)


def _moved(backend: Backend, home: Backend, a: Array, given: ArrayLike, name: str) -> Array:
    """Return `a` on the backend, sharing no memory with what the caller may change."""
    if _shared(a, given):
        a = home.xp.asarray(a, copy=True)
    if home is backend:
        return a
    logger.info("moving %s, %d bytes, to %s", name, a.nbytes, backend.device)
    return backend.asarray(a)


def _shared(a: Array, given: ArrayLike) -> bool:
    return a is given or (isinstance(given, np.ndarray) and np.may_share_memory(a, given))


def _check_fits(net: Net, data: Dataset, x_name: str, t_name: str) -> None:
    n_in, is_read = net.spec.sizes[0], isinstance(data, StreamedDataset)
    if not net.backend.shares_data_with(data.backend) or data.dtype != net.dtype:
        msg = (
            f"the data set was prepared for {data.backend.address!r} in {data.dtype}, and the net "
            f"is on {net.backend.address!r} in {net.dtype}: call prepare(x, t, "
            f"backend=net.backend, dtype={net.dtype!r}{', stream=True' if is_read else ''})"
        )
        raise BackendMismatchError(msg)
    if data.inputs != n_in:
        msg = f"{x_name} has {data.inputs} inputs per sample, and this net takes {n_in}"
        raise ValueError(msg)
    if net.spec.takes_numbers and not net.spec.loss.classifies and data.t.ndim == 1 and not is_read:
        msg = (
            f"{t_name} was prepared as class labels, and this net's loss "
            f"{net.spec.loss.name!r} takes numbers: call prepare(x, t[:, None])"
        )
        raise ValueError(msg)
    if not is_read:
        net.check_targets(data.t, data.size, t_name)
