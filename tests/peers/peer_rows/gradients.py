"""Functions with one value: `numerical_gradient`, `numerical_jvp` and `check_gradient`."""

import math

import numpy as np

from peer_rows import sources
from peer_rows._row import Gradient
from peer_rows.functions_of_many import (
    LEAST_SQUARES,
    REGRESSORS,
    RESPONSES,
    beale,
    biggs_2,
    biggs_3,
    biggs_4,
    biggs_5,
    bird,
    bird_gradient,
    bohachevsky_1,
    bohachevsky_2,
    bohachevsky_3,
    box_betts,
    branin,
    branin_gradient,
    himmelblau,
    himmelblau_gradient,
    logit_likelihood,
    logit_score,
    product_and_exponential,
    reciprocal_sum,
    residuals_squared,
    rosenbrock,
    rosenbrock_gradient,
    sine_plus_cosine,
    sine_times_log,
    small_units,
    small_units_gradient,
    sum_of_sines,
    sum_of_squares,
    trapped_ions,
    trapped_ions_gradient,
)


def _minima():
    """Standard minima, where the gradient is zero and nothing but noise is left of a difference."""
    zero_at = {
        "beale": (beale, (3.0, 0.5)),
        "biggs-2": (biggs_2, (1.0, 10.0)),
        "biggs-3": (biggs_3, (1.0, 10.0, 5.0)),
        "biggs-4": (biggs_4, (1.0, 10.0, 1.0, 5.0)),
        "biggs-5": (biggs_5, (1.0, 10.0, 1.0, 5.0, 4.0)),
        "bohachevsky-1": (bohachevsky_1, (0.0, 0.0)),
        "bohachevsky-2": (bohachevsky_2, (0.0, 0.0)),
        "bohachevsky-3": (bohachevsky_3, (0.0, 0.0)),
        "box-betts": (box_betts, (1.0, 10.0, 1.0)),
    }
    for name, (f, x) in zero_at.items():
        # In Python's order of operations the residuals are rounded, not exactly zero.
        yield Gradient(
            f"minimum-{name}", f, np.array(x), np.zeros(len(x)), sources.SCIPY_MINIMA, noise=1.0
        )
    for x in ((-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475)):
        yield Gradient(
            f"minimum-branin-{x[0]:.2f}",
            branin,
            np.array(x),
            branin_gradient(x),
            sources.SCIPY_MINIMA,
            noise=20.0,
        )
    for x in ((4.701055751981055, 3.152946019601391), (-1.582142172055011, -3.130246799635430)):
        yield Gradient(
            f"minimum-bird-{x[0]:.2f}",
            bird,
            np.array(x),
            bird_gradient(x),
            sources.SCIPY_MINIMA,
            noise=110.0,
        )
    for n in (2, 5):
        yield Gradient(
            f"minimum-rosenbrock-{n}",
            rosenbrock,
            np.ones(n),
            np.zeros(n),
            sources.SCIPY_DIFFERENTIATE,
        )
    himmel = sources.issue("scipy/scipy", 19024)
    yield Gradient("minimum-himmelblau", himmelblau, np.array([3.0, 2.0]), np.zeros(2), himmel)
    yield Gradient(
        "himmelblau-ones-float32",
        himmelblau,
        np.ones(2, np.float32),
        himmelblau_gradient((1, 1)),
        himmel,
    )
    for x in ((1.0, 1.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)):
        yield Gradient(
            f"himmelblau-{x[0]:g}", himmelblau, np.array(x), himmelblau_gradient(x), himmel
        )


