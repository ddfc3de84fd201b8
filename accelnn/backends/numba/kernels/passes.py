"""The forward and the backward pass of a batch, divided among the threads of a team.

A product is cut into units, blocks of rows of its panels, that threads share. Each number is
computed by one thread, in one order, so nothing is reduced across threads, and results do not
depend on their number.
"""

from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import OWN_CODE, ZERO, called, inlined
from accelnn.backends.numba.kernels.activations import activate
from accelnn.backends.numba.kernels.losses import loss_of_row, write_error
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.products import (
    add_sparse_row,
    multiply,
    multiply_sparse_row,
    multiply_transposed,
    transpose,
)
from accelnn.backends.numba.kernels.updates import update
from accelnn.backends.numba.layout import (
    ACTIVATION,
    BIAS,
    CODE,
    HAS_BIAS,
    INPUT_PANEL,
    INPUT_PANELS,
    INPUTS,
    OUTPUT_PANEL,
    OUTPUT_PANELS,
    OUTPUTS,
    WEIGHTS,
)
from accelnn.backends.numba.vectors import (
    DEEP,
    TALL,
    at,
    call_activation,
    load,
    prefetch,
    store,
    width,
    zeros,
)

__all__ = [
    "ROWS",
    "Data",
    "Net",
    "Rule",
    "Work",
    "forward",
    "gather",
    "input_errors",
    "output_errors",
    "share_units",
    "update_layer",
    "update_sparse_layer",
]

# Rows that are multiplied by all panels of a layer before the next rows, so that `DEEP` columns of
# them stay in L2 cache; a multiple of `TALL`.
ROWS = 240
# Rows of errors, counted over panels, that are multiplied by a block of columns of a layer's input
# before the next block, so that they stay in L2 cache.
TOGETHER = 2048


class Net(NamedTuple):
    """An architecture and its packed parameters; see `accelnn.backends.numba.layout`.

    `parameters` has that of each hidden layer's activation, and last that of the loss. `loss` is a
    number, or `OWN_CODE` for a user's loss, called by the addresses of its functions.
    """

    table: np.ndarray
    params: np.ndarray
    parameters: np.ndarray
    loss: int
    loss_value: int
    loss_slope: int


class Data(NamedTuple):
    """Samples, dense in `x` or sparse, and targets; unused arrays are empty.

    The non-zeros of sample s are ``values[starts[s] : starts[s + 1]]``, in `columns`. Its weight is
    ``weights[s]``, or 1 if `weights` is empty.
    """

    sparse: bool
    x: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    labelled: bool
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Rule(NamedTuple):
    """An optimiser: its number, its hyperparameters, and its state in packed buffers.

    ``rates[i]`` is the learning rate of update number ``done + i + 1``. `code` is the address of a
    user's own.
    """

    kind: int
    numbers: np.ndarray
    decay_of_weights: float
    decay_of_biases: float
    slots: np.ndarray
    rates: np.ndarray
    coefficients: np.ndarray
    done: int
    code: int


class Work(NamedTuple):
    """Buffers of a batch: outputs, slopes of the activations, errors, and scratch per thread.

    All but `scratch` hold panels of `capacity` rows, a multiple of `SHORT`.
    """

    capacity: int
    outputs: np.ndarray
    slopes: np.ndarray
    errors: np.ndarray
    scratch: np.ndarray


@inlined
def gather(net, data, work, order, first, start, stop):
    """Copy samples ``order[first + start : first + stop]`` to rows `start` to `stop`."""
    lanes, capacity = width(data.x), work.capacity
    inputs = net.table[0, INPUTS]
    panels = net.table[0, INPUT_PANEL]
    for row in range(start, stop):
        sample = order[first + row] * inputs
        for k in range(0, inputs, lanes):
            target = panels * capacity * lanes + k * capacity + row * lanes
            if k + lanes <= inputs:
                store(work.outputs, target, load(data.x, sample + k))
            else:
                for lane in range(inputs - k):
                    work.outputs[target + lane] = at(data.x, sample + k + lane)


