"""The backward pass of a batch, and the update of the parameters, shared like the forward pass."""

from accelnn.backends.numba._jit import ZERO, called, inlined
from accelnn.backends.numba.kernels.clipping import first_square_of_biases, keep
from accelnn.backends.numba.kernels.forward import (
    ROWS,
    panels_of,
    rows_of_panel,
    share_units,
    start_of_input,
)
from accelnn.backends.numba.kernels.losses import loss_of_row, write_error
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.products import (
    add_sparse_row,
    multiply,
    multiply_transposed,
    transpose,
)
from accelnn.backends.numba.kernels.updates import STORE_GRADIENT, update
from accelnn.backends.numba.layout import (
    BIAS,
    FLAT,
    HAS_BIAS,
    INPUT_PANEL,
    INPUT_PANELS,
    INPUTS,
    OUTPUT_PANEL,
    OUTPUT_PANELS,
    OUTPUTS,
    PANEL,
    ROW,
    WEIGHTS,
)
from accelnn.backends.numba.vectors import (
    DEEP,
    at,
    first_lanes,
    load,
    load_first,
    prefetch,
    store,
    store_first,
    total,
    width,
    zeros,
)

__all__ = [
    "TOGETHER",
    "has_finite_errors",
    "input_errors",
    "output_errors",
    "update_layer",
    "update_sparse_layer",
]

