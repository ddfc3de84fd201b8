"""The non-zeros of a data set, row by row, and whether the samples of a single call have many."""

from accelnn.backends.numba._jit import ZERO, inlined, loop
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.vectors import (
    QUAD,
    at,
    count_of,
    lanes_of_nonzeros,
    load,
    load_first,
    quads_of,
    total,
    width,
    zeros,
)

__all__ = [
    "QUADS_BELOW",
    "copy_nonzeros",
    "count_nonzeros",
    "first_from",
    "has_many_zeros",
    "locate",
    "part_of_row",
    "quads_in",
]

# The part of all quads below which products leave out those that are zero: of 784-50-10 they were
# as fast as dense ones at 0.55 in AVX-512 and at 0.7 in AVX2 on an AMD EPYC (Zen 5), of wider nets
# at more.
QUADS_BELOW = 0.55
# Samples of a call of which that part is estimated.
PROBE = 16


@loop
def count_nonzeros(member, x, inputs, counts, quads):
    """Write the number of non-zeros of every row of `x`, which is flattened, and of its quads."""
    first, last = share(member, counts.size, 1)
    for row in range(first, last):
        count, count_of_quads = 0, 0
        for k in range(0, inputs, width(x)):
            lanes = lanes_of_nonzeros(part_of_row(x, row * inputs, k, inputs))
            count += count_of(lanes)
            count_of_quads += count_of(quads_of(lanes))
        counts[row], quads[row] = count, count_of_quads


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
    samples = x.size // inputs
    rows, count = min(PROBE, samples), 0
    for i in range(rows):
        start = i * samples // rows * inputs
        for k in range(0, inputs, width(x)):
            count += count_of(quads_of(lanes_of_nonzeros(part_of_row(x, start, k, inputs))))
    if count > QUADS_BELOW * rows * quads_in(inputs):
        return False
    # Differences from themselves: zeros, or else NaN.
    differences = zeros(weights)
    for k in range(0, weights.size, width(weights)):
        part = part_of_row(weights, ZERO, k, weights.size)
        differences = differences + (part - part)
    return total(differences) == 0.0


@inlined
def quads_in(columns):
    """Return how many quads so many columns have, of which the last may have fewer columns."""
    return (columns + QUAD - 1) // QUAD


@inlined
def first_from(numbers, first, last, least):
    """Return where, from `first` to `last`, ascending numbers reach a given one."""
    if first == last or at(numbers, last - 1) < least:
        return last
    while first < last:
        middle = (first + last) // 2
        if at(numbers, middle) < least:
            first = middle + 1
        else:
            last = middle
    return first


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
