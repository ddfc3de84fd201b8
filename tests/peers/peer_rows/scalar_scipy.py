"""Functions of one variable from SciPy's tests and reports, distributions among them."""

import math

import numpy as np

from peer_rows import sources
from peer_rows._row import Derivative


def within_two(x):
    return np.where((x < 0.0) | (x > 2.0), np.nan, np.exp(x))


def normal_cdf(x):
    from scipy.special import ndtr

    return ndtr(x)


def normal_density(x):
    return np.exp(-(np.asarray(x) ** 2) / 2) / math.sqrt(2 * math.pi)


def _scipy():
    yield Derivative(
        "sinh-1", np.sinh, 1.0, (math.cosh(1), math.sinh(1)) * 2, sources.SCIPY_NUMDIFF
    )
    yield Derivative(
        "sinh-1-step-1.49e-8",
        np.sinh,
        1.0,
        (math.cosh(1),),
        sources.SCIPY_NUMDIFF,
        options={"step": 1.49e-8},
    )
    for dtype, epsilon in (("float16", 2.0**-10), ("float32", 2.0**-23), ("float64", 2.0**-52)):
        yield Derivative(
            f"sin-one-{dtype}",
            np.sin,
            np.array(1.0, dtype),
            (math.cos(1),),
            sources.SCIPY_NUMDIFF,
            epsilon=epsilon,
        )
        x = np.array(0.65, dtype)
        yield Derivative(
            f"exp-0.65-{dtype}",
            np.exp,
            x,
            (math.exp(float(x)),),
            sources.SCIPY_DIFFERENTIATE,
            epsilon=epsilon,
        )
    x = np.array([0.65, 0.7])
    yield Derivative("exp-0.65-0.7", np.exp, x, (np.exp(x),) * 4, sources.SCIPY_DIFFERENTIATE)
    for name, x in (("0.6", 0.6), ("10-points", np.linspace(-0.05, 1.05, 10))):
        p = normal_density(x)
        yield Derivative(
            f"ndtr-{name}",
            normal_cdf,
            x,
            (p, -x * p, (np.asarray(x) ** 2 - 1) * p, (3 * x - np.asarray(x) ** 3) * p),
            sources.SCIPY_DIFFERENTIATE,
        )
    at_zero = {
        "x": (lambda x: x, 1.0),
        "sin3x": (lambda x: np.sin(3 * x), 3.0),
        "x+sin10x": (lambda x: x + np.sin(10 * x), 11.0),
        "sin20x(x-1)^2": (lambda x: np.sin(20 * x) * (x - 1) ** 2, 20.0),
    }
    for name, (f, right) in at_zero.items():
        yield Derivative(f"{name}-0", f, 0.0, (right,), sources.SCIPY_DIFFERENTIATE, radius=0.25)
    x = np.linspace(0.0, 2.0, 10)
    yield Derivative(
        "exp-nan-outside-0-2-inside",
        within_two,
        x[1:-1],
        (np.exp(x[1:-1]),),
        sources.SCIPY_DIFFERENTIATE,
        radius=0.2,
        smooth=np.exp,
        complex_steps=False,
    )
    for p in (2, 3):
        x = np.array([[1.0], [2.0], [3.0], [4.0]])
        yield Derivative(
            f"power-{p}-column",
            lambda x, p=p: x**p,
            x,
            (p * x ** (p - 1), p * (p - 1) * x ** (p - 2)),
            sources.SCIPY_DIFFERENTIATE,
        )
    yield Derivative(
        "x^99-1-integer-7",
        lambda x: x**99 - 1,
        7,
        (99 * 7.0**98,),
        sources.SCIPY_DIFFERENTIATE,
        radius=0.5,
    )
    for n in range(6):
        right = tuple(
            2.0 * math.perm(n, k) * 1.5 ** (n - k) if k <= n else 0.0 for k in range(1, 5)
        )
        if n:
            yield Derivative(
                f"2x^{n}-1.5", lambda x, n=n: 2 * x**n, 1.5, right, sources.SCIPY_DIFFERENTIATE
            )
    yield Derivative(
        "constant-of-shape-1.5",
        lambda x: 2 * x**0,
        1.5,
        (0.0, 0.0, 0.0, 0.0),
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Derivative(
        "3x-1-integer-2", lambda x: 3 * x - 1, 2, (3.0, 0.0), sources.SCIPY_DIFFERENTIATE
    )
    yield Derivative(
        "saddle-(x-1)^3",
        lambda x: (x - 1) ** 3,
        1.0,
        (0.0, 0.0, 6.0, 0.0),
        sources.pull("scipy/scipy", 18811),
    )
    yield Derivative(
        "saddle-of-two-pieces",
        lambda x: np.where(x > 1, (x - 1) ** 5, (x - 1) ** 3),
        1.0,
        (0.0,),
        sources.pull("scipy/scipy", 18811),
        # Not analytic at 1: the larger of the two pieces within the radius bounds all differences.
        size=1.0,
        complex_steps=False,
    )
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    yield Derivative(
        "x^3-five-points",
        lambda x: x**3,
        x,
        (3 * x**2, 6 * x, np.full(5, 6.0), np.zeros(5)),
        sources.issue("scipy/scipy", 13994),
    )
    for x in (1e-5, 0.5):
        yield Derivative(
            f"relu-{x:g}",
            lambda x: np.maximum(0.0, x),
            x,
            (1.0,),
            sources.issue("scipy/scipy", 12887),
            radius=0.9 * x,
            smooth=lambda x: x,
            complex_steps=False,
        )


def _distributions():
    """Cumulative distributions near their medians, and densities by hand (`test_accuracy`)."""
    table = {
        "logistic": (
            lambda x: 1 / (1 + np.exp(-x)),
            0.1,
            math.exp(-0.1) / (1 + math.exp(-0.1)) ** 2,
        ),
        "exponential": (
            lambda x: 1 - np.exp(-x),
            math.log(2) + 0.1,
            math.exp(-math.log(2) - 0.1),
        ),
        "cauchy": (lambda x: 0.5 + np.arctan(x) / np.pi, 0.1, 1 / (math.pi * 1.01)),
        "gumbel": (
            lambda x: np.exp(-np.exp(-x)),
            0.5,
            math.exp(-0.5 - math.exp(-0.5)),
        ),
        "rayleigh": (lambda x: 1 - np.exp(-(x**2) / 2), 1.2, 1.2 * math.exp(-0.72)),
        "weibull": (
            lambda x: 1 - np.exp(-(x**1.79)),
            0.9,
            1.79 * 0.9**0.79 * math.exp(-(0.9**1.79)),
        ),
        "pareto": (lambda x: 1 - x**-2.62, 1.4, 2.62 * 1.4**-3.62),
        "hyperbolic-secant": (
            lambda x: 2 / np.pi * np.arctan(np.exp(x)),
            0.1,
            1 / (math.pi * math.cosh(0.1)),
        ),
        "arcsine": (
            lambda x: 2 / np.pi * np.arcsin(np.sqrt(x)),
            0.6,
            1 / (math.pi * math.sqrt(0.24)),
        ),
        "kumaraswamy": (
            lambda x: 1 - (1 - x**2) ** 3,
            0.5,
            3 * 2 * 0.5 * 0.75**2,
        ),
        "fisk": (lambda x: 1 / (1 + x**-3.09), 1.1, 3.09 * 1.1**2.09 / (1 + 1.1**3.09) ** 2),
        "power-law": (lambda x: x**1.66, 0.76, 1.66 * 0.76**0.66),
        "gompertz": (
            lambda x: 1 - np.exp(-0.947 * np.expm1(x)),
            0.6,
            0.947 * math.exp(0.6 - 0.947 * math.expm1(0.6)),
        ),
        "inverse-weibull": (
            lambda x: np.exp(-(x**-10.58)),
            1.1,
            10.58 * 1.1**-11.58 * math.exp(-(1.1**-10.58)),
        ),
    }
    radii = {"weibull": 0.7, "arcsine": 0.3, "kumaraswamy": 0.4, "fisk": 0.5, "power-law": 0.6}
    for name, (f, x, right) in table.items():
        yield Derivative(
            f"cdf-{name}",
            f,
            x,
            (right,),
            sources.SCIPY_DIFFERENTIATE,
            radius={"cauchy": 0.9, "inverse-weibull": 0.3}.get(name, radii.get(name, 0.9)),
        )


ROWS = [
    *_scipy(),
    *_distributions(),
]
