"""Matrix products of panels: dense, transposed, and with sparse rows.

`a` holds panels of `capacity` rows. Starts are flat indices.
"""

import math

from accelnn.backends.numba._jit import called, inlined
from accelnn.backends.numba.vectors import (
    BROAD,
    DEEP,
    SHORT,
    TALL,
    WIDE,
    add_products,
    at,
    first_half,
    load,
    load_like,
    load_rows,
    multiply_add,
    per_line,
    prefetch,
    rows_of,
    side,
    store,
    store_rows,
    transpose_square,
    width,
    zeros,
)

__all__ = [
    "DEEP",
    "add_sparse_row",
    "multiply",
    "multiply_sparse_row",
    "multiply_transposed",
    "prefetch_part",
    "transpose",
]

# Columns of a transposed product that are summed `BROAD` at a time: multiples of this, so that the
# rest is a whole number of blocks of `WIDE`.
BOTH = math.lcm(BROAD, WIDE)


@called
def multiply(
    a, a_start, capacity, inner, b, b_start, b_row, c, c_start, first, last, start, add, used, ahead
):
    """Write a panel of the product: ``c[s] = start + Σ_k a[s, k] b[k]``, s from `first` to `last`.

    ``k < inner``, and b[k] is at ``b_start + k * b_row``; with `add`, sums start from c instead.
    Rows are computed in blocks: up to `SHORT` - 1 rows after `last` are written. If the panel has
    so few columns that half of it is `used`, the other half becomes zero. Meanwhile as many numbers
    of b are prefetched from `ahead` on, if that is not negative.
    """
    rows = a, a_start, capacity, inner, ahead
    if 2 * used <= width(b):
        half = first_half(start)
        multiply_rows(rows, b, b_start, b_row, c, c_start, first, last, half, add)
    else:
        multiply_rows(rows, b, b_start, b_row, c, c_start, first, last, start, add)


