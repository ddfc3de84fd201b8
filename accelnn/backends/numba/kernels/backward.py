"""The backward pass of a piece of a batch, and the update of the parameters with its last piece.

The work is shared like that of the forward pass.
"""

from numba.extending import overload

from accelnn.backends.numba._jit import INLINED, ZERO, called, inlined
from accelnn.backends.numba.kernels.arguments import ends_batch
from accelnn.backends.numba.kernels.clipping import first_square_of_biases, keep
from accelnn.backends.numba.kernels.forward import (
    is_large,
    panels_of,
    rows_of_block,
    rows_of_panel,
    share_units,
    start_of_input,
)
from accelnn.backends.numba.kernels.losses import loss_of_row, write_error
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.nonzeros import first_from
from accelnn.backends.numba.kernels.products import (
    add_sparse_row,
    multiply,
    multiply_transposed,
    prefetch_part,
    transpose,
)
from accelnn.backends.numba.kernels.samples import (
    has_single_nonzeros,
    multiply_samples_transposed,
    prefetch_samples,
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
# Numbers of a layer's input that stay there too. Then a panel of weights is updated as a whole
# before the next, which reads it where one line follows another: of a batch of one sample, weights
# are most of what is read.
FEW_NUMBERS = 1 << 16


@inlined
def output_errors(net, data, work, order, piece, rows, losses):
    """Write each row's loss, and the derivative of the mean loss for the last layer's output."""
    layer, lanes = net.table.shape[0] - 1, width(work.outputs)
    outputs = net.table[layer, OUTPUTS]
    start = net.table[layer, OUTPUT_PANEL] * work.capacity * lanes
    z, errors = work.outputs, work.errors
    for row in range(rows[0], rows[1]):
        sample = order[piece.start + row]
        weight = data.weights[sample] if data.weights.size > 0 else 1.0
        losses[piece.done + row] = weight * loss_of_row(
            net, z, start, work.capacity, row, outputs, data, sample, errors
        )
        factor = weight / piece.batch
        write_error(net, z, start, work.capacity, row, outputs, data, sample, factor, errors)


@inlined
def input_errors(member, net, work, layer, size):
    """Backpropagate the error of a layer to its input."""
    table, params, lanes = net.table, net.params, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    inputs, outputs, row_size = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, ROW]
    own = member.number * (scratch.size // member.size)
    step = rows_of_block(lanes)
    for start in range(0, size, step):
        rows = (start, min(start + step, size))
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
                    count,
                    -1,
                )
                if last_k == outputs:
                    for here in range(target + top * lanes, target + bottom * lanes, lanes):
                        store(errors, here, load(errors, here) * load(work.slopes, here))
                panel += 1


