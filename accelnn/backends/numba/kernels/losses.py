"""The losses of a row of scores, the last layer's output: value and error.

`z` holds panels of `capacity` rows from `start`; so does `out`, in the same places. A target is a
label or a row of numbers.
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

# Losses that are sums over outputs, each of which has a file; cross entropy is not.
SUMS = names_with_code(ALL)
# Their positions are their numbers in kernels.
LOSSES = ("cross_entropy", *SUMS)
CROSS_ENTROPY, BINARY_CROSS_ENTROPY = map(LOSSES.index, ("cross_entropy", "binary_cross_entropy"))
# Value and derivative of loss number `kind`, with its parameter if it has one, of one output, and
# what a net makes of the output.
loss = inlined(choice(SUMS, "loss", "a, t, parameter", first=1))
output_of = inlined(choice(SUMS, "output", "a", first=1))


@inlined
def place(z, start, capacity, row, output):
    """Return where output number `output` of a row is."""
    lanes = width(z)
    panel = output // lanes
    return start + (panel * capacity + row) * lanes + (output - panel * lanes)


@inlined
def exponentials(z, start, capacity, row, outputs, out):
    """Write ``exp(z - max(z))``, zero beyond the outputs; return the sum and the maximum."""
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
    """Multiply a row by a number."""
    lanes = width(out)
    for k in range(0, outputs, lanes):
        here = start + k * capacity + row * lanes
        store(out, here, load(out, here) * factor)


@inlined
def softmax_of_row(z, start, capacity, row, outputs, out):
    """Write the probabilities."""
    exps_sum, _ = exponentials(z, start, capacity, row, outputs, out)
    scale(out, start, capacity, row, outputs, 1.0 / exps_sum)


@inlined
def loss_of_row(net, z, start, capacity, row, outputs, data, sample, out):
    """Return the loss of one sample; under cross entropy, `out` gets T softmax(z)."""
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
    """Write the derivative of the loss times `factor`, after `loss_of_row` was called."""
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
    """Return one number of a target."""
    if data.labelled:
        return 1.0 if data.labels[sample] == output else 0.0
    return float(at(data.targets, sample * outputs + output))
