"""Functions with many values: `numerical_jacobian`, `numerical_jvp` and checks of Jacobians."""

import math

import numpy as np

from peer_rows import sources
from peer_rows._row import Jacobian
from peer_rows.functions_of_many import REGRESSORS, RESPONSES
from peer_rows.vector_functions import (
    MIXED,
    chained,
    chained_jacobian,
    cyclic,
    cyclic_jacobian,
    diagonal,
    halves,
    halves_jacobian,
    outer,
    outer_jacobian,
    scalar_to_vector,
    second_differences,
    stencil,
    vector_to_vector,
    vector_to_vector_jacobian,
)


def _scipy():
    x = np.array([0.5])
    yield Jacobian(
        "x^2-tan-exp",
        scalar_to_vector,
        x,
        [[1.0], [math.cos(0.5) ** -2], [math.exp(0.5)]],
        sources.SCIPY_NUMDIFF,
        radius=0.9,
    )
    for name, x, options, radius in (
        ("-100-0.2", (-100.0, 0.2), {}, (1.0, 0.15)),
        ("rel_step", (-0.1, 0.1), {"rel_step": 1e-4}, (1.0, 0.08)),
        ("1-2", (1.0, 2.0), {}, (1.0, 1.5)),
        ("10-10", (10.0, 10.0), {}, (1.0, 1.0)),
        ("-10-10", (-10.0, 10.0), {}, (1.0, 1.0)),
    ):
        yield Jacobian(
            f"x-sin-cos-{name}",
            vector_to_vector,
            np.array(x),
            vector_to_vector_jacobian(x),
            sources.SCIPY_NUMDIFF,
            radius=np.array(radius),
            options=options,
        )
    yield Jacobian(
        "parametrized",
        lambda x, c0, c1=1.0: np.array([np.exp(c0 * x[0]), np.exp(c1 * x[1])]),
        np.array([1.0, 1.0]),
        [[-math.exp(-1), 0.0], [0.0, math.e]],
        sources.SCIPY_NUMDIFF,
        options={"args": (-1.0,), "kwargs": {"c1": 1.0}},
        smooth=lambda x: np.array([np.exp(-x[0]), np.exp(x[1])]),
    )
    yield Jacobian(
        "zero-jacobian",
        lambda x: np.array([x[0] * x[1], np.cos(x[0] * x[1])]),
        np.zeros(2),
        np.zeros((2, 2)),
        sources.SCIPY_NUMDIFF,
        pattern=np.ones((2, 2)),
    )
    n = 50
    x = np.empty(n)
    x[::2] = -0.1 * (1 + np.arange(n))[::2] * (1 - 1e-7)
    x[1::2] = 0.1 * (1 + np.arange(n))[1::2] * (1 - 1e-7)
    band = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    yield Jacobian(
        "chained-50",
        chained,
        x,
        chained_jacobian(x),
        sources.SCIPY_NUMDIFF,
        pattern=band,
        # |x| <= 5.1, so that no value exceeds 3 · (6.1³ + 6.1²) + 2 · (6.1³ + 6.1²) within 1.
        size=1400.0,
    )
    yield Jacobian(
        "chained-50-all-ones",
        chained,
        x,
        chained_jacobian(x),
        sources.SCIPY_NUMDIFF,
        pattern=np.ones((n, n)),
        size=1400.0,
    )
    wikipedia = {
        "f1": (
            lambda z: np.array([z[0] ** 2 * z[1], 5 * z[0] + np.sin(z[1])]),
            (0.7, 0.4),
            lambda x, y: [[2 * x * y, x**2], [5, math.cos(y)]],
        ),
        "polar": (
            lambda z: np.array([z[0] * np.cos(z[1]), z[0] * np.sin(z[1])]),
            (0.3, 0.9),
            lambda r, a: [[math.cos(a), -r * math.sin(a)], [math.sin(a), r * math.cos(a)]],
        ),
        "spherical": (
            lambda z: np.array(
                [
                    z[0] * np.sin(z[1]) * np.cos(z[2]),
                    z[0] * np.sin(z[1]) * np.sin(z[2]),
                    z[0] * np.cos(z[1]),
                ]
            ),
            (0.5, 0.2, 0.6),
            lambda r, p, t: [
                [
                    math.sin(p) * math.cos(t),
                    r * math.cos(p) * math.cos(t),
                    -r * math.sin(p) * math.sin(t),
                ],
                [
                    math.sin(p) * math.sin(t),
                    r * math.cos(p) * math.sin(t),
                    r * math.sin(p) * math.cos(t),
                ],
                [math.cos(p), -r * math.sin(p), 0.0],
            ],
        ),
        "f4": (
            lambda x: np.array([x[0], 5 * x[2], 4 * x[1] ** 2 - 2 * x[2], x[2] * np.sin(x[0])]),
            (0.2, 0.8, 0.5),
            lambda a, b, c: [
                [1, 0, 0],
                [0, 0, 5],
                [0, 8 * b, -2],
                [c * math.cos(a), 0, math.sin(a)],
            ],
        ),
        "f5": (
            lambda x: np.array([5 * x[1], 4 * x[0] ** 2 - 2 * np.sin(x[1] * x[2]), x[1] * x[2]]),
            (0.1, 0.6, 0.9),
            lambda a, b, c: [
                [0, 5, 0],
                [8 * a, -2 * c * math.cos(b * c), -2 * b * math.cos(b * c)],
                [0, c, b],
            ],
        ),
    }
    for name, (f, x, right) in wikipedia.items():
        yield Jacobian(f"wikipedia-{name}", f, np.array(x), right(*x), sources.SCIPY_DIFFERENTIATE)
    for n in (1, 2, 3):
        yield Jacobian(
            f"identity-{n}",
            lambda x: x,
            np.ones(n),
            np.eye(n),
            sources.issue("scipy/scipy", 19936),
        )
    s = np.linspace(0.0, 1.0, 100)
    yield Jacobian(
        "line-fit-100",
        lambda p: p[0] + p[1] * s - np.sin(s),
        np.array([-1.0, -1.0]),
        np.stack([np.ones(100), s], 1),
        sources.issue("scipy/scipy", 12991),
    )
    yield Jacobian(
        "line-fit-100-float32",
        lambda p: (p[0] + p[1] * s - np.sin(s)).astype(np.float32),
        np.array([-1.0, -1.0]),
        np.stack([np.ones(100), s], 1),
        sources.issue("scipy/scipy", 12991),
        smooth=lambda p: p[0] + p[1] * s - np.sin(s),
        epsilon=2.0**-23,
        complex_steps=False,
    )
    a = np.linspace(0.0, 6.0, 7)
    yield Jacobian(
        "phases",
        lambda a: 1.0 + np.sin(math.pi / 12 + a),
        a,
        np.diag(np.cos(math.pi / 12 + a)),
        sources.issue("scipy/scipy", 2993),
    )


