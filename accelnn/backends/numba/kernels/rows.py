"""Products with dense samples where they are: rows of a data set, in any order.

Moving them into panels first takes longer than it saves, unless there are many panels of weights.
Row r of a piece starts at ``x[begins[r]]``.
"""

from accelnn.backends.numba._jit import called, inlined
from accelnn.backends.numba.layout import INPUTS
from accelnn.backends.numba.vectors import (
    SHORT,
    TALL,
    WIDE,
    add_products,
    add_products_of,
    at,
    first_half,
    load_like,
    load_places,
    load_rows,
    per_line,
    prefetch,
    prefetch_near,
    rows_of,
    store_rows,
    width,
    zeros,
)

__all__ = ["locate_rows", "multiply_rows", "multiply_rows_transposed", "prefetch_rows"]

# Columns ahead of those that are summed over all rows, whose lines are fetched meanwhile.
COLUMNS_AHEAD = 24


@inlined
def locate_rows(net, work, order, first, start, stop):
    """Look up where samples ``order[first + start : first + stop]`` are.

    Rows that complete the last block are the last one again.
    """
    inputs = net.table[0, INPUTS]
    for row in range(start, (stop + SHORT - 1) // SHORT * SHORT):
        work.begins[row] = order[first + min(row, stop - 1)] * inputs


@called
def multiply_rows(
    x, begins, column, inner, b, b_start, b_row, c, c_start, first, last, start, add, used
):
    """Write a panel of the product: ``c[s] = start + Σ_k x[s, k] b[k]``, s from `first` to `last`.

    k is from `column` on, less than ``column + inner``; all else is as in `products.multiply`.
    """
    part = column, inner
    if 2 * used <= width(b):
        half = first_half(start)
        multiply_blocks(x, begins, part, b, b_start, b_row, c, c_start, first, last, half, add)
    else:
        multiply_blocks(x, begins, part, b, b_start, b_row, c, c_start, first, last, start, add)


@inlined
def multiply_blocks(x, begins, part, b, b_start, b_row, c, c_start, first, last, start, add):
    """Do `multiply_rows` with vectors of the width of `start`."""
    lanes, row = width(b), first
    while row + TALL <= last:
        here = c_start + row * lanes
        sums = load_rows(c, here, lanes, start, TALL) if add else rows_of(start, TALL)
        sums = add_rows(sums, x, load_places(begins, row, TALL), part, b, b_start, b_row)
        store_rows(c, here, lanes, sums)
        row += TALL
    if row + 1 == last:
        # A batch of one sample, of which a block would compute `SHORT`.
        here = c_start + row * lanes
        only = load_rows(c, here, lanes, start, 1) if add else rows_of(start, 1)
        only = add_rows(only, x, load_places(begins, row, 1), part, b, b_start, b_row)
        store_rows(c, here, lanes, only)
        return
    while row < last:
        here = c_start + row * lanes
        rest = load_rows(c, here, lanes, start, SHORT) if add else rows_of(start, SHORT)
        rest = add_rows(rest, x, load_places(begins, row, SHORT), part, b, b_start, b_row)
        store_rows(c, here, lanes, rest)
        row += SHORT


@inlined
def add_rows(sums, x, places, part, b, b_start, b_row):
    """Return `sums` plus the products of as many rows, which start at `places`."""
    for k in range(part[0], part[0] + part[1]):
        weights = load_like(sums[0], b, b_start + k * b_row)
        sums = add_products_of(sums, x, places, k, weights)
    return sums


@called
def multiply_rows_transposed(x, begins, column, columns, d, d_start, rows, g, g_start, used):
    """Write ``g[k] = Σ_s x[s, column + k] d[s]`` for `columns` columns.

    If the panel of `d` has so few columns that half of it is `used`, the other half of `g` becomes
    zero.
    """
    part, zero = (column, columns), zeros(d)
    if 2 * used <= width(d):
        multiply_columns(x, begins, part, d, d_start, rows, g, g_start, first_half(zero))
    else:
        multiply_columns(x, begins, part, d, d_start, rows, g, g_start, zero)


@inlined
def multiply_columns(x, begins, part, d, d_start, rows, g, g_start, zero):
    """Do `multiply_rows_transposed` with vectors of the width of `zero`."""
    lanes, (column, columns), k = width(d), part, 0
    while k + TALL <= columns:
        sums = rows_of(zero, TALL)
        for row in range(rows):
            place = at(begins, row) + column + k
            prefetch_near(x, place + COLUMNS_AHEAD)
            errors = load_like(zero, d, d_start + row * lanes)
            sums = add_products(sums, x, place, 1, errors)
        store_rows(g, g_start + k * lanes, lanes, sums)
        k += TALL
    while k + WIDE <= columns:
        sums_ = rows_of(zero, WIDE)
        for row in range(rows):
            errors = load_like(zero, d, d_start + row * lanes)
            sums_ = add_products(sums_, x, at(begins, row) + column + k, 1, errors)
        store_rows(g, g_start + k * lanes, lanes, sums_)
        k += WIDE
    # One by one, because nothing may be read after the last row.
    while k < columns:
        sum_ = rows_of(zero, 1)
        for row in range(rows):
            errors = load_like(zero, d, d_start + row * lanes)
            sum_ = add_products(sum_, x, at(begins, row) + column + k, 1, errors)
        store_rows(g, g_start + k * lanes, lanes, sum_)
        k += 1


@inlined
def prefetch_rows(net, data, order, first, last):
    """Prefetch dense samples."""
    inputs = net.table[0, INPUTS]
    for i in range(first, last):
        start = order[i] * inputs
        for k in range(start, start + inputs, per_line(data.x)):
            prefetch(data.x, k)
        prefetch(data.labels, order[i])