@inlined
def forward(net, data, work, layer, order, first, rows, units):
    """Compute some units of a layer's output, of rows ``rows[0]`` to ``rows[1]``.

    A *unit* is a panel's `TALL` rows; units are numbered panel by panel.
    """
    table, params, z, lanes = net.table, net.params, work.outputs, width(work.outputs)
    is_hidden = layer < table.shape[0] - 1
    panel_size = table[layer, INPUT_PANELS] * lanes * lanes
    source = table[layer, INPUT_PANEL] * work.capacity * lanes
    sparse = layer == 0 and data.sparse
    inputs = 1 if sparse else table[layer, INPUTS]
    for k in range(0, inputs, DEEP):
        count = min(DEEP, inputs - k)
        panel, last = panels_of(rows, units)
        while panel < last:
            top, bottom = rows_of_panel(rows, units, panel)
            weights = table[layer, WEIGHTS] + panel * panel_size
            bias = load(params, table[layer, BIAS] + panel * lanes)
            target = (table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
            if sparse:
                for row in range(top, bottom):
                    sample = order[first + row]
                    begin, end = data.starts[sample], data.starts[sample + 1]
                    x = multiply_sparse_row(data.values, data.columns, begin, end, params, weights)
                    store(z, target + row * lanes, x + bias)
            else:
                a, b = source + k * work.capacity, weights + k * lanes
                multiply(z, a, work.capacity, count, params, b, z, target, top, bottom, bias, k > 0)
            if is_hidden and k + count == inputs:
                here, count_ = target + top * lanes, (bottom - top) * lanes
                activate_rows(net, work, layer, here, count_)
            panel += 1


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


@inlined
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


@inlined
def output_errors(net, data, work, order, first, batch, rows, losses):
    """Write each row's loss, and the derivative of the mean loss for the last layer's output."""
    layer, lanes = net.table.shape[0] - 1, width(work.outputs)
    outputs = net.table[layer, OUTPUTS]
    start = net.table[layer, OUTPUT_PANEL] * work.capacity * lanes
    z, errors = work.outputs, work.errors
    for row in range(rows[0], rows[1]):
        sample = order[first + row]
        weight = data.weights[sample] if data.weights.size > 0 else 1.0
        losses[row] = weight * loss_of_row(
            net, z, start, work.capacity, row, outputs, data, sample, errors
        )
        write_error(
            net, z, start, work.capacity, row, outputs, data, sample, weight / batch, errors
        )


@inlined
def input_errors(member, net, work, layer, batch):
    """Backpropagate the error of a layer to its input."""
    table, params, lanes = net.table, net.params, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    outputs, panel_size = table[layer, OUTPUTS], table[layer, INPUT_PANELS] * lanes * lanes
    own = member.number * (scratch.size // member.size)
    for start in range(0, batch, ROWS):
        rows = (start, min(start + ROWS, batch))
        units = share_units(member, table[layer, INPUT_PANELS], rows)
        for k in range(0, outputs, DEEP):
            last_k = min(k + DEEP, outputs)
            error = (table[layer, OUTPUT_PANEL] * lanes + k) * capacity
            panel, last = panels_of(rows, units)
            while panel < last:
                top, bottom = rows_of_panel(rows, units, panel)
                weights = table[layer, WEIGHTS] + panel * lanes * lanes
                target = (table[layer, INPUT_PANEL] + panel) * capacity * lanes
                transpose(params, weights, panel_size, k, last_k, scratch, own)
                multiply(
                    errors,
                    error,
                    capacity,
                    last_k - k,
                    scratch,
                    own,
                    errors,
                    target,
                    top,
                    bottom,
                    zeros(errors),
                    k > 0,
                )
                if last_k == outputs:
                    for here in range(target + top * lanes, target + bottom * lanes, lanes):
                        store(errors, here, load(errors, here) * load(work.slopes, here))
                panel += 1


@inlined
def update_layer(member, net, work, rule, step, layer, batch):
    """Update the weights and the bias of a layer, whose input is stored."""
    table, params, lanes = net.table, net.params, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    inputs, blocks = table[layer, INPUTS], table[layer, INPUT_PANELS]
    own = member.number * (scratch.size // member.size)
    first, last = share(member, table[layer, OUTPUT_PANELS] * blocks, 1)
    together = max(1, TOGETHER // batch)
    start, stop = first // blocks, (last + blocks - 1) // blocks
    while start < stop:
        end = min(start + together, stop)
        for k in range(blocks):
            source = (table[layer, INPUT_PANEL] + k) * capacity * lanes
            columns = min(lanes, inputs - k * lanes)
            panel = start
            while panel < end:
                if first <= panel * blocks + k < last:
                    error = (table[layer, OUTPUT_PANEL] + panel) * capacity * lanes
                    weights = table[layer, WEIGHTS] + (panel * blocks + k) * lanes * lanes
                    multiply_transposed(
                        work.outputs, source, columns, errors, error, batch, scratch, own
                    )
                    update(rule, step, params, weights, scratch, own, columns * lanes, False)  # noqa: FBT003
                panel += 1
        start = end
    update_bias(member, net, work, rule, step, layer, batch, own)


@inlined
def update_sparse_layer(member, net, data, work, rule, step, order, start, batch):
    """Update the first layer, whose input is sparse."""
    table, lanes, scratch = net.table, width(work.outputs), work.scratch
    inputs, panel_size = table[0, INPUTS], table[0, INPUT_PANELS] * lanes * lanes
    own = member.number * (scratch.size // member.size)
    # Threads without a whole number of panels get parts of them.
    parts = 1 if table[0, OUTPUT_PANELS] % member.size == 0 else member.size
    first, last = share(member, table[0, OUTPUT_PANELS] * parts, 1)
    unit = first
    while unit < last:
        panel, part = unit // parts, unit % parts
        columns = (inputs * part // parts, inputs * (part + 1) // parts)
        error = (table[0, OUTPUT_PANEL] + panel) * work.capacity * lanes
        sparse_gradient(
            data, order, start, batch, work.errors, error, scratch, own, columns, unit == first
        )
        weights = table[0, WEIGHTS] + panel * panel_size + columns[0] * lanes
        count = (columns[1] - columns[0]) * lanes
        update(rule, step, net.params, weights, scratch, own, count, False)  # noqa: FBT003
        unit += 1
    update_bias(member, net, work, rule, step, ZERO, batch, own)


@inlined
def sparse_gradient(data, order, start, batch, errors, error, gradient, own, columns, look_ahead):
    """Write some rows of a panel of the first layer's gradient, and prefetch the next batch.

    Samples are drawn at random, so hardware prefetching does not work.
    """
    lanes = width(errors)
    offset = own - columns[0] * lanes
    for here in range(own, offset + columns[1] * lanes, lanes):
        store(gradient, here, zeros(errors))
    for row in range(batch):
        if look_ahead and start + batch + row < order.size:
            following = order[start + batch + row]
            for k in range(data.starts[following], data.starts[following + 1], lanes // 2):
                prefetch(data.values, k)
                prefetch(data.columns, k)
        sample = order[start + row]
        begin, end = data.starts[sample], data.starts[sample + 1]
        if columns[0] > 0:
            begin = first_from(data.columns, begin, end, columns[0])
        end = first_from(data.columns, begin, end, columns[1])
        vector = load(errors, error + row * lanes)
        add_sparse_row(data.values, data.columns, begin, end, vector, gradient, offset)


@inlined
def first_from(columns, first, last, column):
    """Return where, from `first` to `last`, ascending columns reach a given one."""
    if first == last or at(columns, last - 1) < column:
        return last
    while first < last:
        middle = (first + last) // 2
        if at(columns, middle) < column:
            first = middle + 1
        else:
            last = middle
    return first


@called
def update_bias(member, net, work, rule, step, layer, batch, own):
    """Update this thread's panels of a layer's bias."""
    table, lanes = net.table, width(work.outputs)
    if not table[layer, HAS_BIAS]:
        return
    first, last = share(member, table[layer, OUTPUT_PANELS], 1)
    for panel in range(first, last):
        error = (table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
        sum_ = zeros(work.errors)
        for here in range(error, error + batch * lanes, lanes):
            sum_ = sum_ + load(work.errors, here)
        store(work.scratch, own, sum_)
        bias = table[layer, BIAS] + panel * lanes
        update(rule, step, net.params, bias, work.scratch, own, lanes, True)  # noqa: FBT003