def _numdifftools():
    yield Jacobian(
        "powers",
        lambda x: np.array([x[0], x[0] ** 2, x[0] ** 3]),
        np.array([-1.7]),
        [[1.0], [-3.4], [3 * 1.7**2]],
        sources.NUMDIFFTOOLS,
    )
    t = np.arange(0, 1, 0.1)
    y = 1 + 2 * np.exp(0.75 * t)
    yield Jacobian(
        "residuals-at-solution",
        lambda c: (c[0] + c[1] * np.exp(c[2] * t) - y) ** 2,
        np.array([1.0, 2.0, 0.75]),
        np.zeros((10, 3)),
        sources.NUMDIFFTOOLS,
        pattern=np.ones((10, 3)),
    )
    for x in ((1.0, 2.0), (3.0, 4.0)):
        yield Jacobian(
            f"sums-of-powers-{x[0]:g}",
            lambda x: np.array([x[0] ** 2 + x[1] ** 2, x[0] ** 3 + x[1] ** 3]),
            np.array(x),
            [[2 * x[0], 2 * x[1]], [3 * x[0] ** 2, 3 * x[1] ** 2]],
            sources.NUMDIFFTOOLS,
        )
    yield Jacobian(
        "matrix-of-vector",
        lambda x: np.array([[x[0], x[1]], [x[0], x[1]]]),
        np.array([1.0, 2.0]),
        [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]],
        sources.issue("pbrod/numdifftools", 25),
    )
    yield Jacobian(
        "integer-zero-among-values",
        lambda c: np.array([c[0], 0]),
        np.array([1.0, 1.0]),
        [[1.0, 0.0], [0.0, 0.0]],
        sources.issue("pbrod/numdifftools", 1),
    )
    yield Jacobian(
        "one-value",
        lambda x: np.array([np.sum(x**2) - 1]),
        np.array([0.5, -1.5]),
        [[1.0, -3.0]],
        sources.issue("pbrod/numdifftools", 68),
    )
    n = 40
    yield Jacobian(
        "squares-elementwise-40",
        lambda x: x**2,
        np.ones(n),
        2 * np.eye(n),
        sources.NUMDIFFTOOLS,
        size=4.0,
    )