@inlined
def update_layer(member, net, data, work, rule, step, layer, piece, order, following):
    """Update the weights and the bias of a layer; of the first, not for single non-zeros.

    Meanwhile prefetch the samples from ``order[following]`` on, for the next piece.
    """
    table, lanes = net.table, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    inputs, blocks = table[layer, INPUTS], table[layer, INPUT_PANELS]
    outputs = table[layer, OUTPUTS]
    own = member.number * (scratch.size // member.size)
    first, last = share(member, table[layer, OUTPUT_PANELS] * blocks, 1)
    together = 1 if piece.size * inputs <= FEW_NUMBERS else max(1, TOGETHER // piece.size)
    start, stop = first // blocks, (last + blocks - 1) // blocks
    ahead, done = 0, 0
    fetches = rule.kind != STORE_GRADIENT and is_large(net.params)
    while start < stop:
        end = min(start + together, stop)
        for k in range(blocks):
            source = start_of_input(net, work, layer) + k * capacity * lanes
            columns = min(lanes, inputs - k * lanes)
            panel = start
            while panel < end:
                if first <= panel * blocks + k < last:
                    error = (table[layer, OUTPUT_PANEL] + panel) * capacity * lanes
                    used = outputs - panel * lanes
                    if fetches:
                        weights = table[layer, WEIGHTS] + panel * table[layer, PANEL]
                        prefetch_part(net.params, weights + k * lanes * lanes, columns * lanes)
                    if layer == 0 and not work.gathered:
                        multiply_samples_transposed(
                            data, work, k * lanes, columns, error, piece.size, scratch, own, used
                        )
                    else:
                        multiply_transposed(
                            work.outputs,
                            source,
                            columns,
                            errors,
                            error,
                            piece.size,
                            scratch,
                            own,
                            used,
                        )
                    update_panel(
                        net, rule, step, piece, layer, panel, k * lanes, columns, scratch, own
                    )
                    until = min(piece.size * (done + 1) // (last - first), order.size - following)
                    coming = following + ahead, following + until
                    prefetch_samples(net, data, order, coming[0], coming[1], piece.size)
                    ahead, done = max(ahead, until), done + 1
                panel += 1
        start = end
    update_bias(member, net, work, rule, step, piece, layer, own)


def update_sparse_layer(member, net, data, work, rule, step, order, piece):
    """Update the first layer, whose input is non-zeros that are stored one by one."""
    raise NotImplementedError


@overload(update_sparse_layer, jit_options=INLINED)
def _update_sparse_layer(member, net, data, work, rule, step, order, piece):
    def of_others(member, net, data, work, rule, step, order, piece):
        pass

    def of_nonzeros(member, net, data, work, rule, step, order, piece):
        update_by_nonzeros(member, net, data, work, rule, step, order, piece)

    return of_nonzeros if has_single_nonzeros(data) else of_others


@inlined
def update_by_nonzeros(member, net, data, work, rule, step, order, piece):
    """Do `update_sparse_layer`."""
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
        look_ahead = unit == first
        sparse_gradient(data, work, order, piece, error, own, columns, look_ahead)
        rows = columns[1] - columns[0]
        update_panel(net, rule, step, piece, ZERO, panel, columns[0], rows, scratch, own)
        unit += 1
    update_bias(member, net, work, rule, step, piece, ZERO, own)


@inlined
def sparse_gradient(data, work, order, piece, error, own, columns, look_ahead):
    """Write some rows of a panel of the first layer's gradient, and prefetch the next piece.

    Samples are drawn at random, so hardware prefetching does not work.
    """
    errors, gradient, lanes = work.errors, work.scratch, width(work.errors)
    offset = own - columns[0] * lanes
    for here in range(own, offset + columns[1] * lanes, lanes):
        store(gradient, here, zeros(errors))
    next_ = piece.start + piece.size
    for row in range(piece.size):
        if look_ahead and next_ + row < order.size:
            following = order[next_ + row]
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
def has_finite_errors(net, work, size):
    """Return whether all errors of the first layer's output are finite."""
    table, errors, lanes = net.table, work.errors, width(work.errors)
    for panel in range(table[0, OUTPUT_PANELS]):
        # Differences from themselves: zeros, or else NaN.
        sum_, start = zeros(errors), (table[0, OUTPUT_PANEL] + panel) * work.capacity * lanes
        for here in range(start, start + size * lanes, lanes):
            error = load(errors, here)
            sum_ = sum_ + (error - error)
        # After the last output there may be anything.
        if total(first_lanes(sum_, table[0, OUTPUTS] - panel * lanes, 0.0)) != 0.0:
            return False
    return True


@called
def update_panel(net, rule, step, piece, layer, panel, first, rows, gradient, start):
    """Update some rows of a panel of a layer's weights, or keep or store their gradient."""
    table, lanes = net.table, width(net.params)
    if rule.kind != STORE_GRADIENT:
        weights = table[layer, WEIGHTS] + panel * table[layer, PANEL] + first * lanes
        if not is_summed(rule, piece, weights, gradient, start, rows * lanes):
            return
        if rule.squares.size > 0:
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
        store_sum(rule, piece, target + row * outputs, g, outputs - panel * lanes)


@inlined
def is_summed(rule, piece, place, gradient, start, count):
    """Add a piece's gradient to that of the earlier ones; return whether it is the batch's.

    That of the last piece is added where it is, and others where the batch's is kept.
    """
    lanes, is_end = width(gradient), ends_batch(piece)
    if piece.done == 0 and is_end:
        return True
    for k in range(0, count, lanes):
        g = load(gradient, start + k)
        if piece.done > 0:
            g = g + load(rule.gradient, place + k)
        if is_end:
            store(gradient, start + k, g)
        else:
            store(rule.gradient, place + k, g)
    return is_end


@inlined
def store_sum(rule, piece, place, g, count):
    """Store a piece's part of the gradient, or add it to those of earlier ones."""
    if piece.done > 0:
        g = g + load_first(rule.slots, place, count)
    store_first(rule.slots, place, g, count)


@called
def update_bias(member, net, work, rule, step, piece, layer, own):
    """Update this thread's panels of a layer's bias, or store their gradient."""
    table, lanes = net.table, width(work.outputs)
    if not table[layer, HAS_BIAS]:
        return
    first, last = share(member, table[layer, OUTPUT_PANELS], 1)
    for panel in range(first, last):
        error = (table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
        sum_ = zeros(work.errors)
        for here in range(error, error + piece.size * lanes, lanes):
            sum_ = sum_ + load(work.errors, here)
        if rule.kind == STORE_GRADIENT:
            inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
            target = table[layer, FLAT] + inputs * outputs + panel * lanes
            store_sum(rule, piece, target, sum_, outputs - panel * lanes)
            continue
        store(work.scratch, own, sum_)
        bias = table[layer, BIAS] + panel * lanes
        if not is_summed(rule, piece, bias, work.scratch, own, lanes):
            continue
        if rule.squares.size > 0:
            i = first_square_of_biases(net) + bias // lanes
            rule.squares[i] = keep(rule, bias, work.scratch, own, 1)
        else:
            update(rule, step, net.params, bias, work.scratch, own, lanes, True)  # noqa: FBT003
