"""Second derivatives: `numerical_hessian`, its diagonal, `numerical_hvp`, checks of Hessians."""

import math

import numpy as np

from peer_rows import sources
from peer_rows._row import Hessian
from peer_rows.functions_of_many import (
    COULOMB,
    REGRESSORS,
    RESPONSES,
    TRAP_STIFFNESS,
    himmelblau,
    himmelblau_gradient,
    logit_likelihood,
    logit_score,
    product_and_exponential,
    residuals_squared,
    rosenbrock,
    rosenbrock_gradient,
    sine_plus_cosine,
    sum_of_sines,
    sum_of_squares,
    trapped_ions,
    trapped_ions_gradient,
)

QUADRATIC = np.array([[1.6, -0.6, 0.2], [0.5, -1.1, 0.9], [-0.3, 1.7, 0.8]])


def rosenbrock_hessian(x):
    n = len(x)
    result = np.zeros((n, n))
    for i in range(n - 1):
        result[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        result[i + 1, i + 1] += 200
        result[i, i + 1] = result[i + 1, i] = -400 * x[i]
    return result


def himmelblau_hessian(p):
    x, y = p
    mixed = 4 * (x + y)
    return np.array([[12 * x**2 + 4 * y - 42, mixed], [mixed, 12 * y**2 + 4 * x - 26]])


def logit_hessian(beta):
    p = 1 / (1 + np.exp(-REGRESSORS @ beta))
    return -(REGRESSORS.T * (p * (1 - p))) @ REGRESSORS


def _rows():
    yield Hessian(
        "cos(x-y)",
        lambda x: np.cos(x[0] - x[1]),
        np.zeros(2),
        [[-1.0, 1.0], [1.0, -1.0]],
        sources.NUMDIFFTOOLS,
        gradient=lambda x: np.array([-np.sin(x[0] - x[1]), np.sin(x[0] - x[1])]),
    )
    x, y, z = 3.0, 5.0, 7.0
    e = math.exp(3.0)
    yield Hessian(
        "xyz+exp",
        product_and_exponential,
        np.array([x, y, z]),
        [[e * y, e + z, y], [e + z, 0.0, x], [y, x, 0.0]],
        sources.NUMDIFFTOOLS,
        gradient=lambda x: np.array(
            [x[1] * x[2] + np.exp(x[0]) * x[1], x[0] * x[2] + np.exp(x[0]), x[0] * x[1]]
        ),
    )
    yield Hessian(
        "x+y^2+z^3",
        lambda x: x[0] + x[1] ** 2 + x[2] ** 3,
        np.array([1.0, 2.0, 3.0]),
        np.diag([0.0, 2.0, 18.0]),
        sources.NUMDIFFTOOLS,
        gradient=lambda x: np.array([1.0 + 0 * x[0], 2 * x[1], 3 * x[2] ** 2]),
    )
    for name, part in (("cos", np.cos), ("sin", np.sin)):
        x, y = 0.9, 1.4
        value, slope = (
            (math.cos(x * y), -math.sin(x * y))
            if name == "cos"
            else (math.sin(x * y), math.cos(x * y))
        )
        mixed = slope - x * y * value
        yield Hessian(
            f"{name}(xy)",
            lambda p, part=part: part(p[0] * p[1]),
            np.array([x, y]),
            [[-y * y * value, mixed], [mixed, -x * x * value]],
            sources.pull("pbrod/numdifftools", 70),
        )
    a = 3.0e-6
    wall = 2 * COULOMB / (2 * a) ** 3
    yield Hessian(
        "trapped-ions",
        trapped_ions,
        np.array([-a, a]),
        [[TRAP_STIFFNESS + wall, -wall], [-wall, TRAP_STIFFNESS + wall]],
        sources.NUMDIFFTOOLS_HAMILTONIAN,
        radius=2.5e-6,
        gradient=trapped_ions_gradient,
    )
    for at in ((0.0, 0.0), (1.0, 1.0)):
        yield Hessian(
            f"sin+cos-{at[0]:g}",
            sine_plus_cosine,
            np.array(at),
            np.diag([-math.sin(at[0]), -math.cos(at[1])]),
            sources.CALCULUS,
            gradient=lambda x: np.array([np.cos(x[0]), -np.sin(x[1])]),
        )
    for at in (0.0, 1.0, 10.0, 100.0):
        yield Hessian(
            f"parabola-{at:g}",
            sum_of_squares,
            np.array([at]),
            [[2.0]],
            sources.CALCULUS_DERIVATIVE,
            radius=max(1.0, at),
            gradient=lambda x: 2 * x,
        )
    yield Hessian(
        "linear",
        lambda b: np.sum(REGRESSORS @ b),
        np.ones(3),
        np.zeros((3, 3)),
        sources.STATSMODELS,
        noise=60.0,
    )
    yield Hessian(
        "residuals",
        residuals_squared,
        np.ones(3),
        2 * REGRESSORS.T @ REGRESSORS,
        sources.STATSMODELS,
        noise=60.0,
        gradient=lambda b: -2 * REGRESSORS.T @ (RESPONSES - REGRESSORS @ b),
    )
    beta = np.array([0.25, -0.4, 0.1])
    yield Hessian(
        "logit",
        logit_likelihood,
        beta,
        logit_hessian(beta),
        sources.STATSMODELS,
        radius=0.5,
        noise=60.0,
        gradient=logit_score,
    )
    yield Hessian(
        "half-norm-returns-float",
        lambda x: float(np.dot(x, x) / 2.0),
        np.array([1.0]),
        [[1.0]],
        sources.pull("statsmodels/statsmodels", 3253),
        smooth=lambda x: np.dot(x, x) / 2.0,
        complex_steps=False,
    )
    x = np.array([0.3, -1.2, 0.7])
    yield Hessian(
        "quadratic-form",
        lambda x: np.dot(np.dot(x, QUADRATIC), x),
        x,
        QUADRATIC + QUADRATIC.T,
        sources.AUTOGRAD_WRAPPERS,
        gradient=lambda x: (QUADRATIC + QUADRATIC.T) @ x,
    )
    x = np.array([1.6, -0.6, -0.5])
    yield Hessian(
        "sum-of-sines",
        sum_of_sines,
        x,
        np.diag(-np.sin(x)),
        sources.AUTOGRAD_WRAPPERS,
        gradient=np.cos,
    )
    x = np.array([[0.4, -0.2], [1.1, 0.9]])
    yield Hessian(
        "sum-of-sines-matrix",
        sum_of_sines,
        x,
        np.diag(-np.sin(x).reshape(-1)).reshape(2, 2, 2, 2),
        sources.AUTOGRAD_WRAPPERS,
        gradient=np.cos,
    )
    for at in ((2.0, 3.0), (1.0, 1.0), (-0.5, 0.1, 0.7)):
        yield Hessian(
            f"rosenbrock-{at[0]:g}",
            rosenbrock,
            np.array(at),
            rosenbrock_hessian(at),
            sources.NUMDIFFTOOLS,
            gradient=rosenbrock_gradient,
        )
    for at in ((3.0, 2.0), (1.0, 1.0)):
        yield Hessian(
            f"himmelblau-{at[0]:g}",
            himmelblau,
            np.array(at),
            himmelblau_hessian(at),
            sources.issue("scipy/scipy", 19024),
            gradient=himmelblau_gradient,
        )


ROWS = [*_rows()]
