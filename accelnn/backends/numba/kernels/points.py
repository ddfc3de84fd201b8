"""Evaluation of a compiled user function at many points."""

from accelnn.backends.numba._jit import uncached_loop
from accelnn.backends.numba.kernels.meeting import share

__all__ = ["evaluate_points"]


@uncached_loop
def evaluate_points(member, f, x, columns, moved, out):
    """Write f at points that differ from `x` in a few coordinates, parallel over rows.

    Point j of row i sets the coordinates ``columns[i]`` to ``moved[i, j]``. Return whether f left
    its argument unchanged.
    """
    point = x.copy()
    flat, original = point.reshape(-1), x.copy().reshape(-1)
    first, last = share(member, columns.shape[0], 1)
    for i in range(first, last):
        for j in range(moved.shape[1]):
            for k in range(columns.shape[1]):
                flat[columns[i, k]] = moved[i, j, k]
            out[i, j] = f(point)
        for k in range(columns.shape[1]):
            flat[columns[i, k]] = original[columns[i, k]]
    for i in range(flat.size):  # noqa: SIM110 - Numba compiles the loop
        if flat[i] != original[i]:
            return False
    return True
