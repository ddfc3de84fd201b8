"""Reference implementations of all formulas, in float64 or longer, written independently.

Conformance, engine and CUDA tests use these tables, with one row for each formula of
`accelnn.formulas._table`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "ACTIVATION_ROWS",
    "LOSS_ROWS",
    "RULE_ROWS",
    "ActivationRow",
    "LossRow",
    "far_changes",
    "far_moves",
]

Array = np.ndarray
Numbers = tuple[float, float, float, float]

POINTS = 64


def _gauss_legendre() -> tuple[Array, Array]:
    """Return the nodes and weights of Gauss-Legendre quadrature on [0, 1], in long double."""
    x: Array = np.polynomial.legendre.leggauss(POINTS)[0].astype(np.longdouble)
    for _ in range(2):
        before: Array = np.ones_like(x)
        value: Array = x
        for k in range(2, POINTS + 1):
            before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
        slope = POINTS * (before - x * value) / (1 - x * x)
        x, weights = x - value / slope, 1 / ((1 - x * x) * slope**2)
    return (x + 1) / 2, weights


NODES, WEIGHTS = _gauss_legendre()


@dataclass(frozen=True)
class ActivationRow:
    """The reference of an activation.

    Attributes
    ----------
    value, slope : callable
        Functions of an array.
    change : callable, optional
        ``change(x, d)``; by default the integral of the slope.
    at_ends : tuple of float
        Value and slope at -inf, and at inf.
    terms : callable, optional
        The sum of the magnitudes of the slope's terms, which scales its rounding error where they
        cancel.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    at_ends: tuple[tuple[float, float], tuple[float, float]]
    change: Callable[[Array, Array], Array] | None = None
    terms: Callable[[Array], Array] | None = None

    def change_of(self, x: Array, d: Array) -> Array:
        """Return f(x + d) - f(x)."""
        return self.change(x, d) if self.change is not None else _integral(self.slope, x, d)

    def size_of_slope(self, x: Array) -> Array:
        """Return the scale of the slope's rounding error, besides the slope itself."""
        return np.zeros_like(x) if self.terms is None else self.terms(x)

    def size_of_change(self, x: Array, d: Array) -> Array:
        """Return the scale of a change's rounding error, besides the change itself."""
        return np.asarray(np.abs(_integral(self.size_of_slope, x, d)))


def _integral(f: Callable[[Array], Array], x: Array, d: Array) -> Array:
    moved = x[..., None] + d[..., None] * NODES
    return np.asarray(d * (f(moved) * WEIGHTS).sum(axis=-1))