# Rows of errors, counted over panels, that are multiplied by a block of columns of a layer's input
# before the next block, so that they stay in L2 cache.
TOGETHER = 2048


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
    inputs, outputs, row_size = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, ROW]
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
                weights = table[layer, WEIGHTS] + panel * lanes * row_size
                target = (table[layer, INPUT_PANEL] + panel) * capacity * lanes
                count = min(lanes, inputs - panel * lanes)
                transpose(
                    params, weights, row_size, table[layer, PANEL], count, k, last_k, scratch, own
                )
                multiply(
                    errors,
                    error,
                    capacity,
                    last_k - k,
                    scratch,
                    own,
                    lanes,
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
def update_layer(member, net, data, work, rule, step, layer, batch, order, following):
    """Update the weights and the bias of a layer, whose input is stored.

    Meanwhile prefetch the samples from ``order[following]`` on, for the next batch.
    """
    table, lanes = net.table, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    inputs, blocks = table[layer, INPUTS], table[layer, INPUT_PANELS]
    own = member.number * (scratch.size // member.size)
    first, last = share(member, table[layer, OUTPUT_PANELS] * blocks, 1)
    together = max(1, TOGETHER // batch)
    start, stop = first // blocks, (last + blocks - 1) // blocks
    ahead, done = 0, 0
    while start < stop:
        end = min(start + together, stop)
        for k in range(blocks):
            source = start_of_input(net, work, layer) + k * capacity * lanes
            columns = min(lanes, inputs - k * lanes)
            panel = start
            while panel < end:
                if first <= panel * blocks + k < last:
                    error = (table[layer, OUTPUT_PANEL] + panel) * capacity * lanes
                    multiply_transposed(
                        work.outputs, source, columns, errors, error, batch, scratch, own
                    )
                    update_panel(net, rule, step, layer, panel, k * lanes, columns, scratch, own)
                    until = min(batch * (done + 1) // (last - first), order.size - following)
                    prefetch_samples(data, order, following + ahead, following + until, inputs)
                    ahead, done = max(ahead, until), done + 1
                panel += 1
        start = end
    update_bias(member, net, work, rule, step, layer, batch, own)


@inlined
def prefetch_samples(data, order, first, last, inputs):
    """Prefetch dense samples, which are drawn at random, so that hardware does not."""
    for i in range(first, last):
        start = order[i] * inputs
        for k in range(start, start + inputs, width(data.x) // 2):
            prefetch(data.x, k)


@inlined
def update_sparse_layer(member, net, data, work, rule, step, order, start, batch):
    """Update the first layer, whose input is sparse."""
    table, lanes, scratch = net.table, width(work.outputs), work.scratch
    inputs, own = table[0, INPUTS], member.number * (scratch.size // member.size)
    # Threads without a whole number of panels get parts of them.
    parts = 1 if table[0, OUTPUT_PANELS] % member.size == 0 else member.size
    first, last = share(member, table[0, OUTPUT_PANELS] * parts, 1)
    unit = first
    while unit < last:
        panel, part = unit // parts, unit % parts
        blocks = table[0, INPUT_PANELS]
        columns = (
            blocks * part // parts * lanes,
            min(blocks * (part + 1) // parts * lanes, inputs),
        )
        error = (table[0, OUTPUT_PANEL] + panel) * work.capacity * lanes
        sparse_gradient(
            data, work, order, start, batch, error, own, columns, data.sparse and unit == first
        )
        rows = columns[1] - columns[0]
        update_panel(net, rule, step, ZERO, panel, columns[0], rows, scratch, own)
        unit += 1
    update_bias(member, net, work, rule, step, ZERO, batch, own)


@inlined
def sparse_gradient(data, work, order, start, batch, error, own, columns, look_ahead):
    """Write some rows of a panel of the first layer's gradient, and prefetch the next batch.

    Samples are drawn at random, so hardware prefetching does not work.
    """
    errors, gradient, lanes = work.errors, work.scratch, width(work.errors)
    offset = own - columns[0] * lanes
    for here in range(own, offset + columns[1] * lanes, lanes):
        store(gradient, here, zeros(errors))
    for row in range(batch):
        if look_ahead and start + batch + row < order.size:
            following = order[start + batch + row]
            for k in range(data.starts[following], data.starts[following + 1], lanes // 2):
                prefetch(data.values, k)
                prefetch(data.columns, k)
        begin, end = at(work.begins, row), at(work.ends, row)
        if columns[0] > 0:
            begin = first_from(work.columns, begin, end, columns[0])
        end = first_from(work.columns, begin, end, columns[1])
        vector = load(errors, error + row * lanes)
        add_sparse_row(work.values, work.columns, begin, end, vector, gradient, offset)


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


@inlined
def has_finite_errors(net, work, batch):
    """Return whether all errors of the first layer's output are finite."""
    table, errors, lanes = net.table, work.errors, width(work.errors)
    for panel in range(table[0, OUTPUT_PANELS]):
        # Differences from themselves: zeros, or else NaN.
        sum_, start = zeros(errors), (table[0, OUTPUT_PANEL] + panel) * work.capacity * lanes
        for here in range(start, start + batch * lanes, lanes):
            error = load(errors, here)
            sum_ = sum_ + (error - error)
        # After the last output there may be anything.
        if total(first_lanes(sum_, table[0, OUTPUTS] - panel * lanes, 0.0)) != 0.0:
            return False
    return True


@called
def update_panel(net, rule, step, layer, panel, first, rows, gradient, start):
    """Update some rows of a panel of a layer's weights, or keep or store their gradient."""
    table, lanes = net.table, width(net.params)
    if rule.kind != STORE_GRADIENT:
        weights = table[layer, WEIGHTS] + panel * table[layer, PANEL] + first * lanes
        if rule.gradient.size > 0:
            for row in range(0, rows, lanes):
                here, part = weights + row * lanes, start + row * lanes
                i = here // (lanes * lanes)
                rule.squares[i] = keep(rule, here, gradient, part, min(lanes, rows - row))
            return
        update(rule, step, net.params, weights, gradient, start, rows * lanes, False)  # noqa: FBT003
        return
    outputs = table[layer, OUTPUTS]
    target = table[layer, FLAT] + first * outputs + panel * lanes
    for row in range(rows):
        g = load(gradient, start + row * lanes)
        store_share(rule, step, target + row * outputs, g, outputs - panel * lanes)


@inlined
def store_share(rule, step, place, g, count):
    """Store a batch's part of the gradient of a call, or add it to those of earlier batches."""
    index = step - rule.done - 1
    g = g * rule.rates[index]
    if index > 0:
        g = g + load_first(rule.slots, place, count)
    store_first(rule.slots, place, g, count)


@called
def update_bias(member, net, work, rule, step, layer, batch, own):
    """Update this thread's panels of a layer's bias, or store their gradient."""
    table, lanes = net.table, width(work.outputs)
    if not table[layer, HAS_BIAS]:
        return
    first, last = share(member, table[layer, OUTPUT_PANELS], 1)
    for panel in range(first, last):
        error = (table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
        sum_ = zeros(work.errors)
        for here in range(error, error + batch * lanes, lanes):
            sum_ = sum_ + load(work.errors, here)
        if rule.kind == STORE_GRADIENT:
            inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
            target = table[layer, FLAT] + inputs * outputs + panel * lanes
            store_share(rule, step, target, sum_, outputs - panel * lanes)
            continue
        store(work.scratch, own, sum_)
        bias = table[layer, BIAS] + panel * lanes
        if rule.gradient.size > 0:
            i = first_square_of_biases(net) + bias // lanes
            rule.squares[i] = keep(rule, bias, work.scratch, own, 1)
        else:
            update(rule, step, net.params, bias, work.scratch, own, lanes, True)  # noqa: FBT003
