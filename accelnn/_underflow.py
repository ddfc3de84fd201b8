"""Numbers too small to be told from zero, which a program may have asked NumPy to raise for."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

__all__ = ["rounds_to_zero", "underflow_is_harmless"]

Function = TypeVar("Function", bound=Callable[..., Any])


def underflow_is_harmless(function: Function) -> Function:
    """Let a function that changes nothing be right where ``numpy.seterr(all="raise")`` is on.

    Probabilities far from the largest, and products of small errors, are rounded to zero: results
    are as accurate as without. Overflow and what is undefined are raised as they were.
    """

    @functools.wraps(function)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        # The second call costs nothing where underflow is ignored, as it is by default; to ask for
        # that beforehand would take as long as some of these functions.
        try:
            return function(*args, **kwargs)
        except FloatingPointError:
            with rounds_to_zero():
                return function(*args, **kwargs)

    return cast("Function", quiet)


def rounds_to_zero() -> np.errstate:
    """Return a context in which what is too small is rounded to zero without a word."""
    return np.errstate(under="ignore")
