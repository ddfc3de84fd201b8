"""Strict backends, which find portability errors."""

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from accelnn._optional import import_optional
from accelnn._typing import Array, ArrayLike
from accelnn.backends import Backend
from accelnn.backends.numpy import NumpyBackend
from accelnn.testing._ops import OP_CASES

__all__ = ["ReadOnlyBackend", "StrictBackend"]

# Functions of `xp` whose result is written to.
COPIES = ("asarray", "repeat")


class StrictBackend(Backend):
    """array-api-strict on its second device, which refuses whatever a GPU library may refuse.

    Names outside the standard do not exist, arrays do not mix with NumPy arrays, only promotions of
    the standard work, and NumPy cannot read an array on that device.
    """

    name = "strict"

    def __init__(self) -> None:
        self.xp = import_optional("array_api_strict", feature="The strict backend", extra="test")
        self._host, self.device = self.xp.__array_namespace_info__().devices()[:2]

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is an array of array-api-strict on the second device."""
        xp = sys.modules.get("array_api_strict")
        if xp is None or type(x).__module__.partition(".")[0] != "array_api_strict":
            return False
        return bool(getattr(x, "device", None) == xp.__array_namespace_info__().devices()[1])

    def to_numpy(self, x: Array) -> np.ndarray:
        """Copy to the host device explicitly."""
        return np.asarray(x.to_device(self._host))


class ReadOnlyBackend(NumpyBackend):
    """NumPy with read-only arrays, so that an op that writes to its input fails.

    Only `zeros`, which allocates workspaces, and `COPIES` return writable arrays.
    """

    name = "readonly"
    inferred = False
    xp: Any

    def __init__(self) -> None:
        self.xp = _FrozenNamespace(np)
        for op in {case.op for case in OP_CASES}:
            setattr(self, op, _freezing(getattr(self, op)))

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` as a read-only array."""
        return _frozen(np.asarray(x, dtype=dtype).view())

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new writable array of zeros."""
        return np.zeros(shape, dtype)


class _FrozenNamespace:
    """A namespace whose functions return read-only arrays, unless they return a view."""

    def __init__(self, namespace: ModuleType) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._namespace, name)
        if name in COPIES or isinstance(attribute, type) or not callable(attribute):
            return attribute
        return _freezing(attribute)


def _freezing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def frozen(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        is_new = not any(result is given for given in args)
        owns_its_memory = isinstance(result, np.ndarray) and result.base is None
        return _frozen(result) if is_new and owns_its_memory else result

    return frozen


def _frozen(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x