def _jacobi():
    x = np.array([1.0, 2.0, 3.0])
    for name, f, right, radius in (
        ("exp", np.exp, np.diag(np.exp(x)), 1.0),
        ("square", lambda x: x**2, np.diag(2 * x), 1.0),
        ("ones", lambda x: x**0, np.zeros((3, 3)), 1.0),
        ("inverse", lambda x: x**-1, np.diag(-(x**-2.0)), 0.9),
        ("root", lambda x: (x + 1) ** 0.5, np.diag(0.5 * (x + 1) ** -0.5), 1.0),
        ("outer", outer, outer_jacobian(x), 1.0),
        ("cube+3", lambda x: x**3 + 3, np.diag(3 * x**2), 1.0),
    ):
        yield Jacobian(
            f"jacobi-{name}",
            f,
            x,
            right,
            sources.JACOBI,
            radius=radius,
            pattern=np.ones((9, 3)) if name == "outer" else np.eye(3),
        )
    scale = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    x = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    yield Jacobian(
        "jacobi-matrix", lambda x: scale * x**2, x, diagonal(2 * scale * x), sources.JACOBI
    )
    yield Jacobian(
        "jacobi-list-of-values",
        lambda x: [x[0], 2 * x[1], x[1] ** 2],
        (1, 2),
        [[1.0, 0.0], [0.0, 2.0], [0.0, 4.0]],
        sources.JACOBI,
        smooth=lambda x: np.array([x[0], 2 * x[1], x[1] ** 2]),
    )
    x = np.linspace(1, 2, 200)
    yield Jacobian(
        "jacobi-exp-200", np.exp, x, np.diag(np.exp(x)), sources.JACOBI, size=math.exp(3)
    )
    x = np.array([1.0, 2.0])
    yield Jacobian("jacobi-one-cubed", lambda x: x**3, x, np.diag(3 * x**2), sources.JACOBI)


