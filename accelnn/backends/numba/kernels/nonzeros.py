"""The non-zeros of a data set, row by row."""

from accelnn.backends.numba._jit import loop
from accelnn.backends.numba.kernels.meeting import share

__all__ = ["copy_nonzeros", "count_nonzeros"]


@loop
def count_nonzeros(member, x, inputs, counts):
    """Write the number of non-zeros of every row of `x`, which is flattened."""
    first, last = share(member, counts.size, 1)
    for row in range(first, last):
        count = 0
        for k in range(row * inputs, (row + 1) * inputs):
            count += x[k] != 0
        counts[row] = count


@loop
def copy_nonzeros(member, x, inputs, starts, columns, values):
    """Copy the non-zeros of every row and their columns to ``starts[row]`` and after."""
    first, last = share(member, starts.size - 1, 1)
    for row in range(first, last):
        place, stop = starts[row], starts[row + 1]
        for k in range(inputs):
            value = x[row * inputs + k]
            # Written always, and kept if not zero, which is cheaper than a branch.
            if place < stop:
                columns[place] = k
                values[place] = value
            place += value != 0
