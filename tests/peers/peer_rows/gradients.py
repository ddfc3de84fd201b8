"""Functions with one value: `numerical_gradient`, `numerical_jvp` and `check_gradient`."""

import math
from fractions import Fraction

import numpy as np

from peer_rows import sources
from peer_rows._row import Gradient, quiet
from peer_rows.functions_of_many import (
    LEAST_SQUARES,
    MANY,
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


def counted(n):
    slopes = np.arange(float(n))
    return lambda x: slopes @ x


def _many():
    """NumPy 2.3 and 2.4 lose count beyond 8,192 columns; nothing else does."""
    for n in MANY:
        yield Gradient(
            f"linear-{n}",
            counted(n),
            np.zeros(n),
            np.arange(float(n)),
            sources.issue("numpy/numpy", 31980),
            # No coordinate adds more than n to the sum, which is 0 where all are.
            size=float(n),
        )


def _scales():
    """Small and large units; every peer has reports of them (`rel_step`)."""
    for k in (-12, -9, -6, -3, 3, 6, 9, 12):
        x = 10.0**k * np.array([1.0, -2.0, 0.5])
        yield Gradient(
            f"squares-1e{k}",
            sum_of_squares,
            x,
            2 * x,
            sources.pull("scipy/scipy", 11263),
            radius=max(1.0, 10.0**k),
        )
        yield Gradient(
            f"log-sum-1e{k}",
            quiet(lambda x: np.sum(np.log(x))),
            np.abs(x),
            1 / np.abs(x),
            sources.issue("scipy/scipy", 11258),
            radius=0.8 * np.abs(x),
            noise=100.0,
        )
    x = np.array([1000.0, 0.01])
    yield Gradient(
        "parameters-of-two-sizes",
        lambda p: np.sum((np.array([0.1, 1005, 1993, 3015]) - p[0] * np.arange(4) - p[1]) ** 2),
        x,
        [
            -2 * (1 * (1005 - 1000.01) + 2 * (1993 - 2000.01) + 3 * (3015 - 3000.01)),
            -2 * (0.1 - 0.01 + 1005 - 1000.01 + 1993 - 2000.01 + 3015 - 3000.01),
        ],
        sources.issue("scipy/scipy", 11258),
        noise=3e4,
    )
    yield Gradient(
        "logarithmic-coordinates",
        lambda p: 10 ** p[0] + 10 ** p[1],
        np.array([-6.0, 6.0]),
        math.log(10) * np.array([1e-6, 1e6]),
        sources.pull("scipy/scipy", 5952),
        radius=0.4,
        noise=1e6,
    )


def _forms():
    """The same three numbers in every form that a caller may have them."""
    base = np.array([1.0, -2.0, 0.5])
    matrix = np.arange(12.0).reshape(3, 4) / 4 - 1
    strided = np.zeros(6)
    strided[::2] = base
    read_only = base.copy()
    read_only.flags.writeable = False
    forms = {
        "list": [1.0, -2.0, 0.5],
        "tuple": (1.0, -2.0, 0.5),
        "nested-list": matrix.tolist(),
        "fortran": np.asfortranarray(matrix),
        "transposed": matrix.T,
        "strided": strided[::2],
        "reversed": base[::-1],
        "read-only": read_only,
        "big-endian": base.astype(">f8"),
        "one-element": np.array([0.75]),
        "0-d": np.array(0.75),
        "number": 0.75,
        "numpy-number": np.float64(0.75),
        "integer": 3,
        "integers": np.array([3, -4]),
        "unsigned": np.array([3, 4], np.uint8),
        "int8-of-100": np.array([100, -100], np.int8),
        "broadcast": np.broadcast_to(np.array([0.5]), (3,)),
        "sliding-windows": np.lib.stride_tricks.sliding_window_view(np.arange(5.0), 3),
        "float32": base.astype(np.float32),
        "float16": base.astype(np.float16),
        "3-d": np.linspace(-1, 1, 24).reshape(2, 3, 4),
    }
    reports = {
        "integers": sources.issue("oreilly-japan/deep-learning-from-scratch", 51),
        "unsigned": sources.issue("numpy/numpy", 15207),
        "broadcast": sources.issue("pytorch/pytorch", 38586),
        "sliding-windows": sources.issue("pytorch/pytorch", 38586),
        "0-d": sources.issue("numpy/numpy", 29647),
        "one-element": sources.issue("scipy/scipy", 19936),
    }
    for name, x in forms.items():
        yield Gradient(
            f"form-{name}",
            lambda x: np.sum(np.asarray(x) ** 3),
            x,
            3.0 * np.asarray(x).astype(float) ** 2,
            reports.get(name, sources.JACOBI),
            radius=np.maximum(1.0, np.abs(np.asarray(x).astype(float))),
            noise=float(np.sum(np.abs(np.asarray(x).astype(float)) ** 3)),
        )


def _values():
    """What f may return for a number, and is taken as one."""
    x = np.array([3.0, 4.0])
    shapes = {
        "0-d": (lambda x: np.array(np.sum(x**2)), sources.pull("scipy/scipy", 10673)),
        "(1,)": (lambda x: np.array([np.sum(x**2)]), sources.pull("scipy/scipy", 10169)),
        "(1, 1)": (lambda x: np.array([[np.sum(x**2)]]), sources.pull("scipy/scipy", 14274)),
    }
    for name, (f, source) in shapes.items():
        yield Gradient(
            f"value-{name}", f, x, [6.0, 8.0], source, smooth=sum_of_squares, batches=False
        )
    yield Gradient(
        "value-float",
        lambda x: float(np.sum(x**2)),
        x,
        [6.0, 8.0],
        sources.pull("statsmodels/statsmodels", 3253),
        smooth=sum_of_squares,
        complex_steps=False,
    )
    yield Gradient(
        "value-float32",
        lambda x: np.float32(np.sum(x**2)),
        x,
        [6.0, 8.0],
        sources.issue("scipy/scipy", 12991),
        smooth=sum_of_squares,
        complex_steps=False,
        epsilon=2.0**-23,
    )
    yield Gradient(
        "value-fraction",
        lambda x: Fraction(float(x[0])) ** 2 + Fraction(float(x[1])) ** 2,
        x,
        [6.0, 8.0],
        sources.pull("scipy/scipy", 10673),
        smooth=sum_of_squares,
        complex_steps=False,
        batches=False,
    )


def _large_constants():
    """Rounding that any difference has; f's own units say how much."""
    for constant in (1e8, 1e12):
        yield Gradient(
            f"{constant:g}+x^2",
            lambda x, c=constant: c + np.sum(x**2),
            np.array([1.0, 2.0]),
            [2.0, 4.0],
            sources.issue("PaddlePaddle/Paddle", 4283),
        )


ROWS = [
    *_minima(),
    *_scipy(),
    *_numdifftools(),
    *_julia(),
    *_statistics(),
    *_autograd(),
    *_many(),
    *_scales(),
    *_forms(),
    *_values(),
    *_large_constants(),
]
