"""Validation of the parameters of formulas."""

import math
import numbers
from collections.abc import Callable
from typing import Any

from accelnn._shown import shown

__all__ = [
    "boolean",
    "check_parameters",
    "finite",
    "fraction",
    "learning_rate",
    "nearest",
    "not_negative",
    "positive",
    "two_fractions",
]

# What a learning rate must be.
A_RATE = "a number or a schedule, such as accelnn.schedules.cosine(0.1, total_steps=1000)"


def check_parameters(formula: Any, **checks: Callable[[object, str], Any]) -> None:
    """Check the named fields of a frozen dataclass, and convert them to Python numbers."""
    for name, check in checks.items():
        object.__setattr__(formula, name, check(getattr(formula, name), name))


def nearest(value: Any) -> float:
    """Return a real number as a float: infinity, if it is an integer too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number(value: object, name: str, wanted: str = "a number") -> float:
    """Return a real number as a float, or raise TypeError: it must be what is wanted."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        msg = f"{name} must be {wanted}, got {shown(value)}"
        raise TypeError(msg)
    # Unlike a NumPy scalar, a Python float never promotes a float32 array.
    return nearest(value)


def finite(value: object, name: str) -> float:
    """Return a finite number."""
    found = number(value, name)
    if not math.isfinite(found):
        msg = f"{name} must be finite, got {shown(value)}"
        raise ValueError(msg)
    return found


def positive(value: object, name: str) -> float:
    """Return a positive finite number."""
    found = number(value, name)
    if not 0.0 < found < math.inf:
        msg = f"{name} must be positive and finite, got {shown(value)}"
        raise ValueError(msg)
    return found


def not_negative(value: object, name: str) -> float:
    """Return a non-negative finite number."""
    found = number(value, name)
    if not 0.0 <= found < math.inf:
        msg = f"{name} must be non-negative and finite, got {shown(value)}"
        raise ValueError(msg)
    return found


def fraction(value: object, name: str) -> float:
    """Return a number in [0, 1)."""
    found = number(value, name)
    if not 0.0 <= found < 1.0:
        msg = f"{name} must be in [0, 1), got {shown(value)}"
        raise ValueError(msg)
    return found


def learning_rate(value: object, name: str) -> Any:
    """Return a positive finite number, or a schedule unchanged."""
    if callable(value) and not isinstance(value, type):
        return value
    number(value, name, A_RATE)
    return positive(value, name)


def two_fractions(value: object, name: str) -> tuple[float, float]:
    """Return two numbers in [0, 1)."""
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004 - two of them
        msg = f"{name} must be two numbers, got {shown(value)}"
        raise TypeError(msg)
    return fraction(value[0], f"{name}[0]"), fraction(value[1], f"{name}[1]")


def boolean(value: object, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, got {shown(value)}"
        raise TypeError(msg)
    return value
