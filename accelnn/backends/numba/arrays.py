"""Arrays as kernels take them."""

from __future__ import annotations

import numpy as np

__all__ = ["kernel_array"]


def kernel_array(x: np.ndarray, dtype: np.dtype | type | None = None) -> np.ndarray:
    """Return a contiguous, aligned, writable array: the only kind that kernels are compiled for.

    Kernels do not write to their inputs, so a read-only array is wrapped, not copied.
    """
    if type(x) is not np.ndarray or x.dtype != (dtype or x.dtype) or not x.flags.carray:
        x = np.require(np.asarray(x, dtype or x.dtype), requirements=["C", "A"])
        if type(x) is not np.ndarray or not x.flags.writeable:
            return np.asarray(_Writable(x))
    return x


class _Writable:
    """Exposes the memory of a read-only array as writable."""

    def __init__(self, array: np.ndarray) -> None:
        self._keeps_alive = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
