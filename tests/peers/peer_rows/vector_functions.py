"""Functions with several values, and their Jacobians."""

import math

import numpy as np

MIXED = np.array([[0.5, -1.2, 0.3], [1.1, 0.4, -0.8]])


def scalar_to_vector(x):
    return np.array([x[0] ** 2, np.tan(x[0]), np.exp(x[0])])


def vector_to_vector(x):
    return np.array([x[0] * np.sin(x[1]), x[1] * np.cos(x[0]), x[0] ** 3 * x[1] ** -0.5])


def vector_to_vector_jacobian(x):
    a, b = x
    return np.array(
        [
            [math.sin(b), a * math.cos(b)],
            [-b * math.sin(a), math.cos(a)],
            [3 * a**2 * b**-0.5, -0.5 * a**3 * b**-1.5],
        ]
    )


def chained(x):
    e = x[1:] ** 3 - x[:-1] ** 2
    zero = np.zeros(1, e.dtype)
    return np.concatenate([zero, 3 * e]) + np.concatenate([2 * e, zero])


def chained_jacobian(x):
    n = len(x)
    result = np.zeros((n, n))
    for i in range(n - 1):
        # Value i has twice residual i, value i + 1 three times.
        for row, factor in ((i, 2), (i + 1, 3)):
            result[row, i] += factor * -2 * x[i]
            result[row, i + 1] += factor * 3 * x[i + 1] ** 2
    return result


def second_differences(x):
    return np.convolve(x, np.array([1.0, -2.0, 1.0]), "same")


def stencil(n):
    return np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)


def halves(x):
    n = len(x) // 2
    a, b = x[:n], x[n:]
    return (a - 3) ** 2 + a * b + (b + 4) ** 2 - 3


def halves_jacobian(x):
    n = len(x) // 2
    a, b = x[:n], x[n:]
    return np.hstack([np.diag(2 * (a - 3) + b), np.diag(a + 2 * (b + 4))])


def cyclic(x):
    return x * np.roll(x, -1)


def cyclic_jacobian(x):
    n = len(x)
    return np.diag(np.roll(x, -1)) + np.diag(x[:-1], 1) + _corner(n, x[-1])


def _corner(n, value):
    corner = np.zeros((n, n))
    corner[-1, 0] = value
    return corner


def outer(x):
    return np.outer(x, x)


def outer_jacobian(x):
    n = len(x)
    result = np.zeros((n, n, n))
    for i in range(n):
        for j in range(n):
            result[i, j, i] += x[j]
            result[i, j, j] += x[i]
    return result


def diagonal(values):
    values = np.asarray(values, float)
    size = values.size
    return np.diag(values.reshape(-1)).reshape(values.shape + values.shape) if size else values
