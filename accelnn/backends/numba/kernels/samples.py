"""The first layer's products with the samples of a piece, in whatever form these are.

Dense samples are read where they are (`rows`), or gathered in panels like the outputs of a layer;
of others, single non-zeros (`nonzeros`) are looked up, or quads listed (`quads`). The type of the
codes tells single non-zeros from all else, so that a kernel has code of what its data needs.
"""

from numba import types
from numba.extending import overload

from accelnn.backends.numba._jit import INLINED, inlined
from accelnn.backends.numba.kernels.nonzeros import locate
from accelnn.backends.numba.kernels.products import multiply_sparse_row
from accelnn.backends.numba.kernels.quads import (
    expand_quads,
    list_quads,
    multiply_quads,
    multiply_quads_transposed,
    prefetch_quads,
)
from accelnn.backends.numba.kernels.rows import (
    locate_rows,
    multiply_rows,
    multiply_rows_transposed,
    prefetch_rows,
)
from accelnn.backends.numba.layout import INPUTS
from accelnn.backends.numba.vectors import SHORT, at, load, store, width, zeros

__all__ = [
    "expand_sample",
    "has_single_nonzeros",
    "multiply_samples",
    "multiply_samples_transposed",
    "prefetch_samples",
    "read_samples",
]


def has_single_nonzeros(data):
    """Return whether data sets of this type of Numba's have non-zeros that are stored alone."""
    return data.types[data.fields.index("codes")].dtype == types.uint8


def read_samples(member, net, data, work, order, first, rows, size):
    """Make samples ``order[first : first + size]`` the input of rows 0 to `size`.

    A member reads its `rows`, or of all rows its quads.
    """
    raise NotImplementedError


@overload(read_samples, jit_options=INLINED)
def _read_samples(member, net, data, work, order, first, rows, size):
    def of_nonzeros(member, net, data, work, order, first, rows, size):
        locate(data, work, order, first, rows[0], rows[1])

    def of_others(member, net, data, work, order, first, rows, size):
        if work.quads:
            list_quads(member, net, data, work, order, first, size)
        elif work.gathered:
            gather(net, data, work, order, first, rows[0], rows[1])
        else:
            locate_rows(net, work, order, first, rows[0], rows[1])

    return of_nonzeros if has_single_nonzeros(data) else of_others


@inlined
def gather(net, data, work, order, first, start, stop):
    """Copy samples ``order[first + start : first + stop]`` to rows `start` to `stop`.

    A few rows at a time, because every panel is in a page of memory of its own. Rows that complete
    the last block become zero: products of whatever was there may be denormal, which takes a
    hundred times longer.
    """
    inputs, lanes, capacity = net.table[0, INPUTS], width(data.x), work.capacity
    for row in range(start, stop, SHORT):
        end = min(row + SHORT, stop)
        for k in range(0, inputs, lanes):
            panel = work.samples + k * capacity
            for i in range(row, end):
                source, target = order[first + i] * inputs + k, panel + i * lanes
                if k + lanes <= inputs:
                    store(work.outputs, target, load(data.x, source))
                else:
                    for lane in range(inputs - k):
                        work.outputs[target + lane] = at(data.x, source + lane)
    after = (stop + SHORT - 1) // SHORT * SHORT
    for k in range(0, inputs, lanes):
        target = work.samples + k * capacity
        for here in range(target + stop * lanes, target + after * lanes, lanes):
            store(work.outputs, here, zeros(work.outputs))


def expand_sample(net, data, work, sample, start):
    """Write a sample of quads with its zeros into the outputs, from `start` on."""
    raise NotImplementedError


@overload(expand_sample, jit_options=INLINED)
def _expand_sample(net, data, work, sample, start):
    def of_nonzeros(net, data, work, sample, start):
        pass

    def of_others(net, data, work, sample, start):
        expand_quads(data, sample, net.table[0, INPUTS], work.outputs, start)

    return of_nonzeros if has_single_nonzeros(data) else of_others


def multiply_samples(net, data, work, k, inner, b_start, b_row, c_start, first, last, start, used):
    """Write a panel of the first layer's products with rows `first` to `last`, plus `start`.

    The weights are at `b_start`, `b_row` apart, and the products at `c_start` in the outputs. Of
    dense samples, which are not gathered, `inner` columns from `k` on; sums start from what was
    written of the columns before.
    """
    raise NotImplementedError


@overload(multiply_samples, jit_options=INLINED)
def _multiply_samples(net, data, work, k, inner, b_start, b_row, c_start, first, last, start, used):
    def of_nonzeros(net, data, work, k, inner, b_start, b_row, c_start, first, last, start, used):
        z, b, lanes = work.outputs, net.params, width(work.outputs)
        for row in range(first, last):
            begin, end = at(work.begins, row), at(work.ends, row)
            x = multiply_sparse_row(work.values, work.columns, begin, end, b, b_start, b_row)
            store(z, c_start + row * lanes, x + start)

    def of_others(net, data, work, k, inner, b_start, b_row, c_start, first, last, start, used):
        z, b, begins = work.outputs, net.params, work.begins
        if work.quads:
            inputs = net.table[0, INPUTS]
            multiply_quads(work, inputs, b, b_start, b_row, z, c_start, first, last, start, used)
        else:
            add = k > 0
            multiply_rows(
                data.x,
                begins,
                k,
                inner,
                b,
                b_start,
                b_row,
                z,
                c_start,
                first,
                last,
                start,
                add,
                used,
            )

    return of_nonzeros if has_single_nonzeros(data) else of_others


def multiply_samples_transposed(data, work, column, columns, error, rows, g, g_start, used):
    """Write ``g[k] = Σ_s x[s, column + k] d[s]`` for some columns and the errors d at `error`.

    Of samples that are neither gathered nor single non-zeros.
    """
    raise NotImplementedError


@overload(multiply_samples_transposed, jit_options=INLINED)
def _multiply_samples_transposed(data, work, column, columns, error, rows, g, g_start, used):
    def of_nonzeros(data, work, column, columns, error, rows, g, g_start, used):
        pass

    def of_others(data, work, column, columns, error, rows, g, g_start, used):
        if work.quads:
            multiply_quads_transposed(work, column, columns, work.errors, error, g, g_start, used)
        else:
            multiply_rows_transposed(
                data.x, work.begins, column, columns, work.errors, error, rows, g, g_start, used
            )

    return of_nonzeros if has_single_nonzeros(data) else of_others


@inlined
def prefetch_samples(net, data, order, first, last, size):
    """Prefetch samples, which are drawn at random, so that hardware does not.

    Where quads are that come `size` later is prefetched as well.
    """
    if data.quads:
        prefetch_quads(data, order, first, last, size)
    else:
        prefetch_rows(net, data, order, first, last)
