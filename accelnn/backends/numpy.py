"""The NumPy backend, which is always available."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends._arrays import dtype_name, from_dlpack, slices, speaks_dlpack
from accelnn.backends._base import Backend
from accelnn.backends._training import Dataset
from accelnn.formulas._table import ACTIVATIONS

__all__ = ["NumpyBackend"]

# numpy.sum and numpy.max call these through three Python functions.
_total: Callable[..., Array] = np.add.reduce
_largest: Callable[..., Array] = np.maximum.reduce
_least: Callable[..., Array] = np.minimum.reduce

# Above these, exp(-x) is a normal number.
LOWEST = {np.dtype(np.float32): -87.0, np.dtype(np.float64): -708.0}
SIGMOID = ACTIVATIONS["sigmoid"]
# A reduction along rows this short takes longer than a copy with axes swapped, unless they are few.
SHORT, FEW = 64, 8
# Products of a call of BLAS, in which Python hears no Ctrl-C: some tenths of a second.
MOST_PRODUCTS = 20_000_000_000


class NumpyBackend(Backend):
    """The portable ops on NumPy arrays, in memory at hand where they are told of any."""

    name = "numpy"
    xp: Any = np
    device = "cpu"

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is a NumPy array."""
        return isinstance(x, np.ndarray)

    def dtype(self, dtype: Any) -> Any:
        """See `Backend.dtype`."""
        # Instances, because they are compared fast.
        return _dtype(dtype if isinstance(dtype, str) else dtype_name(dtype))

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` as a NumPy array; see `Backend.asarray`."""
        if type(x) is not np.ndarray and speaks_dlpack(x):
            x = from_dlpack(np, x)
        return np.asarray(x, dtype=dtype)

    def memory_for(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """See `Backend.memory_for`."""
        return np.empty(shape, dtype)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """See `Backend.empty`."""
        return np.empty(shape, dtype)

    def take(self, x: Array, index: Array, memory: Array | None = None) -> Array:
        """See `Backend.take`."""
        # To raise an error, NumPy would first write to memory of its own.
        return x.take(index, 0, memory, "raise" if memory is None else "clip")

    def matmul(self, a: Array, b: Array, memory: Array | None = None) -> Array:
        """See `Backend.matmul`."""
        # No function more for a small one.
        if a.size * b.shape[-1] > MOST_PRODUCTS:
            return _huge_product(a, b, memory)
        return np.matmul(a, b, out=memory)

    def prepare(self, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
        """See `Backend.prepare`."""
        # Of another layout, `ndarray.take` would copy all rows to take some.
        rows = np.ascontiguousarray(x)
        return super().prepare(rows, t, dtype, copy=copy and rows is x)

    def matmul_into(self, out: Array, a: Array, b: Array) -> None:
        """See `Backend.matmul_into`."""
        if a.shape[1] == 1 and a.dtype is b.dtype is out.dtype:
            # Of a column and a row, np.matmul takes five times as long.
            np.dot(a, b, out=out)
        elif a.size * b.shape[-1] > MOST_PRODUCTS:
            _huge_product(a, b, out)
        else:
            np.matmul(a, b, out=out)

    def sum_into(self, out: Array, x: Array, axis: int) -> None:
        """See `Backend.sum_into`."""
        _total(x, axis=axis, out=out)

    def sum(self, x: Array, axis: int, *, keepdims: bool = False) -> Array:
        """See `Backend.sum`."""
        return _total(x, axis=axis, keepdims=keepdims)

    def max(self, x: Array, axis: int, *, keepdims: bool = False) -> Array:
        """See `Backend.max`."""
        if axis == -1 and _has_short_rows(x):
            top = _largest(x.T.copy(), axis=0)
            return top[:, None] if keepdims else top
        return _largest(x, axis=axis, keepdims=keepdims)

    def softmax(self, x: Array) -> Array:
        """See `Backend.softmax`."""
        return self._softmax_into(x, None)

    def _softmax_into(self, x: Array, memory: Array | None) -> Array:
        e, total, _ = self.exponentials(x)
        e /= total[..., None]
        if e.flags.c_contiguous:
            return e
        p = np.empty(x.shape, x.dtype) if memory is None else memory
        p[...] = e
        return p

    def exponentials(self, x: Array) -> tuple[Array, Array, Array]:
        """See `Backend.exponentials`."""
        if _has_short_rows(x):
            # With axes swapped, all loops are long.
            e = x.T.copy()
            top = _largest(e, axis=0)
            e -= top
            np.exp(e, out=e)
            return e.T, _total(e, axis=0), top
        top = _largest(x, axis=-1, keepdims=True)
        e = np.asarray(x - top)
        np.exp(e, out=e)
        return e, _total(e, axis=-1), top[..., 0]

    def pick(self, x: Array, labels: Array) -> Array:
        """See `Backend.pick`."""
        return x[np.arange(len(labels)), labels]

    def less_one_hot(self, x: Array, labels: Array) -> Array:
        """See `Backend.less_one_hot`."""
        x[np.arange(len(labels)), labels] -= 1.0
        return x

    def one_hot(self, labels: Array, n: int, dtype: Any) -> Array:
        """See `Backend.one_hot`."""
        return (labels[..., None] == np.arange(n)).astype(self.dtype(dtype))

    def sigmoid(self, x: Array) -> Array:
        """See `Backend.sigmoid`."""
        return self._sigmoid_into(x, None)

    def _sigmoid_into(self, x: Array, memory: Array | None) -> Array:
        lowest = LOWEST.get(x.dtype)
        if lowest is None or not x.size or not _least(x, axis=None) > lowest:
            return SIGMOID.value(x, backend=self)
        e = np.negative(x, out=np.empty_like(x) if memory is None else memory)
        np.exp(e, out=e)
        e += 1.0
        return np.reciprocal(e, out=e)

    def relu(self, x: Array) -> Array:
        """See `Backend.relu`."""
        return np.maximum(x, 0.0)

    def _relu_into(self, x: Array, memory: Array | None) -> Array:
        return np.maximum(x, 0.0, out=memory)

    def tanh(self, x: Array) -> Array:
        """See `Backend.tanh`."""
        return np.tanh(x)

    def _tanh_into(self, x: Array, memory: Array | None) -> Array:
        return np.tanh(x, out=memory)


def _has_short_rows(x: Array) -> bool:
    shape = x.shape
    return len(shape) == 2 and shape[1] <= SHORT and shape[0] >= FEW  # noqa: PLR2004 - a matrix


@functools.cache
def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(name)


def _huge_product(a: Array, b: Array, out: Array | None) -> Array:
    """Return a matrix product, some rows at a time."""
    if not a.ndim == b.ndim == 2:  # noqa: PLR2004 - axes of a matrix
        return np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    for rows in slices(a.shape[0], max(1, MOST_PRODUCTS // b.size)):
        np.matmul(a[rows], b, out=out[rows])
    return out
