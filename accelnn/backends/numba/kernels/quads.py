"""Samples that are stored as quads: `QUAD` columns next to each other, not all of them zero.

That is a block-compressed matrix, whose blocks have one row: images are mostly zeros, and what is
not has neighbours. Before a pass the quads of all its samples are listed column by column, so that
products with them keep the weights of four columns in registers, or their gradient, while they
look up one sample after the other. Row by row, each non-zero would load both from memory.
"""

import numpy as np

from accelnn.backends.numba._jit import called, inlined, loop
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.nonzeros import first_from, part_of_row, quads_in
from accelnn.backends.numba.kernels.products import prefetch_part
from accelnn.backends.numba.layout import INPUTS
from accelnn.backends.numba.vectors import (
    QUAD,
    SHORT,
    add_products,
    at,
    copy_quad,
    decode_quad,
    first_half,
    first_of,
    lanes_of_nonzeros,
    load_like,
    load_rows,
    prefetch,
    quads_of,
    rows_of,
    store,
    store_rows,
    sum_products,
    width,
    zeros,
)

__all__ = [
    "copy_quads",
    "encode_quads",
    "expand_quads",
    "list_quads",
    "multiply_quads",
    "multiply_quads_transposed",
    "prefetch_quads",
]

# The largest byte.
MOST = 255
# Quads that are found at once: those of an integer's bits, so that a loop over those that are not
# zero seldom ends.
BITS = 64


@loop
def copy_quads(member, x, inputs, starts, columns, values):
    """Copy the quads of every row of `x`, which is flattened, to ``starts[row]`` and after."""
    first, last = share(member, starts.size - 1, 1)
    for row in range(first, last):
        start, place = row * inputs, starts[row]
        count = quads_in(inputs)
        for quads in range(0, count, BITS):
            bits = nonzero_quads(x, start, quads, count, inputs)
            while bits != 0:
                quad = quads + first_of(bits)
                columns[place] = quad
                copy_columns(x, start, quad, inputs, values, place)
                place += 1
                bits &= bits - 1


@loop
def encode_quads(member, values, divisor, single, codes, failures):
    """Write each quad of values as the bytes that `decode_quad` makes the same values of.

    If there are none, count it at ``failures[member.number]``.
    """
    first, last = share(member, codes.size, 1)
    decoded = np.empty(QUAD, values.dtype)
    for quad in range(first, last):
        code, is_same = 0, True
        for k in range(QUAD):
            number = np.rint(values[QUAD * quad + k] * divisor)
            # What is not a number is not encoded either.
            if not 0 <= number <= MOST:
                failures[member.number] += 1
                return
            code += int(number) << 8 * k
        codes[quad] = code
        decode_quad(codes, quad, divisor, single, decoded, 0)
        for k in range(QUAD):
            # The sign of a zero is lost, and matters to no product.
            is_same = is_same and decoded[k] == values[QUAD * quad + k]
        if not is_same:
            failures[member.number] += 1
            return


