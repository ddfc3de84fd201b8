"""Kernels of backend ops: plain loops, compiled for each dtype that they are called with.

Constants are cast to the dtype of the argument, so that float32 stays float32.
"""

import math

import numpy as np

from accelnn.backends.numba._jit import loop

__all__ = [
    "log_softmax_rows",
    "sigmoid_delta",
    "softmax_rows",
]


@loop
def sigmoid_delta(x, d, out):
    """s(x + d) - s(x) without cancellation, elementwise."""
    one = x.dtype.type(1)
    for i in range(x.size):
        mirrored = -x[i] if d[i] > 0 else x[i]
        down = -abs(d[i])
        moved = mirrored + down
        before, after = math.exp(-abs(mirrored)), math.exp(-abs(moved))
        s = (one if mirrored >= 0 else before) / (one + before)
        q = (after if moved >= 0 else one) / (one + after)
        change = s * q * math.expm1(down)
        out[i] = -change if d[i] > 0 else change


@loop
def softmax_rows(x, out):
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
def log_softmax_rows(x, out):
    """x - log(sum(exp(x))) of every row."""  # noqa: D403 - a formula
    for i in range(x.shape[0]):
        top = _row_max(x, i)
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - top)
        shift = math.log(total)
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - top) - shift


@loop
def _row_max(x, i):
    top = x[i, 0]
    for j in range(1, x.shape[1]):
        if x[i, j] > top or np.isnan(x[i, j]):
            top = x[i, j]
    return top
