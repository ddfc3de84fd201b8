"""Values as error messages show them: in a few words, and arrays without their numbers."""

import math
from typing import Any

__all__ = ["shown"]

# Characters of a value, and elements of a list or the like, which may be as many arrays.
MOST, FEW = 80, 8


def shown(value: object) -> str:
    """Return a value as a reader of one line wants it.

    Examples
    --------
    >>> import numpy as np
    >>> shown(-0.5), shown("sgd"), shown((0.9, 1.5))
    ('-0.5', "'sgd'", '(0.9, 1.5)')
    >>> shown(np.zeros((200, 4))), shown([0.5] * 200), shown({"x": np.zeros(3)})
    ('an array of shape (200, 4)', 'a list of 200 elements', 'a dict of 1 element')
    """
    if _is_array(value):
        shape = tuple(getattr(value, "shape", ()))
        kind = "an array" if hasattr(value, "dtype") else f"a {type(value).__name__}"
        return f"{kind} of shape {shape}"
    if isinstance(value, list | tuple | set | frozenset | dict) and not _is_short(value):
        count = len(value)
        return f"a {type(value).__name__} of {count:,} element{'s' * (count != 1)}"
    if not isinstance(value, type) and hasattr(value, "dtype") and hasattr(value, "item"):
        # An array of one number is that number.
        value = value.item()
    return f"{value!r:.{MOST}}"


def _is_array(value: object) -> bool:
    """Return whether a value is an array, or a table, of more or less than one number."""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or isinstance(value, type):
        return False
    return not all(isinstance(size, int) for size in shape) or math.prod(shape) != 1


def _is_short(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    return len(value) <= FEW and all(
        not _is_array(part)
        and (not isinstance(part, list | tuple | set | frozenset | dict) or _is_short(part))
        for part in parts
    )
