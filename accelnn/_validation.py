"""Validation of the arguments of public functions."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, cast, get_args

import numpy as np

from accelnn._remedies import (
    bounded_targets,
    labels_from,
    labels_in_range,
    labels_of_names,
    table_of_labels,
)
from accelnn._shown import shown
from accelnn._tables import plain
from accelnn._typing import Array, ArrayLike, DTypeName, Rng
from accelnn.backends import Backend, Dataset, SparseRows, dtype_name, is_floating, is_sparse
from accelnn.backends._arrays import kind_of
from accelnn.formulas._loss import LossFormula

__all__ = [
    "ROWS",
    "as_array",
    "as_floating",
    "as_number",
    "as_scalar",
    "as_targets",
    "check_dtype",
    "check_entries",
    "check_finite",
    "check_labels",
    "flatten_hint",
    "generator",
    "is_finite",
    "on_host",
    "positive_int",
    "require_callable",
    "require_range",
    "to_dtype",
]

# The dtypes of nets.
DTYPES = get_args(DTypeName)
# The number of axes of a batch of samples.
ROWS = 2
# Up to this many labels or targets are checked on the host: copying them takes as long as one.
FEW = 1 << 12
# No machine counts further, and a float holds it.
MOST = sys.maxsize
# Numbers that are looked through at a time.
PIECE = 1 << 17
# The dtypes of NumPy's labels, all integers but the narrowest, as unsigned ones.
UNSIGNED = {np.dtype(f"i{size}"): np.dtype(f"u{size}") for size in (2, 4, 8)}

# `ndarray.min` and `ndarray.max` call these through Python functions.
_least: Callable[..., Any] = np.minimum.reduce
_largest: Callable[..., Any] = np.maximum.reduce


def as_array(backend: Backend, x: ArrayLike, name: str = "x") -> Array:
    """Return `x` as an array of `backend`, refusing arrays of other libraries."""
    is_own = backend.owns(x)
    if not is_own:
        numbers = plain(x, name)
        if numbers is not x:
            x, is_own = backend.asarray(numbers), True
    # A backend may refuse some of its own arrays: on another device, or recording gradients.
    if not is_own or type(backend).check_owned is not Backend.check_owned:
        backend.check_owned(x, name)
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        x = _plain(x, name)
    array: Array = x if is_own else _from_python(x, name)
    # CuPy's dtypes are NumPy's too, and its `isdtype` takes microseconds.
    if isinstance(array.dtype, np.dtype):
        is_real = array.dtype.kind in "biuf"
    else:
        is_real = backend.xp.isdtype(array.dtype, ("bool", "integral", "real floating"))
    if not is_real:
        got = "str" if getattr(array.dtype, "kind", "") == "U" else dtype_name(array.dtype)
        msg = f"{name} must hold real numbers, got dtype {got}"
        # bfloat16 and 8-bit floats.
        msg += f"; cast it to float32 first: {name}.astype('float32')" if "float" in got else ""
        msg += labels_of_names(name) if got.startswith(("str", "object")) else ""
        raise TypeError(msg)
    return array if is_own else backend.asarray(array)


def _plain(x: np.ndarray, name: str) -> np.ndarray:
    """Return a view as a plain ndarray, because ``*`` of ``numpy.matrix`` is not elementwise."""
    if hasattr(type(x), "mask"):
        msg = f"{name} is a masked array, and masks are not supported: use {name}.filled(...)"
        raise TypeError(msg)
    return np.asarray(x)


def _from_python(x: ArrayLike, name: str) -> np.ndarray:
    """Convert Python numbers by NumPy, so that errors are the same for every backend."""
    if is_sparse(x):
        msg = (
            f"{name} is a {kind_of(x)}, and only the samples x of fit, prepare and the methods of "
            f"nets may be sparse: pass {name}.toarray()"
        )
        raise TypeError(msg)
    if isinstance(x, Dataset):
        msg = (
            f"{name} is a data set that prepare has returned, which only fit takes: pass the "
            f"arrays that it was made of"
        )
        raise TypeError(msg)
    try:
        return np.asarray(x)
    except ValueError as error:
        msg = f"{name} is not an array of numbers: {error}{table_of_labels(name)}"
        raise ValueError(msg) from error


def as_floating(backend: Backend, x: ArrayLike, name: str = "x", dtype: Any = None) -> Array:
    """Return `x` as a floating array, cast to `dtype` if given; integers become float64."""
    array = as_array(backend, x, name)
    if dtype is None and is_floating(array.dtype):
        return array
    return to_dtype(backend, array, dtype or "float64")


def to_dtype(backend: Backend, array: Array, dtype: Any) -> Array:
    """Return an array of `backend` cast to `dtype`, without a copy if it has that dtype."""
    wanted = backend.dtype(dtype)
    return array if array.dtype == wanted else backend.xp.astype(array, wanted)


def as_scalar(backend: Backend, value: Any, name: str = "f(x)") -> Any:
    """Return the value of a function as a new real 0-d array on the same device."""
    if isinstance(value, float | int):
        return float(value)
    value = as_floating(backend, value, name)
    if math.prod(value.shape) != 1:
        msg = (
            f"f must return one number, but {name} has shape {tuple(value.shape)}; if f takes "
            f"many points at once and returns one value for each, pass batched=True"
        )
        raise ValueError(msg)
    # A copy, because the value may be a view of x, or a buffer that the next call reuses.
    return backend.xp.reshape(backend.xp.asarray(value, copy=True), ())


def as_number(backend: Backend, value: Any) -> float:
    """Return a 0-d value as a Python float, copied to the host explicitly."""
    return float(backend.to_numpy(value) if backend.owns(value) else value)


def on_host(backend: Backend, values: Any) -> np.ndarray:
    """Return real numbers as a float64 NumPy array, copied to the host explicitly."""
    return np.asarray(backend.to_numpy(values) if backend.owns(values) else values, np.float64)


def as_targets(
    backend: Backend,
    t: Array,
    shape: tuple[int, ...],
    dtype: Any,
    *,
    name: str = "t",
    labels: bool = True,
    checks_range: bool = True,
) -> Array:
    """Return targets for outputs of `shape`: labels unchanged, distributions in `dtype`.

    Without `checks_range`, labels may be out of range.

    Raises
    ------
    ValueError
        If `t` neither has `shape` nor, if `labels` is true, holds integer labels within range of
        ``shape[:-1]``.
    """
    if tuple(t.shape) == tuple(shape):
        return to_dtype(backend, t, dtype)
    if labels and tuple(t.shape) == tuple(shape[:-1]) and _is_integral(backend, t):
        if checks_range:
            check_labels(backend, t, shape[-1], name)
        return t
    msg = (
        f"{name} has shape {tuple(t.shape)} and dtype {dtype_name(t.dtype)}, which does not fit "
        f"outputs of shape {tuple(shape)}: pass targets of shape {tuple(shape)}"
    )
    is_alone = tuple(t.shape) in (tuple(shape[:-1]), (*shape[:-1], 1))
    if labels and is_alone and not _are_whole(backend, t):
        msg += "; for one number a sample, as t has, make a net of one output"
    elif labels:
        msg += f", or integer class labels of shape {tuple(shape[:-1])}"
        if is_alone:
            call = labels_from(tuple(t.shape), shape[:-1], integral=_is_integral(backend, t))
            msg += f": {call}"
    raise ValueError(msg)


def _are_whole(backend: Backend, t: Array) -> bool:
    """Return whether numbers are such as labels could be, whatever their dtype."""
    numbers = backend.to_numpy(t)
    return numbers.dtype.kind == "b" or bool(np.equal(numbers, np.floor(numbers)).all())


def as_weights(backend: Backend, weights: ArrayLike, n: int, dtype: Any) -> Array:
    """Return the weights of `n` samples as an array of `backend` and `dtype`, checked.

    That of a single sample may be a number.
    """
    array = as_array(backend, weights, "sample_weight")
    if array.ndim == 0 and n == 1:
        array = backend.xp.reshape(array, (1,))
    if tuple(array.shape) != (n,):
        msg = (
            f"sample_weight has shape {tuple(array.shape)}; pass one weight for each of the {n:,} "
            f"samples, of shape ({n},)"
        )
        raise ValueError(msg)
    check_finite(backend, array, "sample_weight")
    array = as_floating(backend, array, "sample_weight")
    least = as_number(backend, backend.xp.min(array))
    if least < 0.0:
        msg = f"sample_weight must not be negative, and its least is {least:.4g}"
        raise ValueError(msg)
    with np.errstate(over="ignore"):
        found = to_dtype(backend, array, dtype)
    if not is_finite(backend, found):
        msg = f"sample_weight holds numbers beyond the range of {dtype}; scale it"
        raise ValueError(msg)
    return found


def check_dtype(dtype: Any) -> DTypeName:
    """Return the name of a net's dtype, or raise ValueError if nets do not support it."""
    # NumPy would read None as float64, which is not the default of nets.
    name = "None" if dtype is None else dtype_name(dtype)
    if name not in DTYPES:
        msg = f"nets compute in {' or '.join(DTYPES)}; got dtype {shown(name)}"
        raise ValueError(msg)
    return cast("DTypeName", name)


