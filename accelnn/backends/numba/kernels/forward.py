"""The forward pass of a piece of a batch.

A product is cut into *units*, a panel's `TALL` rows each, numbered panel by panel, that threads
share. Each number is computed by one thread, in one order, so nothing is reduced across threads,
and results do not depend on their number.
"""

from accelnn.backends.numba._jit import OWN_CODE, ZERO, called, inlined
from accelnn.backends.numba.kernels.activations import activate
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.products import multiply
from accelnn.backends.numba.kernels.samples import multiply_samples
from accelnn.backends.numba.layout import (
    ACTIVATION,
    BIAS,
    CODE,
    HAS_BIAS,
    INPUT_PANEL,
    INPUTS,
    OUTPUT_PANEL,
    OUTPUTS,
    PANEL,
    ROW,
    WEIGHTS,
)
from accelnn.backends.numba.vectors import (
    DEEP,
    TALL,
    at,
    call_activation,
    dropout_factors,
    load,
    per_line,
    rows_at_once,
    store,
    width,
    zeros,
)

__all__ = [
    "activate_panel",
    "forward",
    "is_large",
    "panels_of",
    "rows_of_block",
    "rows_of_panel",
    "share_units",
    "start_of_input",
]

# Cache lines of parameters that do not stay in L2 cache, and so are prefetched: 2 MB.
LARGE = 1 << 15
# The rows of a batch that all panels of a layer multiply before the next rows.
rows_of_block = inlined(rows_at_once)


@inlined
def forward(net, data, work, mask, update_number, done, layer, rows, units):
    """Compute some units of a layer's output, of rows ``rows[0]`` to ``rows[1]``.

    A *unit* is a panel's `TALL` rows; units are numbered panel by panel. The batch has `done` rows
    in earlier pieces.
    """
    table, params, z, lanes = net.table, net.params, work.outputs, width(work.outputs)
    is_hidden = layer < table.shape[0] - 1
    source, row_size = start_of_input(net, work, layer), table[layer, ROW]
    # Products with zeros left out are done in one go.
    inputs = 1 if layer == 0 and work.sparse else table[layer, INPUTS]
    for k in range(0, inputs, DEEP):
        count = min(DEEP, inputs - k)
        panel, last = panels_of(rows, units)
        while panel < last:
            top, bottom = rows_of_panel(rows, units, panel)
            weights = table[layer, WEIGHTS] + panel * table[layer, PANEL]
            bias = zeros(params)
            if table[layer, HAS_BIAS]:
                bias = load(params, table[layer, BIAS] + panel * lanes)
            target = (table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
            used = table[layer, OUTPUTS] - panel * lanes
            ahead = -1
            if is_large(params) and row_size == lanes and panel + 1 < last:
                ahead = weights + table[layer, PANEL] + k * lanes
            if layer == 0 and not work.gathered:
                multiply_samples(
                    net, data, work, k, count, weights, row_size, target, top, bottom, bias, used
                )
            else:
                multiply(
                    z,
                    source + k * work.capacity,
                    work.capacity,
                    count,
                    params,
                    weights + k * row_size,
                    row_size,
                    z,
                    target,
                    top,
                    bottom,
                    bias,
                    k > 0,
                    used,
                    ahead,
                )
            if is_hidden and k + count == inputs:
                activate_panel(net, work, mask, update_number, done, layer, panel, top, bottom)
            panel += 1


@inlined
def activate_panel(net, work, mask, update_number, done, layer, panel, first, last):
    """Apply a layer's activation and dropout to some rows of a panel, and store the slopes."""
    lanes = width(work.outputs)
    start = (net.table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
    activate_rows(net, work, layer, start + first * lanes, (last - first) * lanes)
    if mask.threshold > 0:
        drop(work, mask, update_number, done, layer, panel, start, first, last)


@inlined
def is_large(params):
    """Return whether a net's parameters are to be prefetched."""
    return params.size // per_line(params) > LARGE


@inlined
def start_of_input(net, work, layer):
    """Return where in the outputs of all layers the input of a layer starts."""
    if layer == 0:
        return work.samples
    return net.table[layer, INPUT_PANEL] * work.capacity * width(work.outputs)


@called
def drop(work, mask, update_number, done, layer, panel, start, first, last):
    """Multiply a panel's outputs and slopes by the dropout mask of an update."""
    z, slopes, lanes = work.outputs, work.slopes, width(work.outputs)
    for row in range(first, last):
        here = start + row * lanes
        factors = dropout_factors(
            z,
            update_number,
            layer,
            done + row,
            panel * lanes,
            mask.seed,
            mask.threshold,
            z.dtype.type(mask.scale),
        )
        store(z, here, load(z, here) * factors)
        store(slopes, here, load(slopes, here) * factors)


@inlined
def share_units(member, panels, rows):
    """Return this thread's units of so many panels and these rows."""
    return share(member, panels * ((rows[1] - rows[0] + TALL - 1) // TALL), 1)


@inlined
def panels_of(rows, units):
    """Return the first panel that some units are of, and the one after the last."""
    if units[0] == units[1]:
        return ZERO, ZERO
    blocks = (rows[1] - rows[0] + TALL - 1) // TALL
    return units[0] // blocks, (units[1] + blocks - 1) // blocks


@inlined
def rows_of_panel(rows, units, panel):
    """Return the rows of a panel that some units are of."""
    blocks = (rows[1] - rows[0] + TALL - 1) // TALL
    first, last = units[0] - panel * blocks, units[1] - panel * blocks
    return rows[0] + max(first, 0) * TALL, min(rows[0] + min(last, blocks) * TALL, rows[1])


@called
def activate_rows(net, work, layer, start, count):
    """Apply a layer's activation to outputs, and store its slopes."""
    z, kind, lanes = work.outputs, net.table[layer, ACTIVATION], width(work.outputs)
    if kind == OWN_CODE:
        call_activation(net.table[layer, CODE], z, start, work.slopes, start, count)
        return
    parameter = at(net.parameters, layer)
    for here in range(start, start + count, lanes):
        y, slope = activate(kind, load(z, here), parameter)
        store(work.slopes, here, slope)
        store(z, here, y)