def _julia():
    yield Jacobian(
        "polar-2-pi",
        lambda x: np.array([x[0] * np.cos(x[1]), x[0] * np.sin(x[1])]),
        np.array([2.0, math.pi]),
        [[-1.0, -2 * math.sin(math.pi)], [math.sin(math.pi), -2.0]],
        sources.issue("JuliaDiff/FiniteDiff.jl", 39),
    )
    x, y = 0.6, 0.2
    wave = math.cos(1 - math.exp(x) * y)
    yield Jacobian(
        "two-by-two",
        lambda x: np.array([(x[0] + 3) * (x[1] ** 3 - 7) + 18, np.sin(x[1] * np.exp(x[0]) - 1)]),
        np.array([x, y]),
        [[y**3 - 7, 3 * (3 + x) * y**2], [math.exp(x) * y * wave, math.exp(x) * wave]],
        sources.FINITE_DIFF,
    )
    x = np.sin(np.arange(1.0, 31.0))
    yield Jacobian(
        "second-differences-30",
        second_differences,
        x,
        stencil(30),
        sources.FINITE_DIFF_COLORING,
        size=8.0,
    )
    x = np.concatenate([np.arange(1.0, 5.0) + 0.5, np.arange(1.0, 5.0) + 1.5])
    yield Jacobian("not-square", halves, x, halves_jacobian(x), sources.FINITE_DIFF_COLORING)
    x = 100.0 * (1 + np.arange(1.0, 41.0) / 40)
    yield Jacobian(
        "cyclic-large",
        cyclic,
        x,
        cyclic_jacobian(x),
        sources.FINITE_DIFF_JVP,
        radius=100.0,
        size=300.0**2,
    )
    yield Jacobian(
        "cyclic-zero",
        cyclic,
        np.zeros(40),
        np.zeros((40, 40)),
        sources.FINITE_DIFF_JVP,
        size=1.0,
        pattern=np.ones((40, 40)),
    )
    x = np.array([0.3, -1.4, 0.9])
    yield Jacobian("linear", lambda x: MIXED @ x, x, MIXED, sources.FINITE_DIFFERENCES_GRAD)
    yield Jacobian(
        "sine-of-linear",
        lambda x: np.sin(MIXED @ x),
        x,
        np.cos(MIXED @ x)[:, None] * MIXED,
        sources.FINITE_DIFFERENCES_GRAD,
    )
    yield Jacobian(
        "scalar-to-vector",
        lambda x: np.array([np.sin(x[0]), np.cos(x[0])]),
        np.array([4.1]),
        [[math.cos(4.1)], [-math.sin(4.1)]],
        sources.FINITE_DIFF,
    )


def _others():
    beta = np.ones(3)
    yield Jacobian(
        "squared-residuals",
        lambda b: (RESPONSES - REGRESSORS @ b) ** 2,
        beta,
        -2 * (RESPONSES - REGRESSORS @ beta)[:, None] * REGRESSORS,
        sources.STATSMODELS,
        noise=20.0,
        pattern=np.ones((20, 3)),
    )
    for x in (np.array([1, 2]), np.array([1.0, 2.0])):
        yield Jacobian(
            f"twice-{x.dtype.name}", lambda x: 2 * x, x, 2 * np.eye(2), sources.STATSMODELS
        )
    x = np.array([0.4, -1.2, 2.2, 0.1, -0.6])
    yield Jacobian(
        "rolled-sines",
        lambda a: np.roll(np.sin(a), 1),
        x,
        np.roll(np.diag(np.cos(x)), 1, axis=0),
        sources.AUTOGRAD_WRAPPERS,
    )
    yield Jacobian(
        "powers-of-a-number",
        lambda x: np.array([x, x**2, x**3]),
        np.array(0.6),
        [1.0, 1.2, 3 * 0.36],
        sources.AUTOGRAD_JACOBIAN,
    )
    x = np.array([0.7, -0.2])
    s = np.sin
    yield Jacobian(
        "sine-of-outer",
        lambda x: s(np.outer(x, x)) + np.cos(np.dot(x, x)),
        x,
        np.cos(np.outer(x, x))[:, :, None] * outer_jacobian(x)
        - 2 * math.sin(x @ x) * x[None, None, :],
        sources.AUTOGRAD_JACOBIAN,
        pattern=np.ones((4, 2)),
    )
    a, b = 0.5, 0.2
    yield Jacobian(
        "cubic-start-beside-others",
        lambda x: np.array([x[0] ** 3, np.exp(x[0]), 5 * x[0]]),
        np.array([0.0]),
        [[0.0], [1.0], [5.0]],
        sources.pull("scipy/scipy", 18811),
        pattern=np.ones((3, 1)),
    )
    yield Jacobian(
        "matrix-product",
        lambda m: m @ np.array([[a, b], [b, a]]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.einsum("ik,jl->ijkl", np.eye(2), np.array([[a, b], [b, a]])),
        sources.issue("tensorflow/tensorflow", 4859),
    )
    y = np.linspace(-1.0, 1.0, 6)
    yield Jacobian(
        "sorting",
        lambda x: np.sort(x)[::-1],
        y,
        np.eye(6)[::-1],
        sources.issue("pytorch/pytorch", 57166),
        radius=0.15,
        smooth=lambda x: x[::-1],
        complex_steps=False,
    )


ROWS = [*_scipy(), *_numdifftools(), *_jacobi(), *_julia(), *_others()]
