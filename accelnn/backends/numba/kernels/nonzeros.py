"""The non-zeros of a data set, row by row, and of the dense samples of a single call."""

from accelnn.backends.numba._jit import ZERO, inlined, loop
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.layout import INPUTS
from accelnn.backends.numba.vectors import (
    HAS_COMPRESS,
    at,
    count_of,
    first_of,
    lanes_of_nonzeros,
    load,
    load_first,
    store_together,
    total,
    width,
    zeros,
)

__all__ = ["compress", "copy_nonzeros", "count_nonzeros", "has_many_zeros", "locate"]

# Density below which the dense samples of a call are compressed, estimated from as many of them:
# compressed or not, products with 0.3 non-zeros took as long.
COMPRESSED_BELOW = 0.25
PROBE = 16


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


@loop
def has_many_zeros(x, inputs, weights):
    """Return whether products with `weights` are to leave out the zeros of flattened samples.

    Those with weights that are not finite would be NaN.
    """
    samples, lanes = x.size // inputs, width(x)
    rows, count = min(PROBE, samples), 0
    for i in range(rows):
        start = i * samples // rows * inputs
        for k in range(0, inputs, lanes):
            count += count_of(lanes_of_nonzeros(part_of_row(x, start, k, inputs)))
    if count > COMPRESSED_BELOW * rows * inputs:
        return False
    # Differences from themselves: zeros, or else NaN.
    differences = zeros(weights)
    for k in range(0, weights.size, lanes):
        part = part_of_row(weights, ZERO, k, weights.size)
        differences = differences + (part - part)
    return total(differences) == 0.0


@inlined
def compress(member, net, data, work, order, first, start, stop):
    """Write the non-zeros of samples ``order[first + start : first + stop]``, and their columns.

    They are the rows `start` to `stop`. Room for a vector is left after those of each thread.
    """
    inputs, lanes = net.table[0, INPUTS], width(data.x)
    place = start * inputs + member.number * lanes
    for row in range(start, stop):
        sample = order[first + row] * inputs
        work.begins[row] = place
        whole = inputs - inputs % lanes
        for k in range(0, whole, lanes):
            x = load(data.x, sample + k)
            place = store_nonzeros(work.values, work.columns, place, x, data.x, sample, k)
        if whole < inputs:
            x = load_first(data.x, sample + whole, inputs - whole)
            place = store_nonzeros(work.values, work.columns, place, x, data.x, sample, whole)
        work.ends[row] = place


@inlined
def locate(data, work, order, first, start, stop):
    """Look up the non-zeros of samples ``order[first + start : first + stop]``."""
    for row in range(start, stop):
        sample = order[first + row]
        work.begins[row] = data.starts[sample]
        work.ends[row] = data.starts[sample + 1]


@inlined
def part_of_row(x, start, k, inputs):
    """Return numbers `k` and after of a row, filled up with zeros."""
    if k + width(x) <= inputs:
        return load(x, start + k)
    return load_first(x, start + k, inputs - k)


@inlined
def store_in_a_register(values, columns, place, vector, x, start, k):
    if lanes_of_nonzeros(vector) == 0:
        return place
    return store_together(values, columns, place, vector, k)


@inlined
def store_one_by_one(values, columns, place, vector, x, start, k):
    lanes = lanes_of_nonzeros(vector)
    while lanes != 0:
        column = k + first_of(lanes)
        values[place] = at(x, start + column)
        columns[place] = column
        place += 1
        lanes &= lanes - 1
    return place


# Writes the non-zeros of a vector, which is that of columns `k` and after of the row at `start`,
# from `place` on, and returns the place after the last.
store_nonzeros = store_in_a_register if HAS_COMPRESS else store_one_by_one
