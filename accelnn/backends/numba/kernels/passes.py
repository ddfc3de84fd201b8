"""The forward and the backward pass of a batch, divided among the threads of a team.

In the forward pass and in the update of the first layer, each thread computes some panels of a
layer's outputs; of later weights it updates the rows that these panels multiply. No other thread
accesses them between two barriers, so nothing is reduced across threads.
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
from accelnn.backends.numba.vectors import at, call_activation, load, prefetch, store, width, zeros

__all__ = [
    "Data",
    "Net",
    "Rule",
    "Work",
    "backward_first",
    "backward_hidden",
    "forward",
    "gather",
    "output_errors",
]

# Rows that are multiplied by all panels of a layer before the next rows, so that they stay in
# cache; a multiple of `SHORT`.
ROWS = 96


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
def forward(net, data, work, layer, order, first, panels, rows):
    """Compute some panels and rows of a layer's output."""
    table, params, z, lanes = net.table, net.params, work.outputs, width(work.outputs)
    capacity = work.capacity
    is_hidden, kind = layer < table.shape[0] - 1, table[layer, ACTIVATION]
    parameter = at(net.parameters, layer)
    panel_size = table[layer, INPUT_PANELS] * lanes * lanes
    source = table[layer, INPUT_PANEL] * capacity * lanes
    for top in range(rows[0], rows[1], ROWS):
        bottom = min(top + ROWS, rows[1])
        for panel in range(panels[0], panels[1]):
            weights = table[layer, WEIGHTS] + panel * panel_size
            bias = load(params, table[layer, BIAS] + panel * lanes)
            target = (table[layer, OUTPUT_PANEL] + panel) * capacity * lanes
            sparse = layer == 0 and data.sparse
            if not sparse:
                inputs = table[layer, INPUTS]
                multiply(z, source, capacity, inputs, params, weights, z, target, top, bottom)
            for row in range(top, bottom):
                here = target + row * lanes
                if sparse:
                    sample = order[first + row]
                    begin, end = data.starts[sample], data.starts[sample + 1]
                    x = multiply_sparse_row(data.values, data.columns, begin, end, params, weights)
                else:
                    x = load(z, here)
                x = x + bias
                if is_hidden and kind != OWN_CODE:
                    x, slope = activate(kind, x, parameter)
                    store(work.slopes, here, slope)
                store(z, here, x)
            if is_hidden and kind == OWN_CODE:
                here, count = target + top * lanes, (bottom - top) * lanes
                call_activation(table[layer, CODE], z, here, work.slopes, here, count)


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
def backward_hidden(member, net, work, rule, step, layer, batch):
    """Backpropagate the error of a layer to its input, and update its weights and bias."""
    table, params, lanes = net.table, net.params, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
    panels, panel_size = table[layer, OUTPUT_PANELS], table[layer, INPUT_PANELS] * lanes * lanes
    error = table[layer, OUTPUT_PANEL] * capacity * lanes
    own = member.number * (scratch.size // member.size)
    block = own + panels * lanes * lanes
    first, last = share(member, table[layer, INPUT_PANELS], 1)
    for panel in range(first, last):
        weights = table[layer, WEIGHTS] + panel * lanes * lanes
        source = (table[layer, INPUT_PANEL] + panel) * capacity * lanes
        transpose(params, weights, panels, panel_size, outputs, scratch, own)
        multiply(errors, error, capacity, outputs, scratch, own, errors, source, ZERO, batch)
        for here in range(source, source + batch * lanes, lanes):
            store(errors, here, load(errors, here) * load(work.slopes, here))
        columns = min(lanes, inputs - panel * lanes)
        for output in range(panels):
            d = error + output * capacity * lanes
            multiply_transposed(work.outputs, source, columns, errors, d, batch, scratch, block)
            here = weights + output * panel_size
            update(rule, step, params, here, scratch, block, columns * lanes, False)  # noqa: FBT003
    first, last = share(member, panels, 1)
    update_bias(net, work, rule, step, layer, batch, first, last, own)


@inlined
def backward_first(member, net, data, work, rule, step, order, start, batch):
    """Update the first layer; each thread needs only the errors of its own panels."""
    table, params, lanes = net.table, net.params, width(work.outputs)
    capacity, errors, scratch = work.capacity, work.errors, work.scratch
    inputs, panel_size = table[0, INPUTS], table[0, INPUT_PANELS] * lanes * lanes
    own = member.number * (scratch.size // member.size)
    first, last = share(member, table[0, OUTPUT_PANELS], 1)
    if data.sparse:
        for panel in range(first, last):
            error = (table[0, OUTPUT_PANEL] + panel) * capacity * lanes
            sparse_gradient(
                data, order, start, batch, errors, error, scratch, own, inputs, panel == first
            )
            weights = table[0, WEIGHTS] + panel * panel_size
            update(rule, step, params, weights, scratch, own, inputs * lanes, False)  # noqa: FBT003
    else:
        for k in range(0, inputs, lanes):
            source = table[0, INPUT_PANEL] * capacity * lanes + k * capacity
            columns = min(lanes, inputs - k)
            for panel in range(first, last):
                error = (table[0, OUTPUT_PANEL] + panel) * capacity * lanes
                multiply_transposed(
                    work.outputs, source, columns, errors, error, batch, scratch, own
                )
                weights = table[0, WEIGHTS] + panel * panel_size + k * lanes
                update(rule, step, params, weights, scratch, own, columns * lanes, False)  # noqa: FBT003
    update_bias(net, work, rule, step, ZERO, batch, first, last, own)


@inlined
def sparse_gradient(data, order, start, batch, errors, error, gradient, own, inputs, look_ahead):
    """Write a panel of the first layer's gradient, and prefetch the next batch.

    Samples are drawn at random, so hardware prefetching does not work.
    """
    lanes = width(errors)
    for here in range(own, own + inputs * lanes, lanes):
        store(gradient, here, zeros(errors))
    for row in range(batch):
        if look_ahead and start + batch + row < order.size:
            following = order[start + batch + row]
            for k in range(data.starts[following], data.starts[following + 1], lanes // 2):
                prefetch(data.values, k)
                prefetch(data.columns, k)
        sample = order[start + row]
        begin, end = data.starts[sample], data.starts[sample + 1]
        vector = load(errors, error + row * lanes)
        add_sparse_row(data.values, data.columns, begin, end, vector, gradient, own)


@called
def update_bias(net, work, rule, step, layer, batch, first, last, own):
    """Update some panels of a layer's bias."""
    table, lanes = net.table, width(work.outputs)
    if not table[layer, HAS_BIAS]:
        return
    for panel in range(first, last):
        error = (table[layer, OUTPUT_PANEL] + panel) * work.capacity * lanes
        sum_ = zeros(work.errors)
        for here in range(error, error + batch * lanes, lanes):
            sum_ = sum_ + load(work.errors, here)
        store(work.scratch, own, sum_)
        bias = table[layer, BIAS] + panel * lanes
        update(rule, step, net.params, bias, work.scratch, own, lanes, True)  # noqa: FBT003
