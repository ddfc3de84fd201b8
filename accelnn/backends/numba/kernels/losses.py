"""The losses of a row of scores (the last layer's output): value and derivative.

`z` holds panels of `capacity` rows from `start`, and `out` has the same layout. A target is a label
or a row of numbers.
"""

import math

from accelnn.backends.numba._jit import OWN_CODE, inlined
from accelnn.backends.numba.formulas import choice, names_with_code
from accelnn.backends.numba.vectors import (
    at,
    call_loss,
    exp_and_expm1,
    first_lanes,
    largest,
    load,
    one_hot,
    store,
    total,
    width,
)
from accelnn.formulas._table import LOSSES as ALL

__all__ = [
    "BINARY_CROSS_ENTROPY",
    "CROSS_ENTROPY",
    "LOSSES",
    "loss_of_row",
    "output_of",
    "place",
    "softmax_of_row",
    "target",
    "write_error",
]

# The losses that are sums over outputs and have a file; cross entropy is not one.
SUMS = names_with_code(ALL)
# Kernels identify a loss by its index.
LOSSES = ("cross_entropy", *SUMS)
CROSS_ENTROPY, BINARY_CROSS_ENTROPY = map(LOSSES.index, ("cross_entropy", "binary_cross_entropy"))
# loss(kind, a, t, parameter): value and derivative for one output; output_of(kind, a): the output
# function.
loss = inlined(choice(SUMS, "loss", "a, t, parameter", first=1))
output_of = inlined(choice(SUMS, "output", "a", first=1))


@inlined
def place(z, start, capacity, row, output):
    """Return the index of output number `output` of a row."""
    lanes = width(z)
    panel = output // lanes
    return start + (panel * capacity + row) * lanes + (output - panel * lanes)


@inlined
def exponentials(z, start, capacity, row, outputs, out):
    """Write ``exp(z - max(z))``, padded with zeros; return their sum and max(z)."""
    lanes = width(z)
    top = at(z, start + row * lanes)
    for k in range(0, outputs, lanes):
        scores = load(z, start + k * capacity + row * lanes)
        top = max(top, largest(first_lanes(scores, outputs - k, -math.inf)))
    exps_sum = 0.0
    for k in range(0, outputs, lanes):
        here = start + k * capacity + row * lanes
        e, _ = exp_and_expm1(load(z, here) - top)
        e = first_lanes(e, outputs - k, 0.0)
        store(out, here, e)
        exps_sum += total(e)
    return exps_sum, float(top)


@inlined
def scale(out, start, capacity, row, outputs, factor):
    """Multiply a row by a scalar."""
    lanes = width(out)
    for k in range(0, outputs, lanes):
        here = start + k * capacity + row * lanes
        store(out, here, load(out, here) * factor)


@inlined
def softmax_of_row(z, start, capacity, row, outputs, out):
    """Write the softmax of a row."""
    exps_sum, _ = exponentials(z, start, capacity, row, outputs, out)
    scale(out, start, capacity, row, outputs, 1.0 / exps_sum)


@inlined
def loss_of_row(net, z, start, capacity, row, outputs, data, sample, out):
    """Return the loss of one sample; under cross entropy also write T softmax(z) to `out`."""
    if net.loss != CROSS_ENTROPY:
        total_loss = 0.0
        for output in range(outputs):
            a = float(at(z, place(z, start, capacity, row, output)))
            t = target(data, sample, output, outputs)
            if net.loss == OWN_CODE:
                total_loss += call_loss(net.loss_value, a, t)
            else:
                total_loss += loss(net.loss, a, t, at(net.parameters, net.table.shape[0] - 1))[0]
        return total_loss
    exps_sum, top = exponentials(z, start, capacity, row, outputs, out)
    log_sum = math.log(exps_sum)
    if data.labelled:
        score = at(z, place(z, start, capacity, row, data.labels[sample]))
        weight, entropy = 1.0, (top - score) + log_sum
    else:
        weight, entropy = 0.0, 0.0
        for output in range(outputs):
            t = float(at(data.targets, sample * outputs + output))
            weight += t
            entropy += t * ((top - at(z, place(z, start, capacity, row, output))) + log_sum)
    scale(out, start, capacity, row, outputs, weight / exps_sum)
    return entropy


@inlined
def write_error(net, z, start, capacity, row, outputs, data, sample, factor, out):
    """Write the derivative of the loss times `factor`; call `loss_of_row` first."""
    if net.loss == CROSS_ENTROPY and data.labelled:
        lanes, label = width(out), data.labels[sample]
        for k in range(0, outputs, lanes):
            here = start + k * capacity + row * lanes
            store(out, here, (load(out, here) - one_hot(out, label - k)) * out.dtype.type(factor))
        return
    for output in range(outputs):
        here = place(z, start, capacity, row, output)
        t = target(data, sample, output, outputs)
        if net.loss == CROSS_ENTROPY:
            out[here] = (out[here] - t) * factor
        elif net.loss == OWN_CODE:
            out[here] = call_loss(net.loss_slope, float(z[here]), t) * factor
        else:
            parameter = at(net.parameters, net.table.shape[0] - 1)
            out[here] = loss(net.loss, float(z[here]), t, parameter)[1] * factor


@inlined
def target(data, sample, output, outputs):
    """Return one element of a target, or of a label's one-hot row."""
    if data.labelled:
        return 1.0 if data.labels[sample] == output else 0.0
    return float(at(data.targets, sample * outputs + output))
