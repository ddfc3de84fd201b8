"""The finite difference methods: their points and weights."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from accelnn._shown import shown

__all__ = [
    "DIFFERENCES",
    "HIGHEST_ORDER",
    "METHODS",
    "Method",
    "find_method",
    "gain",
    "slopes",
    "weights",
]

HIGHEST_ORDER = 4


@dataclass(frozen=True)
class Method:
    """A finite difference of any order.

    Attributes
    ----------
    side : {0, 1, -1}
        Whether its points lie on both sides of x, above it or below it.
    accuracy : int
        The order of accuracy: the truncation error is O(h**accuracy).
    is_imaginary : bool
        Whether the first derivative is a complex step, and higher ones are differences of that.
    is_extrapolated : bool
        Whether differences are extrapolated to step 0.
    """

    side: int
    accuracy: int
    is_imaginary: bool = False
    is_extrapolated: bool = False

    @functools.cache  # noqa: B019 - there are a handful of methods and of orders
    def points(self, order: int) -> np.ndarray:
        """Return the points of a derivative in units of the step, without x itself.

        Order 0 has x as its only point.
        """
        if order == 0:
            return np.zeros(1)
        if self.side:
            return self.side * np.arange(1.0, order + self.accuracy)
        half = (order + 1) // 2 + self.accuracy // 2 - 1
        upward = np.arange(1.0, half + 1)
        return np.stack([upward, -upward], axis=1).reshape(-1)

    def takes_base(self, order: int) -> bool:
        """Return whether a derivative of that order uses f(x)."""
        return self.side != 0 or order % 2 == 0

    def balance(self, order: int) -> float:
        """Return the power of machine epsilon that balances truncation and rounding errors."""
        return 1.0 / (self.real_order(order) + self.accuracy)

    def real_order(self, order: int) -> int:
        """Return the order of the differences, which a complex step reduces by one."""
        return order - 1 if self.is_imaginary else order

    def turned(self, side: int) -> Method:
        """Return the one-sided difference of the same accuracy."""
        return Method(side, self.accuracy)


METHODS = {
    "central": Method(0, 2),
    "central4": Method(0, 4),
    "forward": Method(1, 1),
    "backward": Method(-1, 1),
    "complex": Method(0, 2, is_imaginary=True),
    "richardson": Method(0, 2, is_extrapolated=True),
}


def find_method(name: str, known: Iterable[str] = METHODS) -> Method:
    """Return a method by name, or raise a ValueError that lists the known ones."""
    if name not in known:
        msg = f"unknown method {shown(name)}; known methods are {', '.join(map(repr, known))}"
        raise ValueError(msg)
    return METHODS[name]


def slopes(
    values: np.ndarray, base: np.ndarray, taken: np.ndarray, method: Method, order: int
) -> np.ndarray:
    """Return derivatives of shape (k, q).

    Parameters
    ----------
    values : numpy.ndarray of shape (k, p, q)
        f at the points of the method.
    base : numpy.ndarray of shape (q,) or (k, q)
        f(x).
    taken : numpy.ndarray of shape (k, p)
        The signed distances of the points from x, after rounding.
    """
    if order == 0:
        return values[:, 0]
    has_base = method.takes_base(order)
    with np.errstate(all="ignore"):
        if taken.shape[1] + has_base == 2:  # noqa: PLR2004 - a quotient rounds less than a sum
            below, start = (base, 0.0) if has_base else (values[:, 1], taken[:, 1])
            quotient: np.ndarray = (values[:, 0] - below) / (taken[:, 0] - start)[:, None]
            return quotient
        rises = values - base[..., None, :] if has_base else values
        factors = weights(taken, order, has_base=has_base)[:, : taken.shape[1]]
        total: np.ndarray = np.einsum("kp,kpq->kq", factors, rises)
        return total


def gain(taken: np.ndarray, method: Method, order: int) -> np.ndarray:
    """Return half the largest error of each derivative if every value is off by one."""
    has_base = method.takes_base(order)
    if taken.shape[1] + has_base == 2:  # noqa: PLR2004 - as in `slopes`
        width: np.ndarray = np.abs(taken[:, 0] - (0.0 if has_base else taken[:, 1]))
        return 1.0 / width
    half: np.ndarray = 0.5 * np.abs(weights(taken, order, has_base=has_base)).sum(axis=1)
    return half


def weights(taken: np.ndarray, order: int, *, has_base: bool) -> np.ndarray:
    """Return the weights of the values in a derivative, that of f(x) last.

    References
    ----------
    B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
    Mathematics of Computation 51 (1988).
    """
    unit = np.abs(taken).max(axis=1, keepdims=True)
    nodes = taken / unit
    if has_base:
        nodes = np.concatenate([nodes, np.zeros_like(unit)], axis=1)
    # The last axis holds derivatives of order 0 and up, each computed from the one before.
    orders = np.arange(order + 1)
    found = np.zeros((*nodes.shape, order + 1), nodes.dtype)
    found[:, 0, 0] = 1.0
    before = np.ones_like(unit)
    for n in range(1, nodes.shape[1]):
        node, product = nodes[:, n, None], np.ones_like(unit)
        last, last_node = found[:, n - 1].copy(), nodes[:, n - 1, None]
        for i in range(n):
            apart = node - nodes[:, i, None]
            product *= apart
            lower = orders * np.roll(found[:, i], 1, axis=1)
            found[:, i] = (node * found[:, i] - lower) / apart
        lower = orders * np.roll(last, 1, axis=1)
        found[:, n] = before / product * (lower - last_node * last)
        before = product
    scaled: np.ndarray = found[:, :, order] / unit**order
    return scaled


def _change_terms(method: Method) -> tuple[tuple[float, float], ...]:
    points = method.points(1)
    # The weights sum to 0, so f(x) cancels out of a sum of changes.
    (factors,) = weights(points[None], 1, has_base=method.takes_base(1))
    return tuple(zip(points.tolist(), factors.tolist(), strict=False))


# The methods of the engines' structured differences: h times the derivative is the sum of
# weight * (f(x + point * h) - f(x)) over these (point, weight) pairs. Kernels take at most two.
DIFFERENCES = {name: _change_terms(METHODS[name]) for name in ("central", "forward", "backward")}
