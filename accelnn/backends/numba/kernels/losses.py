"""The losses of a row of scores, the last layer's output: value and error.

`z` holds panels of `capacity` rows from `start`; so does `out`, in the same places. A target is a
label or a row of numbers.
"""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import (
    at,
    exp_and_expm1,
    first_lanes,
    largest,
    load,
    store,
    total,
    width,
)

__all__ = ["CROSS_ENTROPY", "LOSSES", "loss_of_row", "place", "softmax_of_row", "write_error"]

# Names of the losses that have code here; their positions are their numbers in kernels.
LOSSES = ("cross_entropy", "sum_squared_error")
CROSS_ENTROPY = LOSSES.index("cross_entropy")


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
def loss_of_row(kind, z, start, capacity, row, outputs, data, sample, out):
    """Return the loss of one sample; under cross entropy, `out` gets T softmax(z)."""
    if kind != CROSS_ENTROPY:
        squares = 0.0
        for output in range(outputs):
            difference = float(at(z, place(z, start, capacity, row, output)))
            difference -= target(data, sample, output, outputs)
            squares += difference * difference
        return 0.5 * squares
    exps_sum, top = exponentials(z, start, capacity, row, outputs, out)
    log_sum = math.log(exps_sum)
    if data.labelled:
        score = at(z, place(z, start, capacity, row, data.labels[sample]))
        weight, loss = 1.0, (top - score) + log_sum
    else:
        weight, loss = 0.0, 0.0
        for output in range(outputs):
            t = float(at(data.targets, sample * outputs + output))
            weight += t
            loss += t * ((top - at(z, place(z, start, capacity, row, output))) + log_sum)
    scale(out, start, capacity, row, outputs, weight / exps_sum)
    return loss


@inlined
def write_error(kind, z, start, capacity, row, outputs, data, sample, factor, out):
    """Write the derivative of the loss times `factor`, after `loss_of_row` was called."""
    for output in range(outputs):
        here = place(z, start, capacity, row, output)
        value = out[here] if kind == CROSS_ENTROPY else z[here]
        out[here] = (value - target(data, sample, output, outputs)) * factor


@inlined
def target(data, sample, output, outputs):
    """Return one number of a target."""
    if data.labelled:
        return 1.0 if data.labels[sample] == output else 0.0
    return float(at(data.targets, sample * outputs + output))
