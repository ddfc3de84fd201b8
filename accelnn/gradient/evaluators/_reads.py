"""What a function reads: its argument, the array that the caller has, both or neither.

A textbook closure such as ``lambda W: net.loss(x, t)`` ignores its argument and reads the array
that the caller moved. Where a copy is moved instead, such a function would see no move at all, and
its gradient would be answered with zeros.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from accelnn.errors import AmbiguousFunctionError, ImpureFunctionError
from accelnn.gradient._precision import DOUBLE
from accelnn.gradient._steps import Bounds

__all__ = [
    "Reads",
    "alike",
    "is_compiled",
    "points_beside",
    "refuse_random",
    "shown",
    "what_is_read",
]

GOLDEN = (5.0**0.5 - 1.0) / 2.0
# How far a probe goes, in units of max(1, abs(x)): at most, and where nothing is seen nearer.
FAR = 0.02
# And at least, in units of the last place of x.
LEAST_ULPS = 8.0


class Reads(NamedTuple):
    """Whether f changes with its argument, and with the caller's x; None where x cannot change."""

    argument: bool
    x: bool | None


def points_beside(
    x: np.ndarray, h: np.ndarray, side: np.ndarray | int, bounds: Bounds | None
) -> Iterator[np.ndarray]:
    """Yield points where it shows what f reads: one within the steps, and two further away.

    Every coordinate moves by its own amount, so that no combination of them stays the same. The
    first of them is no further away than the differences themselves go.
    """
    spread, size = _spread(x.size), np.abs(x)
    far = FAR * np.maximum(size, 1.0)
    near = np.maximum(np.minimum(h, far), LEAST_ULPS * DOUBLE * size)
    if bounds is None:
        yield x + (-near if int(side) < 0 else near) * spread
        yield from (x + far * spread, x - far * spread)
        return
    below, above = x - bounds.low, bounds.high - x
    up = (side > 0) | ((side == 0) & (above >= below))
    yield x + np.where(up, np.minimum(near, above), -np.minimum(near, below)) * spread
    yield from (x + np.minimum(far, above) * spread, x - np.minimum(far, below) * spread)


@functools.lru_cache(maxsize=1)
def _spread(count: int) -> np.ndarray:
    """Return multiples of the golden ratio: numbers from 1/2 to 1, no two of them the same."""
    return 0.5 + 0.5 * (np.arange(1, count + 1) * GOLDEN % 1.0)


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether values of f are the same, NaN included; one may be repeated."""
    differ = first != second
    if not np.count_nonzero(differ):
        return True
    # NaN, of any kind of number, is not even itself.
    differ &= (first == first) | (second == second)  # noqa: PLR0124
    return not np.count_nonzero(differ)


def what_is_read(reads: Reads, f: Callable[..., Any], *, can_move: bool) -> bool:
    """Return whether x itself must be moved, because f reads it and not its argument.

    Parameters
    ----------
    reads : Reads
        What probes have shown.
    f : callable
        Whose code is looked at where they have shown nothing.
    can_move : bool
        Whether moving x itself is possible here.

    Raises
    ------
    accelnn.errors.AmbiguousFunctionError
        If f reads both.
    accelnn.errors.ImpureFunctionError
        If f reads x where that cannot be moved, or if nobody can tell what it reads.
    """
    if reads.argument:
        if reads.x:
            msg = (
                "f uses its argument, and it also changes with the array x that it was given: the "
                "two derivatives differ. Pass in_place=True to move x itself, which gives the "
                "total derivative, or in_place=False to move the argument alone, which gives the "
                "partial one; or let f use its argument everywhere"
            )
            raise AmbiguousFunctionError(msg)
        return False
    if reads.x:
        if can_move:
            return True
        msg = (
            "f does not depend on its argument alone: it changed when x was shifted in place "
            "while its argument was not. Write f so that it uses its argument, or pass a "
            "writable float array in serial mode, which moves x itself"
        )
        raise ImpureFunctionError(msg)
    if reads.x is None and _code_reads(f) is None:
        msg = (
            "f never responded to its argument. Either it is constant, or it ignores its argument "
            "and reads the array that it closes over; the two cannot be told apart where x cannot "
            "be moved, or where Numba has compiled that array into f. Write f so that it uses its "
            "argument, or pass x as a writable float array"
        )
        raise ImpureFunctionError(msg)
    return False


def refuse_random(before: Any, after: Any) -> None:
    """Raise because two calls of f at one point differ."""
    msg = (
        f"f is not deterministic: two calls at the same x gave {shown(before)} and "
        f"{shown(after)}. Fix its randomness, for instance with a seed inside f"
    )
    raise ImpureFunctionError(msg)


def shown(value: Any) -> str:
    """Return how an error shows a value of f."""
    array = np.asarray(value)
    return repr(array.item()) if array.size == 1 else f"an array of shape {array.shape}"


def is_compiled(f: object) -> bool:
    """Return whether Numba has compiled `f`, with what it closes over as constants in it."""
    return hasattr(f, "py_func")


def _code_reads(f: Any) -> bool | None:
    """Return whether the code of `f` reads its first argument; False if it can read nothing.

    None where the code is not there, or may read something else.
    """
    inner = f
    while not hasattr(inner, "__code__"):
        if isinstance(inner, functools.partial):
            inner = inner.func
        elif is_compiled(inner) or not hasattr(type(inner).__call__, "__code__"):
            return None
        else:
            inner = type(inner).__call__
    if is_compiled(inner):
        return None
    argument = next(iter(inspect.signature(f, follow_wrapped=False).parameters), None)
    steps = list(dis.get_instructions(inner.__code__))
    for s in steps:
        # One instruction may load two names.
        names = s.argval if isinstance(s.argval, tuple) else (s.argval,)
        if "LOAD" in s.opname and argument in names:
            return True
    elsewhere = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "CALL")
    return None if any(s.opname.startswith(elsewhere) for s in steps) else False
