"""Gradients to be checked: right ones that must pass, wrong ones that must be found."""

# ruff: noqa: FBT003, PLW0108 - rows have what users write

import math

import numpy as np

from peer_rows import sources
from peer_rows._row import Check, quiet
from peer_rows.functions_of_many import rosenbrock, rosenbrock_gradient
from peer_rows.vector_functions import vector_to_vector, vector_to_vector_jacobian


def logistic(x):
    return np.sum(1 / (1 + np.exp(-x)))


def logistic_slope(x):
    return np.exp(-x) / (1 + np.exp(-x)) ** 2


def _scipy():
    yield Check(
        "logistic", logistic, logistic_slope, np.array([1.5]), "right", sources.SCIPY_CHECK_GRAD
    )
    yield Check(
        "vector-valued",
        vector_to_vector,
        vector_to_vector_jacobian,
        np.array([-10.0, 10.0]),
        "right",
        sources.SCIPY_NUMDIFF,
    )
    yield Check(
        "vector-valued-zero",
        lambda x: np.array([x[0] * x[1], np.cos(x[0] * x[1])]),
        np.zeros((2, 2)),
        np.zeros(2),
        "right",
        sources.SCIPY_NUMDIFF,
    )
    yield Check(
        "vector-valued-one-entry-wrong",
        vector_to_vector,
        lambda x: vector_to_vector_jacobian(x) * np.array([[1, 1], [1, 1.1], [1, 1]]),
        np.array([-10.0, 10.0]),
        "WRONG",
        sources.SCIPY_NUMDIFF,
        modes=("full",),
    )
    # An absolute error is no error where all is large, and a small one is where all is small.
    for scale, verdict, factor in (
        (1e9, "right", 1.0),
        (1e-9, "right", 1.0),
        (1e-9, "WRONG", 1.05),
        (1e9, "WRONG", 1.05),
    ):
        yield Check(
            f"scale-{scale:g}-{verdict}",
            lambda x, s=scale: s * np.sum(np.sin(x)),
            lambda x, s=scale * factor: s * np.cos(x),
            np.array([0.2, 1.1, -0.4]),
            verdict,
            sources.issue("scipy/scipy", 7766),
        )


def _autograd():
    yield Check(
        "2.001-for-2",
        lambda x: 2.0 * x[0],
        [2.001],
        np.array([1.0]),
        "WRONG",
        sources.AUTOGRAD_CHECKS,
    )
    yield Check(
        "second-order-1.001",
        lambda x: 2.0 * x,
        lambda x: 2.002 * np.eye(len(x)),
        np.array([1.0, -1.0]),
        "WRONG",
        sources.AUTOGRAD_CHECKS,
    )
    yield Check(
        "x^2-custom",
        lambda x: np.sum(x**2),
        lambda x: 2 * x,
        np.array([3.0]),
        "right",
        sources.issue("HIPS/autograd", 550),
    )


def _oscillations():
    x = np.array([1000.0, 1100.0])
    for name, point in (
        ("1000-1100", x),
        ("normal", 1000.0 * np.array([0.3456, -1.2345, 0.6789, 2.0123])),
        ("1e4", np.array([12345.6, -23456.7])),
    ):
        for verdict, factor in (("right", 1.0), ("WRONG", 1.02)):
            yield Check(
                f"cosines-{name}-{verdict}",
                lambda x: np.sum(np.cos(x)),
                lambda x, factor=factor: -factor * np.sin(x),
                point,
                verdict,
                sources.issue("SauersML/gam", 2461),
            )


def _single_precision():
    for n in (100, 499, 501):
        v = np.sin(np.arange(n) + 0.5).astype(np.float32)
        y = np.cos(np.arange(n) * 0.7).astype(np.float32)
        for verdict, off in (("right", 0.0), ("WRONG", 0.02)):
            yield Check(
                f"float32-dot-{n}-{verdict}",
                lambda y, v=v: np.float32(v @ y),
                (v.astype(float) * (1 + off)).astype(np.float32),
                y,
                verdict,
                sources.issue("PaddlePaddle/Paddle", 4283),
                modes=("directional",),
            )
    # 2 % off in the whole norm, all of it in one coordinate.
    v = np.ones(499, np.float32)
    wrong = v.copy()
    wrong[7] += 0.5
    yield Check(
        "float32-dot-one-coordinate",
        lambda y: np.float32(v @ y),
        wrong,
        np.cos(np.arange(499)).astype(np.float32),
        "not right",
        sources.issue("PaddlePaddle/Paddle", 4283),
        modes=("full",),
    )
    yield Check(
        "1e8+x^2-float32",
        lambda x: np.float32(1e8) + np.sum(x**2),
        lambda x: 2 * x,
        np.float32([1.0, 2.0]),
        "inconclusive",
        sources.issue("chainer/chainer", 3046),
    )
    yield Check(
        "float16-20-percent-off",
        lambda x: np.sum(x**2),
        lambda x: (2.4 * x).astype(np.float16),
        np.float16([1.0, 2.0, -3.0]),
        "not right",
        sources.issue("pytorch/pytorch", 8659),
        modes=("full",),
    )