def _scipy():
    yield Gradient(
        "sin(xy)log(x)",
        sine_times_log,
        np.array([100.0, -0.5]),
        [-2.219292643914568292433914, 444.3832784903215160586116],
        sources.SCIPY_NUMDIFF,
        # The phase of the sine has units in the last place of 50.
        radius=np.array([2.0, 0.02]),
        noise=400.0,
    )
    yield Gradient(
        "sin(xy)log(x)-step",
        sine_times_log,
        np.array([100.0, -0.5]),
        [-2.219292643914568292433914, 444.3832784903215160586116],
        sources.SCIPY_NUMDIFF,
        radius=np.array([2.0, 0.02]),
        noise=400.0,
        options={"step": 1.49e-8},
    )
    x = np.array([0.8, 0.1, 0.4, 0.7, 0.3])
    yield Gradient(
        "rosenbrock-5", rosenbrock, x, rosenbrock_gradient(x), sources.SCIPY_DIFFERENTIATE
    )
    yield Gradient(
        "two-kinks-beside",
        lambda x: -np.abs(x[0] + 1) + np.abs(x[1] + 1),
        np.array([-1.5, -0.25]),
        [1.0, 1.0],
        sources.issue("scipy/scipy", 12487),
        radius=0.4,
        smooth=lambda x: x[0] + x[1] + 2.0,
        complex_steps=False,
    )
    yield Gradient(
        "approx-fprime-of-the-manual",
        lambda x, c0, c1: c0 * x[0] ** 2 + c1 * x[1] ** 2,
        np.ones(2),
        [2.0, 400.0],
        sources.issue("scipy/scipy", 20566),
        options={"args": (1, 200)},
        smooth=lambda x: x[0] ** 2 + 200 * x[1] ** 2,
    )
    yield Gradient(
        "kwargs",
        lambda x, a, b=1: b * a * x[0] * x[0] * x[0],
        np.array([1.0]),
        [6.0],
        sources.NUMDIFFTOOLS,
        options={"args": (1.0,), "kwargs": {"b": 2}},
        smooth=lambda x: 2 * x[0] ** 3,
    )
    yield Gradient(
        "kwargs-0",
        lambda x, a, b=1: b * a * x[0] * x[0] * x[0],
        np.array([0.0]),
        [0.0],
        sources.NUMDIFFTOOLS,
        options={"args": (1.0,), "kwargs": {"b": 2}},
        smooth=lambda x: 2 * x[0] ** 3,
    )
    yield Gradient(
        "black-box",
        lambda x: np.sin(x[0]) + 5 * x[1] + np.log10(x[2]),
        np.array([2.0, 3.0, 4.0]),
        [math.cos(2.0), 5.0, 1 / (4.0 * math.log(10.0))],
        sources.issue("scipy/scipy", 22119),
    )
    yield Gradient(
        "float32-square-of-float64",
        lambda x: np.float32(x[0]) * np.float32(x[0]),
        np.array([1.0]),
        [2.0],
        sources.issue("scipy/scipy", 17636),
        smooth=lambda x: x[0] ** 2,
        complex_steps=False,
        epsilon=2.0**-23,
    )
    yield Gradient(
        "logistic-1.5",
        lambda x: 1 / (1 + np.exp(-x[0])),
        np.array([1.5]),
        [0.14914645207033286],
        sources.SCIPY_CHECK_GRAD,
    )


def _numdifftools():
    for x in ([1, 2, 3], [1.0, 2.0, 3.0]):
        yield Gradient(
            f"squares-list-{type(x[0]).__name__}",
            sum_of_squares,
            x,
            [2.0, 4.0, 6.0],
            sources.NUMDIFFTOOLS,
        )
    yield Gradient(
        "xyz+exp",
        product_and_exponential,
        np.array([3.0, 5.0, 7.0]),
        [135.42768461593835, 41.08553692318767, 15.0],
        sources.NUMDIFFTOOLS,
    )
    yield Gradient(
        "bicomplex",
        reciprocal_sum,
        np.array([1.0, 2.0]),
        [-0.017961123762187736, 0.006008208364882199],
        sources.NUMDIFFTOOLS,
    )
    yield Gradient(
        "rosenbrock-2-3",
        rosenbrock,
        np.array([2.0, 3.0]),
        rosenbrock_gradient((2, 3)),
        sources.NUMDIFFTOOLS,
    )
    yield Gradient(
        "trapped-ions",
        trapped_ions,
        np.array([-3e-6, 3e-6]),
        trapped_ions_gradient((-3e-6, 3e-6)),
        sources.NUMDIFFTOOLS_HAMILTONIAN,
        radius=2.5e-6,
    )
    yield Gradient(
        "small-units",
        small_units,
        np.array([-3e-6, 3e-6]),
        small_units_gradient((-3e-6, 3e-6)),
        sources.NUMDIFFTOOLS_HAMILTONIAN,
        radius=2.5e-6,
    )
    # Denormals beside ones: hypothesis found this one.
    x = np.array([1.2009289063e-314, 16.003907623933742, 68.02057249966789])
    yield Gradient(
        "denormal-and-large",
        lambda x: x[0] + x[1] ** 2 + x[2] ** 3,
        x,
        [1.0, 2 * x[1], 3 * x[2] ** 2],
        sources.NUMDIFFTOOLS,
        radius=np.array([1.0, 8.0, 30.0]),
    )