def check_labels(backend: Backend, t: Array, n_classes: int, name: str = "t") -> None:
    """Raise ValueError unless all labels lie in ``0 .. n_classes - 1``."""
    if 0 in t.shape or _are_labels(t, n_classes):
        return
    low, high = map(int, _extremes(backend, t))
    if low < 0 or high >= n_classes:
        wrong = low if low < 0 else high
        msg = (
            f"{name} of shape {tuple(t.shape)} holds the label {wrong}, but outputs of shape "
            f"{(*t.shape, n_classes)} have the classes 0 to {n_classes - 1}"
        )
        msg += labels_in_range(low, high, n_classes)
        raise ValueError(msg)


def require_range(backend: Backend, t: Array, loss: LossFormula, name: str = "t") -> None:
    """Raise ValueError unless floating targets are within the range that the loss takes."""
    least, most = loss.target_range
    if (least == -math.inf and most == math.inf) or 0 in t.shape:
        return
    low, high = map(float, _extremes(backend, t))
    # Targets that were computed, such as probabilities, may be rounded beyond either end.
    rounding = 4.0 * float(backend.xp.finfo(t.dtype).eps)
    if not (low >= least - rounding and high <= most + rounding):
        wrong = high if low >= least - rounding else low
        taken = f"from {least:g} to {most:g}" if most < math.inf else f"of at least {least:g}"
        msg = (
            f"{name} holds {wrong:g}, and {loss.name} takes targets {taken}; "
            f"{bounded_targets(low, high)}"
        )
        raise ValueError(msg)


