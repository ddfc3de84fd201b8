"""Whether a function depends on its argument alone.

A textbook closure such as ``lambda W: net.loss(x, t)`` ignores its argument and reads the array
that the caller moved. Where a copy is moved instead, such a function would see no move at all, and
its gradient would be answered with zeros.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn._typing import Array
from accelnn.backends import Backend, dtype_name, is_floating
from accelnn.errors import ImpureFunctionError

__all__ = [
    "can_be_moved",
    "is_compiled",
    "require_pure",
    "require_pure_rows",
    "require_response",
    "require_untouched",
]


# Values that agree to this part may differ in the order of their sums.
SAME_VALUE = 1e-4
GOLDEN = (5.0**0.5 - 1.0) / 2.0


def can_be_moved(backend: Backend, x: object) -> bool:
    """Return whether single coordinates of `x` can be set in place without losing digits."""
    return _writable(backend, x) and is_floating(x.dtype) and not _overlaps(x)  # type: ignore[attr-defined]


def require_pure(
    backend: Backend, f: Callable[[Array], Any], x: object, copy: Array, value: Any = None
) -> bool:
    """Refuse a function that reads the caller's array instead of its argument.

    Parameters
    ----------
    backend : Backend
        Where `x` is.
    f : callable
        Takes `copy` or an array like it; any values, scalar or array.
    x : object
        What the caller handed over; it is shifted, and restored bit for bit.
    copy : array
        An argument for `f` that holds the values of `x`.
    value : array or number, optional
        What `f` gave for it, if it was called already.

    Returns
    -------
    bool
        Whether purity is proven. False where `x` cannot be shifted: then the caller must refuse a
        function that never responds.

    Raises
    ------
    accelnn.errors.ImpureFunctionError
        If f is random, or changes when the caller's `x` does.
    """
    if value is None:
        original = backend.xp.asarray(copy, copy=True)
        value = f(copy)
        require_untouched(backend, copy, original)
    before = _values(backend, value)
    is_writable = _writable(backend, x)
    if is_writable and _same(before, _values(backend, _while_shifted(backend, f, x, copy))):
        # A random f would have changed as well.
        return True
    again = _values(backend, f(copy))
    if not _same(before, again):
        msg = (
            f"f is not deterministic: two calls at the same x gave {_show(before)} and "
            f"{_show(again)}. Fix its randomness, for instance with a seed inside f"
        )
        raise ImpureFunctionError(msg)
    if not is_writable:
        return False
    msg = (
        "f does not depend on its argument alone: it changed when x was shifted in place "
        "while its argument was not. Write f so that it uses its argument, or pass a "
        "writable float array in serial mode, which moves x itself"
    )
    raise ImpureFunctionError(msg)


def require_response(backend: Backend, f: Callable[[Array], Any], copy: Array) -> None:
    """Refuse a function that gives the same value at `copy` and beside it.

    Only for where `require_pure` proves nothing: a constant is refused too.
    """
    with np.errstate(all="ignore"):
        moved = _values(backend, f(_shifted(backend, copy)))
    if _same(moved, _values(backend, f(copy))):
        msg = (
            "f never responded to its argument. Either it is constant, or it ignores its argument "
            "and reads the array that it closes over; the two cannot be told apart where x cannot "
            "be moved, or where Numba has compiled that array into f. Write f so that it uses its "
            "argument, or pass x as a writable float array"
        )
        raise ImpureFunctionError(msg)


def is_compiled(f: object) -> bool:
    """Return whether Numba has compiled `f`, with what it closes over as constants in it."""
    return hasattr(f, "py_func")


def require_pure_rows(
    backend: Backend, f: Callable[[Array], Any], x: object, row: Array, value: Array
) -> bool:
    """Do what `require_pure` does for a batched function, whose points must not meet either.

    Parameters
    ----------
    backend : Backend
        Where the point is.
    f : callable
        Takes ``(k, *x.shape)``.
    x : object
        What the caller handed over.
    row : array of shape (1, *x.shape)
        A point.
    value : array of shape (1, ...)
        What `f` gave for it alone.

    Returns
    -------
    bool
        As `require_pure`.

    Raises
    ------
    accelnn.errors.ImpureFunctionError
        Where `require_pure` does, and if the value at one point depends on the others of its
        batch.
    """
    # The point before and after another.
    three = backend.xp.concat([row, _shifted(backend, row), row])
    if _writable(backend, x):
        # One call for all three faults; only if it finds one, others tell which.
        shifted = three[1, ...] if x.dtype == three.dtype else None  # type: ignore[attr-defined]
        together = _while_shifted(backend, f, x, three, shifted)
        if _are_three(backend, together):
            found, alone = _values(backend, together), _values(backend, value)
            if _same(found[:1], alone) and _same(found[2:], alone):
                return True
    is_pure = require_pure(backend, f, x, row, value)
    together = f(three)
    if not _are_three(backend, together):
        # Which the usual check has words for.
        return is_pure
    found, alone = (np.asarray(backend.to_numpy(a), dtype=complex) for a in (together, value))
    with np.errstate(all="ignore"):
        # A batch may be summed in another order than one row.
        apart = np.abs(found[::2] - alone) > SAME_VALUE * np.abs(alone)
    if apart.any():
        msg = (
            "f gives a point another value when other points are in its batch: with batched=True, "
            "each value must depend on its own row alone, not on their number, mean or spread"
        )
        raise ImpureFunctionError(msg)
    return is_pure


def require_untouched(backend: Backend, x: Array, original: Array) -> None:
    """Refuse a function that has written to its argument."""
    if not bool(backend.to_numpy(backend.xp.all(x == original))):
        msg = "f changes its argument in place; let it work on a copy"
        raise ImpureFunctionError(msg)


def _writable(backend: Backend, x: object) -> bool:
    if not backend.owns(x):
        return False
    flags = getattr(x, "flags", None)
    return bool(getattr(flags, "writeable", True))


def _overlaps(x: Any) -> bool:
    """Return whether elements may lie at the same place, as those of sliding windows do."""
    if not hasattr(x, "strides") or 0 in x.shape:
        return False
    reach = 0
    for stride, n in sorted((abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1):
        # No step of one axis ends within what all finer ones cover.
        if stride < reach + x.itemsize:
            return True
        reach += (n - 1) * stride
    return False


def _while_shifted(
    backend: Backend,
    f: Callable[[Array], Any],
    x: Any,
    argument: Array,
    shifted: Array | None = None,
) -> Any:
    saved = backend.xp.asarray(x, copy=True)
    try:
        x[...] = _shifted(backend, saved) if shifted is None else shifted
        return f(argument)
    finally:
        x[...] = saved


def _are_three(backend: Backend, result: Any) -> bool:
    """Return whether a batched function gave one value for each of three points."""
    return backend.owns(result) and tuple(result.shape)[:1] == (3,)


def _shifted(backend: Backend, x: Array) -> Array:
    """Move every coordinate by its own amount, so that no combination of them stays the same."""
    xp = backend.xp
    # Multiples of the golden ratio: spread evenly, and no two the same.
    spread = 1.0 + np.arange(1, math.prod(x.shape) + 1) * GOLDEN % 1.0
    amount = backend.asarray(spread.reshape(tuple(x.shape)))
    name = dtype_name(x.dtype)
    if name == "bool":
        return ~x
    if "int" in name:
        return x + xp.astype(xp.round(10.0 * amount), x.dtype)
    amount = xp.astype(amount, x.dtype)
    size = xp.abs(x)
    return x + 0.01 * amount * xp.maximum(size, xp.ones_like(size))


def _values(backend: Backend, result: Any) -> np.ndarray:
    return np.array(backend.to_numpy(result) if backend.owns(result) else result)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes():
        # Nearly always, and many times faster to say than what follows.
        return True
    return np.array_equal(a, b, equal_nan=True)


def _show(value: np.ndarray) -> str:
    return repr(value.item()) if value.size == 1 else f"an array of shape {value.shape}"
