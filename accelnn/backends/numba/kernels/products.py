"""Matrix products of panels: dense, transposed, and with sparse rows.

`a` holds panels of `capacity` rows. Starts are flat indices.
"""

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import (
    SHORT,
    TALL,
    WIDE,
    add_products,
    at,
    load,
    multiply_add,
    rows_of_zeros,
    store,
    store_rows,
    width,
    zeros,
)

__all__ = ["add_sparse_row", "multiply", "multiply_sparse_row", "multiply_transposed", "transpose"]


@inlined
def multiply(a, a_start, capacity, inner, b, b_start, c, c_start, first, last):
    """Write a panel of the product: ``c[s] = Σ_k a[s, k] b[k]`` for rows `first` to `last`.

    ``k < inner``. Rows are computed in blocks: up to `SHORT` - 1 rows after `last` are written.
    """
    lanes, row = width(b), first
    while row + TALL <= last:
        sums = rows_of_zeros(c, TALL)
        sums = add_block(sums, a, a_start + row * lanes, capacity, inner, b, b_start)
        store_rows(c, c_start + row * lanes, lanes, sums)
        row += TALL
    while row < last:
        rest = rows_of_zeros(c, SHORT)
        rest = add_block(rest, a, a_start + row * lanes, capacity, inner, b, b_start)
        store_rows(c, c_start + row * lanes, lanes, rest)
        row += SHORT


@inlined
def add_block(sums, a, start, capacity, inner, b, b_start):
    """Return `sums` plus the products of as many rows, of which the first is at `start`."""
    lanes = width(b)
    for k in range(0, inner, lanes):
        block = start + k * capacity
        for lane in range(min(lanes, inner - k)):
            weights = load(b, b_start + (k + lane) * lanes)
            sums = add_products(sums, a, block + lane, lanes, weights)
    return sums


@inlined
def multiply_transposed(a, a_start, columns, d, d_start, rows, g, g_start):
    """Write ``g[k] = Σ_s a[s, k] d[s]`` for the first `columns` columns of a panel of `a`.

    Columns are computed in blocks: up to `WIDE` - 1 more are written.
    """
    lanes = width(d)
    for k in range(0, columns, WIDE):
        sums = rows_of_zeros(g, WIDE)
        for row in range(rows):
            place = row * lanes
            sums = add_products(sums, a, a_start + place + k, 1, load(d, d_start + place))
        store_rows(g, g_start + k * lanes, lanes, sums)


@inlined
def multiply_sparse_row(values, columns, k, stop, b, b_start):
    """Return ``Σ values[k] b[columns[k]]`` for one panel of `b`."""
    lanes = width(b)
    sum0, sum1, sum2, sum3 = zeros(b), zeros(b), zeros(b), zeros(b)
    while k + 4 <= stop:
        sum0 = multiply_add(values, k, load(b, b_start + at(columns, k) * lanes), sum0)
        sum1 = multiply_add(values, k + 1, load(b, b_start + at(columns, k + 1) * lanes), sum1)
        sum2 = multiply_add(values, k + 2, load(b, b_start + at(columns, k + 2) * lanes), sum2)
        sum3 = multiply_add(values, k + 3, load(b, b_start + at(columns, k + 3) * lanes), sum3)
        k += 4
    while k < stop:
        sum0 = multiply_add(values, k, load(b, b_start + at(columns, k) * lanes), sum0)
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


@inlined
def transpose(b, b_start, panels, panel_size, columns, out, out_start):
    """Write ``out[column, row] = b[row, column]`` for `LANES` rows of all panels of b."""
    lanes = width(b)
    for panel in range(panels):
        for column in range(min(lanes, columns - panel * lanes)):
            source = b_start + panel * panel_size + column
            target = out_start + (panel * lanes + column) * lanes
            for row in range(lanes):
                out[target + row] = at(b, source + row * lanes)