def _are_labels(t: Array, n_classes: int) -> bool:
    """Return whether all are below `n_classes`, and not negative, if one reduction tells it."""
    if type(t) is not np.ndarray or n_classes > FEW:
        return False
    # A negative number, read as unsigned, is far above the classes.
    unsigned = UNSIGNED.get(t.dtype)
    return unsigned is not None and bool(_largest(t.view(unsigned), axis=None) < n_classes)


def _is_integral(backend: Backend, t: Array) -> bool:
    if isinstance(t.dtype, np.dtype):
        return t.dtype.kind in "iu"
    return bool(backend.xp.isdtype(t.dtype, "integral"))


def _extremes(backend: Backend, t: Array) -> tuple[Any, Any]:
    """Return the smallest and the largest element, on the host."""
    if type(t) is np.ndarray:
        return _least(t, axis=None), _largest(t, axis=None)
    if math.prod(t.shape) <= FEW:
        # One copy waits for the device once; two reductions would wait twice.
        t = backend.to_numpy(t)
        return t.min(), t.max()
    if backend.xp.isdtype(t.dtype, "unsigned integer"):
        # torch has no min and max for them: https://github.com/pytorch/pytorch/issues/58734
        t = backend.xp.astype(t, backend.dtype("int64"))
    return backend.to_numpy(backend.xp.min(t)), backend.to_numpy(backend.xp.max(t))