@called
def list_quads(member, net, data, work, order, first, size):
    """List the quads of samples ``order[first : first + size]``, which rows from 0 on hold.

    A member lists its share of all quads, of every sample.
    """
    inputs, capacity = net.table[0, INPUTS], work.capacity
    begin, end = share(member, quads_in(inputs), width(data.x) // QUAD)
    for quad in range(begin, end):
        work.ends[quad] = quad * capacity
    for row in range(size):
        sample = order[first + row]
        if data.quads:
            place, last = data.starts[sample], data.starts[sample + 1]
            if begin > 0:
                place = first_from(data.columns, place, last, begin)
            if end < quads_in(inputs):
                last = first_from(data.columns, place, last, end)
            if data.codes.size > 0:
                divisor, single = data.values[0], data.values[1] != 0.0
                for k in range(place, last):
                    target = QUAD * append(work, at(data.columns, k), row)
                    decode_quad(data.codes, k, divisor, single, work.values, target)
            else:
                for k in range(place, last):
                    target = QUAD * append(work, at(data.columns, k), row)
                    copy_quad(data.values, QUAD * k, work.values, target)
        else:
            start = sample * inputs
            for quads in range(begin, end, BITS):
                bits = nonzero_quads(data.x, start, quads, end, inputs)
                while bits != 0:
                    quad = quads + first_of(bits)
                    copy_columns(data.x, start, quad, inputs, work.values, append(work, quad, row))
                    bits &= bits - 1


@called
def expand_quads(data, sample, inputs, x, start):
    """Write a sample with its zeros from ``x[start]`` on, filled up to whole vectors."""
    for here in range(start, start + inputs, width(x)):
        store(x, here, zeros(x))
    for k in range(data.starts[sample], data.starts[sample + 1]):
        target = start + QUAD * at(data.columns, k)
        if data.codes.size > 0:
            decode_quad(data.codes, k, data.values[0], data.values[1] != 0.0, x, target)
        else:
            copy_quad(data.values, QUAD * k, x, target)


@inlined
def append(work, quad, row):
    """Append a row to those of a quad; return its place."""
    place = at(work.ends, quad)
    work.columns[place] = row
    work.ends[quad] = place + 1
    return place


@inlined
def nonzero_quads(x, start, first, last, inputs):
    """Return which of `BITS` quads of a row are not zero, from number `first` on, before `last`."""
    bits, lanes = 0, width(x)
    for k in range(QUAD * first, min(QUAD * min(first + BITS, last), inputs), lanes):
        part = quads_of(lanes_of_nonzeros(part_of_row(x, start, k, inputs)))
        bits |= part << (k // QUAD - first)
    return bits


@inlined
def copy_columns(x, start, quad, inputs, values, place):
    """Copy a quad of the row at `start`, filled up with zeros after the last column."""
    source, target = start + QUAD * quad, QUAD * place
    if QUAD * (quad + 1) <= inputs:
        copy_quad(x, source, values, target)
    else:
        for k in range(QUAD):
            values[target + k] = x[source + k] if QUAD * quad + k < inputs else 0.0


@called
def multiply_quads(work, inputs, b, b_start, b_row, c, c_start, first, last, start, used):
    """Write a panel of the product: ``c[s] = start + Σ_k a[s, k] b[k]``, s from `first` to `last`.

    The quads of a are listed, and b[k] is at ``b_start + k * b_row``. If the panel has so few
    columns that half of it is `used`, the other half becomes zero.
    """
    rows = first, last
    if 2 * used <= width(b):
        multiply_listed(work, inputs, b, b_start, b_row, c, c_start, rows, first_half(start))
    else:
        multiply_listed(work, inputs, b, b_start, b_row, c, c_start, rows, start)


@inlined
def multiply_listed(work, inputs, b, b_start, b_row, c, c_start, rows, start):
    """Do `multiply_quads` with vectors of the width of `start`."""
    lanes, (first, last) = width(b), rows
    # Whoever reads them next reads whole blocks of rows.
    for row in range(first, (last + SHORT - 1) // SHORT * SHORT):
        store_rows(c, c_start + row * lanes, lanes, rows_of(start, 1))
    for quad in range(quads_in(inputs)):
        weights = load_rows(b, b_start + QUAD * quad * b_row, b_row, start, QUAD)
        place, end = quad * work.capacity, at(work.ends, quad)
        if first > 0:
            place = first_from(work.columns, place, end, first)
        while place < end:
            row = at(work.columns, place)
            if row >= last:
                break
            here = c_start + row * lanes
            sum_ = load_like(start, c, here)
            store(c, here, sum_products(sum_, work.values, QUAD * place, weights))
            place += 1


@called
def multiply_quads_transposed(work, column, columns, d, d_start, g, g_start, used):
    """Write ``g[k] = Σ_s a[s, column + k] d[s]`` for `columns` columns of listed quads.

    Whole quads are written. If the panel of `d` has so few columns that half of it is `used`, the
    other half of `g` becomes zero.
    """
    zero = zeros(d)
    if 2 * used <= width(d):
        sum_listed(work, column, columns, d, d_start, g, g_start, first_half(zero))
    else:
        sum_listed(work, column, columns, d, d_start, g, g_start, zero)


@inlined
def sum_listed(work, column, columns, d, d_start, g, g_start, zero):
    """Do `multiply_quads_transposed` with vectors of the width of `zero`."""
    lanes, first = width(d), column // QUAD
    for quad in range(first, first + quads_in(columns)):
        sums = rows_of(zero, QUAD)
        for place in range(quad * work.capacity, at(work.ends, quad)):
            errors = load_like(zero, d, d_start + at(work.columns, place) * lanes)
            sums = add_products(sums, work.values, QUAD * place, 1, errors)
        store_rows(g, g_start + (quad - first) * QUAD * lanes, lanes, sums)


@inlined
def prefetch_quads(data, order, first, last, size):
    """Prefetch some samples, and where those are that come `size` later.

    Somewhat more than the average number of quads: a loop of unknown length waits for its end to be
    known.
    """
    samples = data.starts.size - 1
    usual = data.columns.size * 5 // (samples * 4) + 1
    for i in range(first, last):
        if i + size < order.size:
            prefetch(data.starts, order[i + size])
        start = data.starts[order[i]]
        if data.codes.size > 0:
            prefetch_part(data.codes, start, usual)
        else:
            prefetch_part(data.values, start * QUAD, usual * QUAD)
        prefetch_part(data.columns, start, usual)
        prefetch(data.labels, order[i])
