"""Functions with known derivatives, well and badly behaved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["DERIVATIVE_CASES", "DerivativeCase"]

Elementwise = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DerivativeCase:
    """A function of one variable, its derivative, and a point.

    Attributes
    ----------
    name : str
        The formula of f.
    f, derivative : callable
        Elementwise functions.
    x : float
        The point.
    is_analytic : bool
        Whether f is analytic and takes complex numbers.
    noise : float
        The relative error of f beyond the rounding of float64.
    kink : float
        The distance to the nearest point where f is not smooth; infinite if there is none.
    is_special : bool
        Whether the case is about this x only, and not about points near it.
    """

    name: str
    f: Elementwise
    derivative: Elementwise
    x: float
    is_analytic: bool = True
    noise: float = 0.0
    kink: float = np.inf
    is_special: bool = False

    def points(self, count: int) -> np.ndarray:
        """Return `count` points within 5 % of x, or x alone if the case is about that point."""
        if self.is_special or np.isfinite(self.kink):
            return np.array([self.x])
        draw = np.random.default_rng(0)
        return self.x * (1.0 + 0.05 * draw.uniform(-1.0, 1.0, count))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = 1.0 / (1.0 + np.exp(-x))
    return y


def _noisy(x: np.ndarray) -> np.ndarray:
    # Deterministic, but as irregular as noise.
    y: np.ndarray = np.sin(x) * (1.0 + 1e-9 * np.sin(1e9 * x))
    return y


def _single(x: np.ndarray) -> np.ndarray:
    return np.exp(np.asarray(x, np.float32)).astype(np.float64)


DERIVATIVE_CASES = (
    DerivativeCase("exp(x)", np.exp, np.exp, 1.0),
    DerivativeCase("sin(x)", np.sin, np.cos, 1.0),
    DerivativeCase("cos(x), x = 1e5", np.cos, lambda x: -np.sin(x), 1e5),
    DerivativeCase("x^5", lambda x: x**5, lambda x: 5.0 * x**4, 2.0),
    DerivativeCase("x^20", lambda x: x**20, lambda x: 20.0 * x**19, 1.1),
    DerivativeCase("3x", lambda x: 3.0 * x, lambda x: 3.0 + 0.0 * x, 0.7),
    DerivativeCase("1 / x", lambda x: 1.0 / x, lambda x: -1.0 / x**2, 0.1),
    DerivativeCase("1 / x, x = 1e-6", lambda x: 1.0 / x, lambda x: -1.0 / x**2, 1e-6),
    DerivativeCase(
        "1 / (x - 1), x = 1.001",
        lambda x: 1 / (x - 1),
        lambda x: -1 / (x - 1) ** 2,
        1.001,
        is_special=True,
    ),
    DerivativeCase("log(x), x = 1e-3", np.log, lambda x: 1.0 / x, 1e-3),
    DerivativeCase("log(1 + x), x = 1e-6", np.log1p, lambda x: 1.0 / (1.0 + x), 1e-6),
    DerivativeCase("sqrt(x), x = 1e-4", np.sqrt, lambda x: 0.5 / np.sqrt(x), 1e-4),
    DerivativeCase("tanh(x)", np.tanh, lambda x: 1.0 / np.cosh(x) ** 2, 0.5),
    DerivativeCase("sigmoid(x)", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), -3.0),
    DerivativeCase("arctan(x), x = 10", np.arctan, lambda x: 1.0 / (1.0 + x**2), 10.0),
    DerivativeCase("exp(-x^2)", lambda x: np.exp(-(x**2)), lambda x: -2 * x * np.exp(-(x**2)), 1.5),
    DerivativeCase(
        "1 / (1 + 25 x^2)",
        lambda x: 1 / (1 + 25 * x**2),
        lambda x: -50 * x / (1 + 25 * x**2) ** 2,
        0.2,
    ),
    DerivativeCase("sin(100 x)", lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x), 0.3),
    DerivativeCase("sin(1000 x)", lambda x: np.sin(1e3 * x), lambda x: 1e3 * np.cos(1e3 * x), 0.7),
    DerivativeCase("exp(20 x)", lambda x: np.exp(20 * x), lambda x: 20 * np.exp(20 * x), 0.5),
    DerivativeCase(
        "x sin(1 / x)",
        lambda x: x * np.sin(1 / x),
        lambda x: np.sin(1 / x) - np.cos(1 / x) / x,
        0.05,
    ),
    DerivativeCase("cosh(x)", np.cosh, np.sinh, 3.0),
    DerivativeCase(
        "x^x",
        lambda x: np.exp(x * np.log(x)),
        lambda x: np.exp(x * np.log(x)) * (1 + np.log(x)),
        2.0,
    ),
    DerivativeCase("1e8 + x^2", lambda x: 1e8 + x**2, lambda x: 2.0 * x, 1.0),
    DerivativeCase("1e-8 exp(x)", lambda x: 1e-8 * np.exp(x), lambda x: 1e-8 * np.exp(x), 0.3),
    DerivativeCase(
        "sin(x / 1e8), x = 1e8", lambda x: np.sin(x / 1e8), lambda x: np.cos(x / 1e8) / 1e8, 1e8
    ),
    DerivativeCase("x^2, x = 1e-8", lambda x: x**2, lambda x: 2.0 * x, 1e-8),
    DerivativeCase("cos(x), x = 0", np.cos, lambda x: -np.sin(x), 0.0, is_special=True),
    DerivativeCase(
        "log(x + sqrt(x^2 + 1))",
        lambda x: np.log(x + np.sqrt(x**2 + 1)),
        lambda x: 1 / np.sqrt(x**2 + 1),
        2.0,
    ),
    DerivativeCase(
        "sin(x)^3 cos(x)",
        lambda x: np.sin(x) ** 3 * np.cos(x),
        lambda x: 3 * np.sin(x) ** 2 * np.cos(x) ** 2 - np.sin(x) ** 4,
        0.8,
    ),
    DerivativeCase(
        "exp(sin(10 x))",
        lambda x: np.exp(np.sin(10 * x)),
        lambda x: 10 * np.cos(10 * x) * np.exp(np.sin(10 * x)),
        0.4,
    ),
    DerivativeCase(
        "|x|^3, x = 0.5",
        lambda x: np.abs(x) ** 3,
        lambda x: 3 * x * np.abs(x),
        0.5,
        is_analytic=False,
        kink=0.5,
    ),
    DerivativeCase(
        "|x - 1|, x = 1.01",
        lambda x: np.abs(x - 1),
        lambda x: np.sign(x - 1),
        1.01,
        is_analytic=False,
        kink=0.01,
    ),
    DerivativeCase(
        "max(x, 0)^2, x = 0.01",
        lambda x: np.maximum(x, 0) ** 2,
        lambda x: 2 * np.maximum(x, 0),
        0.01,
        is_analytic=False,
        kink=0.01,
    ),
    DerivativeCase(
        "x |x|, x = 0",
        lambda x: x * np.abs(x),
        lambda x: 2 * np.abs(x),
        0.0,
        is_analytic=False,
        kink=0.0,
    ),
    DerivativeCase("sin(x) with noise of 1e-9", _noisy, np.cos, 0.9, noise=1e-9, is_analytic=False),
    DerivativeCase("exp(x) in float32", _single, np.exp, 0.5, noise=6e-8, is_analytic=False),
)
"""Functions on which finite differences do well, do badly, or fail."""
