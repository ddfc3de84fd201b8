"""The kernels: plain loops and scalar formulas that Numba compiles.

Constants are made of the argument's own type, so that float32 stays float32.
"""

import math

import numpy as np

from accelnn.backends.numba._jit import elementwise, loop

__all__ = [
    "log_softmax_rows",
    "sigmoid_delta",
    "softmax_rows",
]


@elementwise
def sigmoid_delta(x, d):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - typed by Numba
    """s(x + d) - s(x) without cancellation."""
    one = type(x)(1)
    mirrored = -x if d > 0 else x
    e = math.exp(-abs(mirrored))
    s = (one if mirrored >= 0 else e) / (one + e)
    q = (e if mirrored >= 0 else one) / (one + e)
    change = s * q * math.expm1(-abs(d)) / (q + s * math.exp(-abs(d)))
    # Numba's expm1 of a float32 is a float64.
    return type(x)(-change if d > 0 else change)


@loop
def softmax_rows(x, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - typed by Numba
    """exp(x) / sum(exp(x)) of every row."""
    for i in range(x.shape[0]):
        top = _row_max(x, i)
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            out[i, j] = math.exp(x[i, j] - top)
            total += out[i, j]
        for j in range(x.shape[1]):
            out[i, j] /= total


@loop
def log_softmax_rows(x, out):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - typed by Numba
    """X - log(sum(exp(x))) of every row."""
    for i in range(x.shape[0]):
        top = _row_max(x, i)
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - top)
        shift = math.log(total)
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - top) - shift


@loop
def _row_max(x, i):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - typed by Numba
    top = x[i, 0]
    for j in range(1, x.shape[1]):
        if x[i, j] > top or np.isnan(x[i, j]):
            top = x[i, j]
    return top
