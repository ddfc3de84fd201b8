"""Expressions as trees, whose values, gradients and rounding are known.

The text of a tree is compiled for `numpy` as a user would write it, in float64 or with complex
numbers; the tree itself is evaluated in extended precision, with derivatives by the chain rule and
with a bound for the rounding of float64 (running error analysis: every operation adds its own
rounding and passes on that of its arguments).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

__all__ = ["EPS", "EXTENDED", "Node", "Values"]

EXTENDED = np.longdouble
EPS = 2.0**-52
TINY = 2.0**-1074
# Rounding in units of EPS: of arithmetic, of NumPy's elementary functions, of complex ones.
ARITHMETIC, ELEMENTARY, COMPLEX = 0.5, 2.0, 8.0


class Values(NamedTuple):
    """A node at p points.

    Attributes
    ----------
    value : numpy.ndarray of shape (p,)
        Itself.
    slope : numpy.ndarray of shape (n, p)
        Its gradient.
    rounding, slope_rounding : numpy.ndarray of shape (p,) and (n, p)
        By how much each may be off where all is computed in float64 (the gradient by imaginary
        steps, or by the chain rule).
    """

    value: np.ndarray
    slope: np.ndarray
    rounding: np.ndarray
    slope_rounding: np.ndarray


class Unary(NamedTuple):
    """An elementary function: how it is written, and it and its first two derivatives."""

    text: str
    value: Any
    first: Any
    second: Any
    ulps: float = ELEMENTARY


def _sech2(t):
    return 1.0 / np.cosh(t) ** 2


UNARY = {
    "neg": Unary("(-{})", lambda t: -t, lambda t: t * 0 - 1, lambda t: t * 0, 0.0),
    "sin": Unary("np.sin({})", np.sin, np.cos, lambda t: -np.sin(t)),
    "cos": Unary("np.cos({})", np.cos, lambda t: -np.sin(t), lambda t: -np.cos(t)),
    "exp": Unary("np.exp({})", np.exp, np.exp, np.exp),
    "log": Unary("np.log({})", np.log, lambda t: 1 / t, lambda t: -1 / t**2),
    "sqrt": Unary(
        "np.sqrt({})",
        np.sqrt,
        lambda t: 0.5 / np.sqrt(t),
        lambda t: -0.25 / np.sqrt(t) ** 3,
        ARITHMETIC,
    ),
    "tanh": Unary("np.tanh({})", np.tanh, _sech2, lambda t: -2 * np.tanh(t) * _sech2(t)),
    "arctan": Unary(
        "np.arctan({})",
        np.arctan,
        lambda t: 1 / (1 + t**2),
        lambda t: -2 * t / (1 + t**2) ** 2,
    ),
    "inverse": Unary(
        "(1.0 / {})", lambda t: 1 / t, lambda t: -1 / t**2, lambda t: 2 / t**3, ARITHMETIC
    ),
    # At 0 the chain rule through its two parts would be 0 times infinity.
    "sqrt3": Unary(
        "np.sqrt({}) ** 3",
        lambda t: np.sqrt(t) ** 3,
        lambda t: 1.5 * np.sqrt(t),
        lambda t: 0.75 / np.sqrt(t),
    ),
}
BINARY = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


def _power(k: float) -> Unary:
    k_ = k if k != int(k) else int(k)

    def of(t, factor, exponent):
        if factor == 0:
            return t * 0
        return factor * (t**exponent if exponent else np.ones_like(t))

    return Unary(
        f"{{}} ** {k!r}",
        lambda t: of(t, 1, k_),
        lambda t: of(t, k_, k_ - 1),
        lambda t: of(t, k_ * (k_ - 1), k_ - 2),
    )


@dataclass
class Node:
    """An operation, and its value at the point where the function is made."""

    op: str
    parts: tuple[Node, ...] = ()
    number: float = 0.0
    at: float = field(init=False)

    def __post_init__(self):
        if self.op == "x":
            return
        with np.errstate(all="ignore"):
            at = [EXTENDED(part.at) for part in self.parts]
            if self.op == "number":
                self.at = self.number
            elif self.op in BINARY:
                self.at = float(BINARY[self.op](*at))
            else:
                self.at = float(self.unary.value(at[0]))

    @property
    def unary(self) -> Unary:
        return _power(self.number) if self.op == "power" else UNARY[self.op]

    def text(self) -> str:
        """Return it as Python; coordinate i is ``x[i]``."""
        if self.op == "x":
            return f"x[{int(self.number)}]"
        if self.op == "number":
            return repr(self.number) if self.number >= 0 else f"({self.number!r})"
        parts = [part.text() for part in self.parts]
        if self.op in BINARY:
            return f"({parts[0]} {self.op} {parts[1]})"
        return f"({self.unary.text})".format(*parts)

    def values(self, x: np.ndarray, dtype: Any = EXTENDED) -> Values:
        """Return its values at points of shape (p, n), in extended precision."""
        with np.errstate(all="ignore"):
            return self._values(x.astype(dtype))

    def _values(self, x: np.ndarray) -> Values:
        zero, flat = np.zeros(len(x), x.dtype), np.zeros(x.shape[::-1], x.dtype)
        if self.op == "number":
            return Values(zero + self.number, flat, zero, flat)
        if self.op == "x":
            slope = flat.copy()
            slope[int(self.number)] = 1.0
            return Values(x[:, int(self.number)], slope, zero, flat)
        parts = [part._values(x) for part in self.parts]
        if self.op == "/":
            parts[1] = _of_unary(UNARY["inverse"], parts[1])
        if self.op == "/" and _is_power_of_two(self.parts[1]):
            return Values(*(a * parts[1].value for a in parts[0]))
        if self.op in "*/":
            return _product(*parts)
        if self.op in "+-":
            return _sum(*parts, 1 if self.op == "+" else -1)
        return _of_unary(self.unary, parts[0])


def _is_power_of_two(node: Node) -> bool:
    return node.op == "number" and math.frexp(node.number)[0] == 0.5


def _sum(a: Values, b: Values, sign: int) -> Values:
    value, slope = a.value + sign * b.value, a.slope + sign * b.slope
    return Values(
        value,
        slope,
        a.rounding + b.rounding + ARITHMETIC * EPS * np.abs(value),
        a.slope_rounding + b.slope_rounding + ARITHMETIC * EPS * np.abs(slope),
    )


def _product(a: Values, b: Values) -> Values:
    value = a.value * b.value
    terms = [a.value * b.slope, b.value * a.slope]
    return Values(
        value,
        terms[0] + terms[1],
        np.abs(a.value) * b.rounding
        + np.abs(b.value) * a.rounding
        + a.rounding * b.rounding
        + ARITHMETIC * EPS * np.abs(value)
        + TINY,
        np.abs(a.value) * b.slope_rounding
        + np.abs(b.value) * a.slope_rounding
        + np.abs(a.slope) * b.rounding
        + np.abs(b.slope) * a.rounding
        + 3.0 * EPS * (np.abs(terms[0]) + np.abs(terms[1]))
        + TINY,
    )


def _of_unary(function: Unary, a: Values) -> Values:
    value, first = function.value(a.value), function.first(a.value)
    # Nothing is added to a second derivative that is infinite where nothing is off.
    second = np.where(a.rounding == 0.0, 0.0, function.second(a.value))
    slope = np.where(a.slope == 0.0, 0.0, first * a.slope)
    return Values(
        value,
        slope,
        np.where(a.rounding == 0.0, 0.0, np.abs(first) * a.rounding)
        + 0.5 * np.abs(second) * a.rounding**2
        + function.ulps * EPS * np.abs(value)
        + TINY,
        np.where(a.slope_rounding == 0.0, 0.0, np.abs(first) * a.slope_rounding)
        + np.abs(second) * np.abs(a.slope) * a.rounding
        + COMPLEX * EPS * np.abs(slope)
        + TINY,
    )