def _logistic(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


_erfc = np.vectorize(math.erfc, otypes=[float])


def _normal(x: Array) -> Array:
    if np.size(x) == 0:
        return np.zeros_like(x)
    z = -x / np.sqrt(np.asarray(2.0, x.dtype))
    # The first-order correction for rounding the argument to double precision.
    rounded = np.asarray(z, float)
    lost = (z - rounded) * np.exp(-(z**2)) * (2.0 / math.sqrt(math.pi))
    return np.asarray(0.5 * (_erfc(rounded) - lost))


def _density(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def _kinked(below: float) -> Callable[[Array, Array], Array]:
    """Return the change of a function with slope 1 above 0 and `below` below 0, piecewise."""

    def change(x: Array, d: Array) -> Array:
        y = x + d
        low, high = np.minimum(x, y), np.maximum(x, y)
        above = np.where(low > 0, np.abs(d), np.maximum(high, 0))
        beneath = np.where(high <= 0, np.abs(d), np.maximum(-low, 0))
        return np.asarray(np.sign(d) * (above + below * beneath))

    return change


def _elu_change(x: Array, d: Array) -> Array:
    up, down = np.maximum(x, 0), np.minimum(x, 0)
    y = x + d
    linear = np.where((x > 0) & (y > 0), d, np.maximum(y, 0) - up)
    bent = np.where(
        (x <= 0) & (y <= 0),
        np.exp(down) * np.expm1(np.where(y <= 0, d, 0)),
        np.expm1(np.minimum(y, 0)) - np.expm1(down),
    )
    return np.asarray(linear + bent)


ACTIVATION_ROWS = {
    "sigmoid": ActivationRow(
        _logistic,
        lambda x: _logistic(x) * _logistic(-x),
        ((0.0, 0.0), (1.0, 0.0)),
        lambda x, d: np.sinh(d / 2) / (2 * np.cosh(x / 2) * np.cosh((x + d) / 2)),
    ),
    "relu": ActivationRow(
        lambda x: np.asarray(x * (x > 0)),
        lambda x: np.asarray((x > 0) * 1.0),
        ((0.0, 0.0), (math.inf, 1.0)),
        _kinked(0.0),
    ),
    "tanh": ActivationRow(
        lambda x: np.asarray(np.sinh(np.clip(x, -99, 99)) / np.cosh(np.clip(x, -99, 99))),
        lambda x: np.asarray(np.cosh(x) ** -2.0),
        ((-1.0, 0.0), (1.0, 0.0)),
        lambda x, d: np.sinh(d) / (np.cosh(x) * np.cosh(x + d)),
    ),
    "leaky_relu": ActivationRow(
        lambda x: np.asarray(np.maximum(x, 0) + 0.01 * np.minimum(x, 0)),
        lambda x: np.asarray(0.01 + 0.99 * (x > 0)),
        ((-math.inf, 0.01), (math.inf, 1.0)),
        _kinked(0.01),
    ),
    "elu": ActivationRow(
        lambda x: np.asarray(np.maximum(x, 0) + np.expm1(np.minimum(x, 0))),
        lambda x: np.asarray(np.exp(np.minimum(x, 0))),
        ((-1.0, 0.0), (math.inf, 1.0)),
        _elu_change,
    ),
    "gelu": ActivationRow(
        lambda x: np.asarray(x * _normal(x)),
        lambda x: np.asarray(_normal(x) + x * _density(x)),
        ((-0.0, 0.0), (math.inf, 1.0)),
        terms=lambda x: np.asarray(_normal(x) + np.abs(x) * _density(x)),
    ),
    "silu": ActivationRow(
        lambda x: np.asarray(x / (1.0 + np.exp(-x))),
        lambda x: np.asarray(_logistic(x) * (1.0 + x * _logistic(-x))),
        ((-0.0, 0.0), (math.inf, 1.0)),
        terms=lambda x: np.asarray(_logistic(x) * (1.0 + np.abs(x) * _logistic(-x))),
    ),
    "softplus": ActivationRow(
        lambda x: np.asarray(np.logaddexp(0.0, x)),
        _logistic,
        ((0.0, 0.0), (math.inf, 1.0)),
    ),
    "identity": ActivationRow(
        lambda x: x,
        np.ones_like,
        ((-math.inf, 1.0), (math.inf, 1.0)),
        lambda x, d: d + 0.0 * x,
    ),
}


def far_moves(dtype: str) -> tuple[Array, Array]:
    """Return points from 1e-3 to 1e6, and moves of any such size: away, back, and across 0."""
    draw, count = np.random.default_rng(0), 4000
    x, d = (
        draw.choice([-1.0, 1.0], count) * 10.0 ** draw.uniform(-3.0, 6.0, count) for _ in range(2)
    )
    d[::2] = -x[::2] * draw.uniform(0.1, 3.0, count // 2)
    return x.astype(dtype), d.astype(dtype)


def far_changes(
    row: ActivationRow, x: Array, d: Array, smallest: float | None = None
) -> tuple[Array, Array]:
    """Return differences of values in extended precision, and what rounding may do to them.

    Two values are rounded, each to a few units, and so is x + d before. Changes are too large for
    the difference itself to lose digits, or else the allowance covers it. `smallest` is the least
    positive number of the device, by default the smallest subnormal number of the dtype.
    """
    x_long = x.astype(np.longdouble)
    z = x_long + d
    with np.errstate(over="ignore"):
        before, after = row.value(x_long), row.value(z)
        slope = np.abs(row.slope(z)) + row.size_of_slope(z)
    size = np.maximum(np.abs(before), np.abs(after)) + np.abs(z) * slope
    finfo = np.finfo(x.dtype)
    # A factor that is a subnormal number has few digits, or none.
    tiny = 16.0 * (smallest or finfo.smallest_subnormal) * (1.0 + np.abs(x_long))
    return after - before, 8.0 * finfo.eps * size + tiny


@dataclass(frozen=True)
class LossRow:
    """The reference of a loss.

    Attributes
    ----------
    output : callable
        The output function, of scores of shape (n, outputs).
    value : callable
        ``value(scores, t)`` of shape (n,).
    error : callable
        ``error(scores, t)``, the derivative with respect to the scores.
    least_outputs : int
        The smallest number of outputs that it is defined for.
    is_smooth : bool
        Whether its second derivative is continuous.
    """

    output: Callable[[Array], Array]
    value: Callable[[Array, Array], Array]
    error: Callable[[Array, Array], Array]
    least_outputs: int = 1
    is_smooth: bool = True


def _softmax(a: Array) -> Array:
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


LOSS_ROWS = {
    "cross_entropy": LossRow(
        _softmax,
        lambda a, t: -(t * np.log(_softmax(a))).sum(axis=-1),
        lambda a, t: t.sum(axis=-1, keepdims=True) * _softmax(a) - t,
        least_outputs=2,
    ),
    "sum_squared_error": LossRow(
        lambda a: a,
        lambda a, t: ((a - t) ** 2).sum(axis=-1) / 2.0,
        lambda a, t: a - t,
    ),
    "binary_cross_entropy": LossRow(
        _logistic,
        lambda a, t: -(t * np.log(_logistic(a)) + (1 - t) * np.log(_logistic(-a))).sum(axis=-1),
        lambda a, t: _logistic(a) - t,
    ),
    "huber": LossRow(
        lambda a: a,
        lambda a, t: np.where(np.abs(a - t) <= 1.0, 0.5 * (a - t) ** 2, np.abs(a - t) - 0.5).sum(
            axis=-1
        ),
        lambda a, t: np.where(np.abs(a - t) <= 1.0, a - t, np.sign(a - t)),
        is_smooth=False,
    ),
}


def _sgd(p: Array, g: Array, _state: list[Array], _k: int, numbers: Numbers) -> Array:
    return np.asarray(p - numbers[0] * g)


def _momentum(p: Array, g: Array, state: list[Array], _k: int, numbers: Numbers) -> Array:
    state[0][...] = numbers[1] * state[0] + g
    return np.asarray(p - numbers[0] * state[0])


def _nesterov(p: Array, g: Array, state: list[Array], _k: int, numbers: Numbers) -> Array:
    state[0][...] = numbers[1] * state[0] + g
    return np.asarray(p - numbers[0] * (g + numbers[1] * state[0]))


def _adagrad(p: Array, g: Array, state: list[Array], _k: int, numbers: Numbers) -> Array:
    state[0][...] = state[0] + g**2
    return np.asarray(p - numbers[0] * g / (np.sqrt(state[0]) + 1e-10))


def _rmsprop(p: Array, g: Array, state: list[Array], _k: int, numbers: Numbers) -> Array:
    state[0][...] = numbers[2] * state[0] + (1.0 - numbers[2]) * g**2
    return np.asarray(p - numbers[0] * g / (np.sqrt(state[0]) + 1e-8))


def _adam(p: Array, g: Array, state: list[Array], k: int, numbers: Numbers) -> Array:
    lr, beta, _, square = numbers
    state[0][...] = beta * state[0] + (1.0 - beta) * g
    state[1][...] = square * state[1] + (1.0 - square) * g**2
    corrected = np.sqrt(state[1] / (1.0 - square**k))
    return np.asarray(p - lr * (state[0] / (1.0 - beta**k)) / (corrected + 1e-8))


def _adamw(p: Array, g: Array, state: list[Array], k: int, numbers: Numbers) -> Array:
    decayed = p - numbers[0] * 0.01 * p if p.ndim > 1 else p
    return _adam(decayed, g, state, k, numbers)


# Update number k, from 1, of one array by a rule with the coefficients `numbers` and torch's other
# defaults. The state, at most two arrays, is updated in place.
RULE_ROWS: dict[str, Callable[[Any, Any, list[Array], int, Numbers], Array]] = {
    "SGD": _sgd,
    "Momentum": _momentum,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSprop": _rmsprop,
    "Adam": _adam,
    "AdamW": _adamw,
}
