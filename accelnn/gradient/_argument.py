"""The argument of f: an array or a tree of arrays, as one flat vector."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from accelnn._cached import cached_property
from accelnn._typing import Array
from accelnn._validation import as_floating, check_finite
from accelnn.backends import Backend, dtype_name, is_floating

__all__ = ["Argument", "is_tree", "leaves_of", "names_of", "rebuilt"]

# Several threads may differentiate at one x, so that each array has a lock, under which it is
# copied and moved in place. Locks are reentrant, because f may itself differentiate at x, and live
# only as long as they are in use.
_locks: WeakValueDictionary[int, Any] = WeakValueDictionary()
_guard = threading.Lock()


def _forget_locks() -> None:
    """Discard locks that may be held by threads that a forked child does not have."""
    global _guard  # noqa: PLW0603 - it may be locked for good
    _locks.clear()
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _locks_of(arrays: list[Any]) -> list[AbstractContextManager[object]]:
    """Return the locks of some arrays, in a fixed order, which prevents deadlocks."""
    keys = sorted({id(_memory(array)) for array in arrays})
    with _guard:
        return [_locks.setdefault(key, threading.RLock()) for key in keys]


@contextmanager
def _all_of(locks: list[AbstractContextManager[object]]) -> Iterator[None]:
    """Hold all of the locks."""
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        yield


def _memory(array: Any) -> Any:
    """Return the array that owns the memory of a view."""
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


class Argument:
    """The point x, and the conversion of flat vectors to its form.

    Parameters
    ----------
    backend : Backend
        Whose arrays.
    given : array_like or tree
        The caller's x.
    name : str
        What errors call it.

    Attributes
    ----------
    leaves : list of array
        The arrays of a tree, or the one array, as the caller has them.
    flat, host : array of shape (n,)
        A floating copy of all of them, and the same on the host.
    shape : tuple of int
        The shape of x; for a tree that of `flat`.
    dtype : numpy.dtype
        The dtype of `flat`.
    shared : list of array
        The caller's own arrays that are writable.
    is_tree, is_flat, is_mixed : bool
        Whether x is a tree; whether it is one vector; whether its arrays are of several dtypes.
    is_handed_over : bool
        Whether f can be called with the caller's own x: all of it is writable and floating.
    """

    def __init__(self, backend: Backend, given: Any, name: str = "x") -> None:
        self.backend, self.given = backend, given
        self.is_tree = is_tree(backend, given)
        # Of these, only arrays of the backend can be shared with f.
        own = list(leaves_of(given)) if self.is_tree else [given]
        self.shared = list(filter(partial(_is_writable, backend), own))
        self._locks = _locks_of(self.shared)
        self.leaves, floats = [], []
        with self._alone():
            for leaf in own:
                array = as_floating(backend, leaf, name)
                floats.append(array)
                self.leaves.append(leaf if backend.owns(leaf) else array)
            self.flat = self._flattened(floats)
        # The precision that f computes in, which steps depend on.
        self.dtypes = [a.dtype for a in floats]
        self.shapes = [tuple(a.shape) for a in floats]
        self.is_mixed = self.is_tree and any(a != self.dtypes[0] for a in self.dtypes)
        self.host = backend.to_numpy(self.flat)
        self.dtype: np.dtype[Any] = self.host.dtype
        self.shape = tuple(self.flat.shape) if self.is_tree else self.shapes[0]
        self.is_flat = not self.is_tree and len(self.shape) == 1
        if np.count_nonzero(np.isfinite(self.host)) < self.size:
            check_finite(backend, self.flat if self.is_tree else self.of(self.flat), name)
        self.is_handed_over = len(self.shared) == len(own) and all(
            is_floating(leaf.dtype) for leaf in own
        )

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes move copies of `flat` only.
        form = rebuilt(self.given, itertools.repeat(0.0)) if self.is_tree else None
        return {**self.__dict__, "given": form, "leaves": [], "shared": [], "_locks": []}

    def _alone(self) -> AbstractContextManager[object]:
        """Keep other threads from moving or copying the caller's arrays."""
        return self._locks[0] if len(self._locks) == 1 else _all_of(self._locks)

    def _flattened(self, floats: list[Array]) -> Array:
        """Return a copy of all numbers, in the widest dtype of any."""
        xp = self.backend.xp
        if len(floats) == 1:
            return xp.reshape(xp.asarray(floats[0], copy=True), (-1,))
        if not floats:
            return self.backend.zeros(0, "float64")
        widest = xp.result_type(*floats)
        return xp.concat([xp.reshape(xp.astype(a, widest), (-1,)) for a in floats])

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return int(self.flat.shape[0])

    @property
    def can_move(self) -> bool:
        """Whether the caller's own x can be moved in place, element by element."""
        return bool(self.leaves) and self.is_handed_over and not any(map(_overlaps, self.leaves))

    @cached_property
    def ends(self) -> np.ndarray:
        """The end of each array in `flat`."""
        return np.cumsum([math.prod(shape) for shape in self.shapes])

    def rounded(self, values: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
        """Return numbers on the host rounded to the dtypes of their coordinates.

        `columns` are the coordinates along the last axis, by default all.
        """
        if not self.is_mixed:
            return values.astype(self.dtype, copy=False)
        leaf = self._leaf(np.arange(self.size) if columns is None else columns)
        out = values.copy()
        for i, dtype in enumerate(self.dtypes):
            narrow = values.astype(dtype_name(dtype)).astype(values.dtype)
            out = np.where(leaf == i, narrow, out)
        return out

    def of(self, numbers: Array) -> Any:
        """Return numbers in the form of x: what f takes, or its derivatives.

        Parameters
        ----------
        numbers : array of shape (..., n)
            One for each coordinate; leading axes, such as one over points, are kept.
        """
        if self.is_flat:
            return numbers
        xp, before = self.backend.xp, tuple(numbers.shape[:-1])
        if not self.is_tree:
            return xp.reshape(numbers, (*before, *self.shape))
        parts, start = [], 0
        for stop, shape, dtype in zip(self.ends.tolist(), self.shapes, self.dtypes, strict=True):
            part = xp.reshape(numbers[..., start:stop], (*before, *shape))
            is_real = not xp.isdtype(part.dtype, "complex floating")
            parts.append(xp.astype(part, dtype, copy=False) if is_real else part)
            start = stop
        return rebuilt(self.given, iter(parts))

    @contextmanager
    def moving(self) -> Iterator[Callable[[], None]]:
        """Let only this thread move x in place; yield a function that restores it bit for bit."""
        with self._alone():
            saved = [self.backend.xp.asarray(leaf, copy=True) for leaf in self.shared]

            def restore() -> None:
                for leaf, values in zip(self.shared, saved, strict=True):
                    leaf[...] = values

            try:
                yield restore
            finally:
                restore()

    def write(self, flat: np.ndarray) -> None:
        """Write to the caller's own arrays, rounded to their dtypes."""
        start, shared = 0, set(map(id, self.shared))
        for leaf, shape in zip(self.leaves, self.shapes, strict=True):
            stop = start + math.prod(shape)
            if id(leaf) in shared:
                leaf[...] = self._written(leaf, flat[start:stop].reshape(shape))
            start = stop

    def _written(self, leaf: Array, values: np.ndarray) -> Array:
        """Return values in the dtype of a leaf; for integers and bools, other ones than it has."""
        if is_floating(leaf.dtype):
            return self.backend.asarray(values, leaf.dtype)
        if dtype_name(leaf.dtype) == "bool":
            return ~leaf
        # By different amounts, so that no combination of them stays the same.
        amounts = 10 + np.arange(values.size).reshape(values.shape) % 7
        return leaf + self.backend.asarray(amounts, leaf.dtype)

    def places(self, columns: np.ndarray) -> list[tuple[Array, tuple[int, ...]]]:
        """Return the array of each coordinate, and its index there."""
        found = []
        for i, column in zip(self._leaf(columns).tolist(), columns.tolist(), strict=True):
            shape, start = self.shapes[i], int(self.ends[i - 1]) if i else 0
            index = tuple(map(int, np.unravel_index(column - start, shape)))
            found.append((self.leaves[i], index))
        return found

    def _leaf(self, columns: np.ndarray) -> np.ndarray:
        """Return the index in `leaves` of each coordinate's array."""
        return np.searchsorted(self.ends, columns, side="right")


def is_tree(backend: Backend, x: Any) -> bool:
    """Return whether `x` is a dict, or a list or tuple that holds any array."""
    if backend.owns(x):
        return False
    if isinstance(x, Mapping):
        return True
    return isinstance(x, list | tuple) and any(_holds_array(backend, part) for part in x)


def _holds_array(backend: Backend, x: Any) -> bool:
    if isinstance(x, list | tuple):
        return any(_holds_array(backend, part) for part in x)
    return isinstance(x, Mapping | np.ndarray) or backend.owns(x)


def leaves_of(tree: Any) -> Iterator[Any]:
    """Yield the leaves of a tree in order."""
    if isinstance(tree, Mapping):
        for part in tree.values():
            yield from leaves_of(part)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from leaves_of(part)
    else:
        yield tree


def names_of(tree: Any, name: str = "") -> list[str]:
    """Return the names of the leaves of a tree, such as ``layer.W`` and ``x[0]``."""
    if isinstance(tree, Mapping):
        pairs = [(f"{name}.{key}" if name else str(key), part) for key, part in tree.items()]
    elif isinstance(tree, list | tuple):
        pairs = [(f"{name or 'x'}[{i}]", part) for i, part in enumerate(tree)]
    else:
        return [name or "x"]
    return [found for label, part in pairs for found in names_of(part, label)]


def rebuilt(tree: Any, leaves: Iterator[Any]) -> Any:
    """Return a tree of the same form with other leaves."""
    if isinstance(tree, Mapping):
        return {key: rebuilt(part, leaves) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        parts = [rebuilt(part, leaves) for part in tree]
        if hasattr(tree, "_fields"):
            return type(tree)(*parts)
        return tuple(parts) if isinstance(tree, tuple) else parts
    return next(leaves)


def _is_writable(backend: Backend, x: Any) -> bool:
    if not backend.owns(x):
        return False
    return bool(getattr(getattr(x, "flags", None), "writeable", True))


def _overlaps(x: Any) -> bool:
    """Return whether elements may share memory, as those of sliding windows do."""
    if not hasattr(x, "strides") or 0 in x.shape:
        return False
    reach = 0
    for stride, n in sorted((abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1):
        # A stride must go beyond what all smaller ones cover.
        if stride < reach + x.itemsize:
            return True
        reach += (n - 1) * stride
    return False