def _edges():
    yield Check(
        "log-1e-23",
        quiet(lambda x: np.sum(np.log(x))),
        lambda x: 1 / x,
        np.array([1e-23]),
        "right",
        sources.CALCULUS,
    )
    for scale in (1e160, 1e250):
        yield Check(
            f"abs-{scale:g}-wrong",
            lambda x: np.sum(np.abs(x)),
            lambda x: 1.05 * np.sign(x),
            np.array([scale, -2 * scale]),
            "WRONG",
            sources.CALCULUS,
        )
        yield Check(
            f"abs-{scale:g}-right",
            lambda x: np.sum(np.abs(x)),
            lambda x: np.sign(x),
            np.array([scale, -2 * scale]),
            "right",
            sources.CALCULUS,
        )
    # A coordinate whose derivative is 1e7 times smaller: only looking at each can find its sign.
    yield Check(
        "sign-of-a-small-coordinate",
        lambda x: np.sin(x[0]) + 1e-7 * np.sin(x[1]),
        lambda x: np.array([np.cos(x[0]), -1e-7 * np.cos(x[1])]),
        np.array([0.2, 0.3]),
        "WRONG",
        sources.pull("pytorch/pytorch", 59615),
        modes=("full", "sampled"),
    )
    yield Check(
        "small-coordinate-right",
        lambda x: np.sin(x[0]) + 1e-7 * np.sin(x[1]),
        lambda x: np.array([np.cos(x[0]), 1e-7 * np.cos(x[1])]),
        np.array([0.2, 0.3]),
        "right",
        sources.pull("pytorch/pytorch", 59615),
    )
    for n in (2, 5):
        yield Check(
            f"rosenbrock-minimum-{n}",
            rosenbrock,
            rosenbrock_gradient,
            np.ones(n),
            "right",
            sources.SCIPY_DIFFERENTIATE,
        )
        yield Check(
            f"rosenbrock-start-{n}",
            rosenbrock,
            rosenbrock_gradient,
            np.linspace(-1.2, 1.0, n),
            "right",
            sources.SCIPY_DIFFERENTIATE,
        )
    yield Check(
        "rosenbrock-wrong-factor",
        rosenbrock,
        lambda x: rosenbrock_gradient(x) * np.array([1.0, 1.5]),
        np.array([-1.2, 1.0]),
        "WRONG",
        sources.SCIPY_DIFFERENTIATE,
    )


def _trees():
    point = {
        "item_1": np.sin(np.arange(30.0)).reshape(5, 6),
        "item_2": np.cos(np.arange(12.0)).reshape(4, 3),
        "item_X": np.ones((2, 4)),
    }
    slopes = {
        "item_1": np.cos(point["item_1"]),
        "item_2": -np.sin(point["item_2"]),
        "item_X": np.zeros((2, 4)),
    }

    def f(d):
        return np.sum(np.sin(d["item_1"])) + np.sum(np.cos(d["item_2"]))

    yield Check("dict", f, slopes, point, "right", sources.AUTOGRAD_DICT)
    wrong = {**slopes, "item_2": 1.05 * slopes["item_2"]}
    yield Check("dict-one-array-wrong", f, wrong, point, "WRONG", sources.AUTOGRAD_DICT)
    yield Check(
        "dict-untouched-array-wrong",
        f,
        {**slopes, "item_X": np.full((2, 4), 0.1)},
        point,
        "WRONG",
        sources.AUTOGRAD_DICT,
    )


def _second_order():
    yield Check(
        "hessian-of-rosenbrock",
        rosenbrock_gradient,
        lambda x: np.array(
            [[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]]
        ),
        np.array([-1.2, 1.0]),
        "right",
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Check(
        "hessian-with-its-sign-lost",
        rosenbrock_gradient,
        lambda x: np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, 400 * x[0]], [400 * x[0], 200.0]]),
        np.array([-1.2, 1.0]),
        "WRONG",
        sources.SCIPY_DIFFERENTIATE,
    )
    yield Check(
        "value-and-gradient",
        lambda x: (np.sum(np.sin(x) ** 2), np.sin(2 * x)),
        True,
        np.array([0.3, -1.1, 2.0]),
        "right",
        sources.AUTOGRAD_WRAPPERS,
    )
    yield Check(
        "value-and-wrong-gradient",
        lambda x: (np.sum(np.sin(x) ** 2), np.sin(x)),
        True,
        np.array([0.3, -1.1, 2.0]),
        "WRONG",
        sources.AUTOGRAD_WRAPPERS,
    )


def _tolerances():
    def f(x):
        return np.sum(np.sin(x))

    x = np.array([0.2, 1.1, -0.4])
    source = sources.issue("NVIDIA/warp", 508)
    slopes = 1.01 * np.cos(x)
    yield Check("rtol-0.05", f, slopes, x, "right", source, options={"rtol": 0.05})
    yield Check("atol-0.05", f, slopes, x, "right", source, options={"atol": 0.05}, modes=("full",))
    yield Check("rtol-1e-3", f, slopes, x, "WRONG", source, options={"rtol": 1e-3})
    yield Check(
        "step-given",
        lambda x: math.fsum(np.sin(x)),
        np.cos,
        x,
        "right",
        sources.pull("scipy/scipy", 3945),
        options={"step": 1e-4},
    )


ROWS = [
    *_scipy(),
    *_autograd(),
    *_oscillations(),
    *_single_precision(),
    *_edges(),
    *_trees(),
    *_second_order(),
    *_tolerances(),
]