def check_finite(backend: Backend, x: Array, name: str, rows: np.ndarray | None = None) -> None:
    """Raise ValueError naming the first NaN or infinity, in an array of which `x` is some rows."""
    if not is_floating(x.dtype):
        return
    if is_finite(backend, x):
        return
    finite = backend.xp.isfinite(x)
    wrong = ~backend.to_numpy(finite)
    where = np.argwhere(wrong)
    index = tuple(int(i) for i in where[0])
    value = float(backend.to_numpy(x[index]))
    if rows is not None:
        index = int(rows[index[0]]), *index[1:]
    raise _not_finite(name, index, value, f"{len(where)} of {wrong.size}")


def check_entries(rows: SparseRows, name: str) -> None:
    """Raise ValueError naming the first entry of sparse samples that is NaN or infinite."""
    wrong = np.flatnonzero(~np.isfinite(rows.values))
    if wrong.size:
        value, n = float(rows.values[wrong[0]]), math.prod(rows.shape)
        raise _not_finite(name, rows.place(wrong[0]), value, f"{wrong.size} of {n}")


def _not_finite(name: str, index: tuple[int, ...], value: float, share: str) -> ValueError:
    # A name may say more, as "x of batch 3" does.
    array, of, rest = name.partition(" of ")
    place = f"{array}[{', '.join(map(str, index))}]{of}{rest}" if index else name
    return ValueError(
        f"{name} must be finite, but {place} is {value}; {share} values are not finite"
    )


def is_finite(backend: Backend, x: Array, dtype: Any = None) -> bool:
    """Return whether there is neither NaN nor infinity, nor would be if `x` were cast."""
    if type(x) is not np.ndarray or x.size <= PIECE:
        x = x if dtype is None else to_dtype(backend, x, dtype)
        return bool(backend.to_numpy(backend.xp.all(backend.xp.isfinite(x))))
    # Rows at a time, so that the answers take no more memory than a piece of x.
    rows = max(1, PIECE // math.prod(x.shape[1:]))
    pieces = (x[start : start + rows] for start in range(0, len(x), rows))
    return all(np.isfinite(piece.astype(dtype or x.dtype, copy=False)).all() for piece in pieces)


def flatten_hint(shape: tuple[int, ...]) -> str:
    """Return a hint for samples with too many axes, or an empty string."""
    if len(shape) <= ROWS:
        return ""
    return f"; flatten it with x.reshape({shape[0]}, {math.prod(shape[1:])})"


def require_callable(f: object, name: str = "f") -> None:
    """Raise TypeError unless `f` can be called."""
    if not callable(f):
        msg = f"{name} must be a function of x, got {shown(f)}"
        raise TypeError(msg)


def positive_int(value: object, name: str) -> int:
    """Return `value` as an int, or raise unless it is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        msg = f"{name} must be an integer, got {shown(value)}"
        raise TypeError(msg)
    if value < 1:
        msg = f"{name} must be at least 1, got {value}"
        raise ValueError(msg)
    if value > MOST:
        msg = f"{name} must be at most {MOST}, got {shown(value)}"
        raise ValueError(msg)
    return int(value)


def generator(rng: Rng) -> np.random.Generator:
    """Return a generator on the host for a seed, a generator or None."""
    if isinstance(rng, np.random.RandomState):
        msg = "rng must be an int, a numpy.random.Generator or None, got a legacy RandomState"
        raise TypeError(msg)
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        msg = f"rng must be a non-negative int, a numpy.random.Generator or None, got {shown(rng)}"
        raise type(error)(msg) from error
