"""Whether f reads its argument, the caller's array x, both or neither.

A textbook closure such as ``lambda W: net.loss(x, t)`` ignores its argument and reads the caller's
array. If only copies were moved, its value would never change and its gradient would be zero.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from accelnn._shown import shown
from accelnn.errors import AmbiguousFunctionError, ImpureFunctionError
from accelnn.gradient._precision import DOUBLE
from accelnn.gradient._steps import Bounds

__all__ = [
    "Reads",
    "alike",
    "is_compiled",
    "points_beside",
    "refuse_random",
    "what_is_read",
]

GOLDEN = (5.0**0.5 - 1.0) / 2.0
# The farthest probe, in units of max(1, abs(x)), used where closer ones show nothing.
FAR = 0.02
# The closest probe, in units in the last place of x.
LEAST_ULPS = 8.0


class Reads(NamedTuple):
    """Whether f responds to its argument and to the caller's x; None if x cannot be moved."""

    argument: bool
    x: bool | None


def points_beside(
    x: np.ndarray, h: np.ndarray, side: np.ndarray | int, bounds: Bounds | None
) -> Iterator[np.ndarray]:
    """Yield points that show what f reads: one within the steps, and two farther away.

    All coordinates move by different amounts, so that no simple combination of them stays the same.
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
    """Return distinct numbers from 1/2 to 1, made of multiples of the golden ratio."""
    return 0.5 + 0.5 * (np.arange(1, count + 1) * GOLDEN % 1.0)


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether values of f are equal, NaN included, with broadcasting."""
    differ = first != second
    if not np.count_nonzero(differ):
        return True
    # Without isnan, which not every kind of number has.
    differ &= (first == first) | (second == second)  # noqa: PLR0124
    return not np.count_nonzero(differ)


def what_is_read(reads: Reads, f: Callable[..., Any], *, can_move: bool) -> bool:
    """Return whether x itself must be moved, because f reads x and ignores its argument.

    Parameters
    ----------
    reads : Reads
        The result of the probes.
    f : callable
        Its code is inspected if the probes showed nothing.
    can_move : bool
        Whether x itself can be moved.

    Raises
    ------
    accelnn.errors.AmbiguousFunctionError
        If f depends on both.
    accelnn.errors.ImpureFunctionError
        If f reads x but x cannot be moved, or if what f reads cannot be determined.
    """
    if reads.argument:
        if reads.x:
            msg = (
                "f uses its argument and also reads the array x directly, so that two derivatives "
                "are possible. Pass in_place=True to move x itself, which gives the total "
                "derivative, or in_place=False to move the argument alone, which gives the "
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
            "writable float array in serial mode, where x itself is moved"
        )
        raise ImpureFunctionError(msg)
    if reads.x is None and _code_reads(f) is None:
        msg = (
            "f never responded to its argument. Either it is constant, or it ignores its argument "
            "and reads an array that it closes over; the two cannot be told apart if x cannot be "
            "moved, or if Numba has compiled that array into f. Write f so that it uses its "
            "argument, or pass x as a writable float array"
        )
        raise ImpureFunctionError(msg)
    return False


def refuse_random(before: Any, after: Any) -> None:
    """Raise ImpureFunctionError for two different values of f at one point."""
    msg = (
        f"f is not deterministic: two calls at the same x gave {shown(before)} and "
        f"{shown(after)}. Make it deterministic, for instance with a fixed seed inside f"
    )
    raise ImpureFunctionError(msg)


def is_compiled(f: object) -> bool:
    """Return whether `f` is compiled by Numba, which freezes the arrays it closes over."""
    return hasattr(f, "py_func")


def _code_reads(f: Any) -> bool | None:
    """Return whether the code of `f` reads its first argument; False if it reads nothing at all.

    None if there is no code to inspect, or if it may read something else.
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