def _julia():
    x = np.array([0.3, 0.8])
    yield Gradient("2x+y^2", lambda x: 2 * x[0] + x[1] ** 2, x, [2.0, 1.6], sources.FINITE_DIFF)
    yield Gradient(
        "quadratic-at-minimum-100-50",
        lambda x: (100.0 - x[0]) ** 2 + (50.0 - x[1]) ** 2,
        np.array([100.0, 50.0]),
        [0.0, 0.0],
        sources.CALCULUS_DERIVATIVE,
    )
    for x in ((0.0, 0.0), (1.0, 1.0)):
        yield Gradient(
            f"sin+cos-{x[0]:g}",
            sine_plus_cosine,
            np.array(x),
            [math.cos(x[0]), -math.sin(x[1])],
            sources.CALCULUS,
        )
    x = np.array([-0.7, 1.9])
    yield Gradient(
        "sin+cos-normal",
        sine_plus_cosine,
        x,
        [math.cos(-0.7), -math.sin(1.9)],
        sources.FINITE_DIFFERENCES_GRAD,
    )
    v = np.arange(10, 1001) / 10
    yield Gradient(
        "sum-sin-991",
        sum_of_sines,
        v,
        np.cos(v),
        sources.pull("FluxML/Zygote.jl", 464),
        size=991.0 * math.cosh(1.0),
    )
    # The maximum of two that are 1e-6 apart: x^(1/3) of epsilon is six times as far.
    yield Gradient(
        "maximum-of-near-ties",
        np.max,
        np.array([1e-6, 0.0]),
        [1.0, 0.0],
        sources.issue("JuliaDiff/FiniteDifferences.jl", 53),
        radius=0.9e-6,
        smooth=lambda x: x[0],
        complex_steps=False,
    )
    yield Gradient(
        "maximum-of-far",
        np.max,
        np.array([1.0, 0.0]),
        [1.0, 0.0],
        sources.issue("JuliaDiff/FiniteDifferences.jl", 53),
        radius=0.9,
        smooth=lambda x: x[0],
        complex_steps=False,
    )
    yield Gradient(
        "norm-squared-10",
        sum_of_squares,
        np.linspace(0.1, 1.0, 10),
        np.linspace(0.2, 2.0, 10),
        sources.issue("tecosaur/Julia-TTFX-Snippets", 178),
    )


def _statistics():
    yield Gradient(
        "linear-sum",
        lambda beta: np.sum(REGRESSORS @ beta),
        np.ones(3),
        REGRESSORS.sum(0),
        sources.STATSMODELS,
        noise=60.0,
    )
    for name, beta in (("ones", np.ones(3)), ("least-squares", LEAST_SQUARES)):
        yield Gradient(
            f"residuals-{name}",
            residuals_squared,
            beta,
            -2.0 * REGRESSORS.T @ (RESPONSES - REGRESSORS @ beta),
            sources.STATSMODELS,
            noise=60.0,
        )
    beta = np.array([0.25, -0.4, 0.1])
    yield Gradient(
        "logit",
        logit_likelihood,
        beta,
        logit_score(beta),
        sources.STATSMODELS,
        radius=0.5,
        noise=60.0,
    )
    yield Gradient(
        "half-norm-returns-float",
        lambda x: float(np.dot(x, x) / 2.0),
        np.array([1.0]),
        [1.0],
        sources.pull("statsmodels/statsmodels", 3253),
        smooth=lambda x: np.dot(x, x) / 2,
        complex_steps=False,
    )
    x = np.array([1.0, 2.0, 3.0])
    yield Gradient("mean-of-squares", lambda x: np.mean(x**2), x, 2 * x / 3, sources.JACOBI)


def _autograd():
    x = np.array([1.6, -0.6, -0.5, -1.1, 0.9])
    yield Gradient(
        "sum-sin^2", lambda x: np.sum(np.sin(x) ** 2), x, np.sin(2 * x), sources.AUTOGRAD_WRAPPERS
    )
    yield Gradient(
        "five-functions",
        lambda p: p[0] + np.sin(p[1]) + np.cosh(p[2]) + np.cos(p[3]) + np.tan(p[4]),
        np.array([0.5, -0.3, 0.2, -1.1, 0.7]),
        [1.0, math.cos(-0.3), math.sinh(0.2), -math.sin(-1.1), 1 / math.cos(0.7) ** 2],
        sources.AUTOGRAD_WRAPPERS,
        radius=0.8,
    )
    for dtype in ("float16", "float32"):
        y = np.array([[1.5, -0.5], [0.25, 2.0]], dtype)
        yield Gradient(
            f"squares-{dtype}",
            sum_of_squares,
            y,
            2 * y.astype(float),
            sources.AUTOGRAD_WRAPPERS,
            radius=4.0,
        )
    y = np.array([[1.5, -0.5], [0.25, 2.0]])
    yield Gradient(
        "product-of-sines",
        lambda x: np.prod(np.sin(x) + np.sin(x)),
        np.array([0.4, 1.1, -0.7]),
        8
        * np.array(
            [
                math.cos(0.4) * math.sin(1.1) * math.sin(-0.7),
                math.sin(0.4) * math.cos(1.1) * math.sin(-0.7),
                math.sin(0.4) * math.sin(1.1) * math.cos(-0.7),
            ]
        ),
        sources.AUTOGRAD_JACOBIAN,
    )
    yield Gradient("cubes-matrix", lambda x: np.sum(x**3), y, 3 * y**2, sources.AUTOGRAD_JACOBIAN)


ROWS = [
    *_minima(),
    *_scipy(),
    *_numdifftools(),
    *_julia(),
    *_statistics(),
    *_autograd(),
]