@inlined
def multiply_rows(rows, b, b_start, b_row, c, c_start, first, last, start, add):
    """Do `multiply` with vectors of the width of `start`."""
    a, a_start, capacity, inner, ahead = rows
    lanes, row = width(b), first
    each = (inner * TALL // max(TALL, last - first) + 1) * lanes
    while row + TALL <= last:
        here = c_start + row * lanes
        sums = rows_of(start, TALL)
        if add:
            sums = load_rows(c, here, lanes, start, TALL)
            # Otherwise the next block would wait for its sums.
            prefetch_part(c, here + TALL * lanes, TALL * lanes)
        if ahead >= 0:
            prefetch_part(b, ahead, each)
            ahead += each
        sums = add_block(sums, a, a_start + row * lanes, capacity, inner, b, b_start, b_row)
        store_rows(c, here, lanes, sums)
        row += TALL
    if row + 1 == last:
        # A batch of one sample, of which a block would compute `SHORT`.
        here = c_start + row * lanes
        only = load_rows(c, here, lanes, start, 1) if add else rows_of(start, 1)
        only = add_block(only, a, a_start + row * lanes, capacity, inner, b, b_start, b_row)
        store_rows(c, here, lanes, only)
        return
    while row < last:
        here = c_start + row * lanes
        rest = load_rows(c, here, lanes, start, SHORT) if add else rows_of(start, SHORT)
        rest = add_block(rest, a, a_start + row * lanes, capacity, inner, b, b_start, b_row)
        store_rows(c, here, lanes, rest)
        row += SHORT


@inlined
def prefetch_part(array, first, count):
    """Prefetch so many numbers of an array, which need not start where a cache line does."""
    for k in range(first, first + count, per_line(array)):
        prefetch(array, k)
    prefetch(array, first + count)


@inlined
def add_block(sums, a, start, capacity, inner, b, b_start, b_row):
    """Return `sums` plus the products of as many rows, of which the first is at `start`."""
    lanes = width(b)
    for k in range(0, inner, lanes):
        block = start + k * capacity
        for lane in range(min(lanes, inner - k)):
            weights = load_like(sums[0], b, b_start + (k + lane) * b_row)
            sums = add_products(sums, a, block + lane, lanes, weights)
    return sums


@called
def multiply_transposed(a, a_start, columns, d, d_start, rows, g, g_start, used):
    """Write ``g[k] = Σ_s a[s, k] d[s]`` for the first `columns` columns of a panel of `a`.

    Columns are computed in blocks: up to `WIDE` - 1 more are written. If the panel of `d` has so
    few columns that half of it is `used`, the other half of `g` becomes zero.
    """
    columns_ = a, a_start, columns
    if 2 * used <= width(d):
        multiply_columns(columns_, d, d_start, rows, g, g_start, first_half(zeros(d)))
    else:
        multiply_columns(columns_, d, d_start, rows, g, g_start, zeros(d))


@inlined
def multiply_columns(columns_, d, d_start, rows, g, g_start, zero):
    """Do `multiply_transposed` with vectors of the width of `zero`."""
    a, a_start, columns = columns_
    lanes = width(d)
    broad = min(columns, lanes - lanes % BOTH)
    for top in range(0, rows, DEEP):
        start, stop, k = top * lanes, min(top + DEEP, rows) * lanes, 0
        while k + BROAD <= broad:
            here = g_start + k * lanes
            sums = load_rows(g, here, lanes, zero, BROAD) if top > 0 else rows_of(zero, BROAD)
            for place in range(start, stop, lanes):
                errors = load_like(zero, d, d_start + place)
                sums = add_products(sums, a, a_start + place + k, 1, errors)
            store_rows(g, here, lanes, sums)
            k += BROAD
        while k < columns:
            here = g_start + k * lanes
            rest = load_rows(g, here, lanes, zero, WIDE) if top > 0 else rows_of(zero, WIDE)
            for place in range(start, stop, lanes):
                errors = load_like(zero, d, d_start + place)
                rest = add_products(rest, a, a_start + place + k, 1, errors)
            store_rows(g, here, lanes, rest)
            k += WIDE


@inlined
def multiply_sparse_row(values, columns, k, stop, b, b_start, b_row):
    """Return ``Σ values[k] b[columns[k]]`` for one panel of `b`, whose rows are `b_row` apart."""
    sum0, sum1, sum2, sum3 = zeros(b), zeros(b), zeros(b), zeros(b)
    while k + 4 <= stop:
        sum0 = multiply_add(values, k, load(b, b_start + at(columns, k) * b_row), sum0)
        sum1 = multiply_add(values, k + 1, load(b, b_start + at(columns, k + 1) * b_row), sum1)
        sum2 = multiply_add(values, k + 2, load(b, b_start + at(columns, k + 2) * b_row), sum2)
        sum3 = multiply_add(values, k + 3, load(b, b_start + at(columns, k + 3) * b_row), sum3)
        k += 4
    while k < stop:
        sum0 = multiply_add(values, k, load(b, b_start + at(columns, k) * b_row), sum0)
        k += 1
    return (sum0 + sum1) + (sum2 + sum3)


@inlined
def add_sparse_row(values, columns, k, stop, vector, g, g_start):
    """Add ``values[k] * vector`` to ``g[columns[k]]``."""
    lanes = width(g)
    while k < stop:
        place = g_start + at(columns, k) * lanes
        store(g, place, multiply_add(values, k, vector, load(g, place)))
        k += 1


@called
def transpose(b, b_start, b_row, b_panel, rows, first, last, out, out_start):
    """Write ``out[column - first, row] = b[row, column]`` for up to `LANES` rows of b.

    Columns are from `first`, a multiple of `LANES`, to `last`. Rows of b are `b_row` apart, its
    panels `b_panel`. A whole vector is written for each column, which after `rows` is filled with
    zeros.
    """
    lanes, square = width(b), side(b)
    for column in range(first, last, square):
        panel = column // lanes
        source = b_start + panel * b_panel + (column - panel * lanes)
        target = out_start + (column - first) * lanes
        for row in range(0, lanes, square):
            here, there = source + row * b_row, target + row
            if row + square <= rows and column + square <= last:
                transpose_square(b, here, b_row, out, there, lanes)
            else:
                for i in range(min(square, last - column)):
                    for k in range(square):
                        inside = row + k < rows
                        out[there + i * lanes + k] = at(b, here + k * b_row + i) if inside else 0.0
