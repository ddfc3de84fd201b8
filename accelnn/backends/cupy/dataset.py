"""Data sets in the layout of the CUDA kernels: as bytes where that is lossless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accelnn._typing import Array
from accelnn.backends._training import Dataset
from accelnn.backends.cupy.source import Variant

if TYPE_CHECKING:
    from accelnn.backends._base import Backend
    from accelnn.backends.cupy.backend import CupyBackend

__all__ = ["NULL", "PixelDataset", "Rows", "device_dataset", "kernel_targets"]

# The null pointer, passed in place of an absent array.
NULL = np.uint64(0)

# The common scalings of pixels.
DIVISORS = (255, 1)
BYTES = 256
# Elements that are converted at once, which bounds the memory for temporaries.
PIECE = 1 << 24


class PixelDataset(Dataset):
    """Samples stored as bytes with a common divisor: a quarter of the memory of float32, exact.

    Attributes
    ----------
    pixels : array of uint8, shape (n, inputs)
        The samples times `divisor`.
    divisor : int
        The samples are ``pixels / divisor``.
    """

    pixels: Array
    divisor: int

    def __init__(self, pixels: Array, divisor: int, t: Array, backend: Backend, dtype: str) -> None:
        own = {"pixels": pixels, "divisor": divisor}
        # The base class is frozen.
        self.__dict__.update(own, t=t, backend=backend, dtype=dtype)

    def __repr__(self) -> str:
        return (
            f"<PixelDataset of {self.size:,} samples with {self.inputs:,} inputs, bytes / "
            f"{self.divisor}, {self.dtype} on {self.backend.device}>"
        )

    @property
    def size(self) -> int:
        """Number of samples."""
        return int(self.pixels.shape[0])

    @property
    def inputs(self) -> int:
        """Number of features per sample."""
        return int(self.pixels.shape[1])

    @property
    def x(self) -> Array:
        """Samples, of shape (n, inputs)."""
        return self._numbers(self.pixels)

    def with_targets(self, t: Array) -> PixelDataset:
        """See `Dataset.with_targets`."""
        return PixelDataset(self.pixels, self.divisor, t, self.backend, self.dtype)

    def take(self, index: Array) -> tuple[Array, Array]:
        """See `Dataset.take`."""
        xp = self.backend.xp
        return self._numbers(xp.take(self.pixels, index, axis=0)), xp.take(self.t, index, axis=0)

    def piece(self, rows: slice) -> tuple[Array, Array]:
        """See `Dataset.piece`."""
        return self._numbers(self.pixels[rows]), self.t[rows]

    def _numbers(self, pixels: Array) -> Array:
        return pixels.astype(self.dtype) / np.dtype(self.dtype).type(self.divisor)


class Rows(NamedTuple):
    """A data set as kernel arguments.

    Attributes
    ----------
    x : array of shape (n, inputs)
        Bytes or floating-point numbers, C-contiguous.
    divisor : numpy scalar
        The divisor of bytes, in the dtype of the net.
    t : array
        Labels of int32, or targets in the dtype of the net.
    weights : array of shape (n,), optional
        The weights of the samples, in the dtype of the net.
    """

    x: Array
    divisor: np.floating
    t: Array
    weights: Array | np.uint64 = NULL

    @classmethod
    def of(cls, data: Dataset, *, has_bits: bool = False, t: Array | None = None) -> Rows:
        """Return the kernel arguments of a data set, of its targets too unless they are given.

        With `has_bits`, integers are targets of a single output, not class labels.
        """
        t = kernel_targets(data.backend, data.t) if t is None else t
        real = np.dtype(data.dtype).type
        if has_bits and t.dtype == np.int32:
            t = t.astype(real)
        if isinstance(data, PixelDataset):
            return cls(data.pixels, real(data.divisor), t)
        return cls(data.backend.xp.ascontiguousarray(data.x), real(1), t)

    @property
    def variant(self) -> Variant:
        """The variant of the kernels that read them."""
        has_pixels, has_labels = self.x.dtype == np.uint8, self.t.dtype == np.int32
        return Variant(str(self.divisor.dtype), has_pixels=has_pixels, has_labels=has_labels)

    def told(self, order: Array | None, samples: int) -> tuple[Any, ...]:
        """Return a batch as kernel arguments; without an order, all rows in turn."""
        chosen = NULL if order is None else order
        return self.x, self.divisor, self.t, chosen, np.int32(samples), self.weights


def device_dataset(backend: CupyBackend, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
    """Store samples as bytes if that is lossless, else unchanged."""
    t = kernel_targets(backend, t, copy=copy)
    for divisor in DIVISORS:
        pixels = _pixels(backend, x, divisor)
        if pixels is not None:
            return PixelDataset(pixels, divisor, t, backend, dtype)
    xp = backend.xp
    return Dataset(x.copy() if copy else xp.ascontiguousarray(x), t, backend, dtype)


def kernel_targets(backend: Backend, t: Array, *, copy: bool = False) -> Array:
    """Return C-contiguous targets, with labels as int32."""
    dtype = np.dtype(np.int32) if t.dtype.kind in "iu" else t.dtype
    return backend.xp.ascontiguousarray(t.astype(dtype) if copy or t.dtype != dtype else t)


def _pixels(backend: CupyBackend, x: Array, divisor: int) -> Array | None:
    """Return samples times `divisor` as bytes, or None if that is not exact."""
    xp = backend.xp
    pixels = xp.empty(x.shape, np.uint8)
    rows = max(1, PIECE // max(1, x.shape[1]))
    scale = x.dtype.type(divisor)
    for start in range(0, x.shape[0], rows):
        piece = x[start : start + rows]
        scaled = xp.rint(piece * scale)
        # Casting other values to a byte is undefined.
        if not bool(((scaled >= 0) & (scaled < BYTES)).all()):
            return None
        pixels[start : start + rows] = scaled.astype(np.uint8)
        if not bool((pixels[start : start + rows].astype(x.dtype) / scale == piece).all()):
            return None
    return pixels
