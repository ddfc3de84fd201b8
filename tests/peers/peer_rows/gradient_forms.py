"""Functions with one value: many variables, scales and forms of x, forms of the value."""

import math
from fractions import Fraction

import numpy as np

from peer_rows import sources
from peer_rows._row import Gradient, quiet
from peer_rows.functions_of_many import MANY, sum_of_squares


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
    *_many(),
    *_scales(),
    *_forms(),
    *_values(),
    *_large_constants(),
]
