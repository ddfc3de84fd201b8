"""Forward passes over a data set, parallel over samples."""

import math

from accelnn.backends.numba._jit import ZERO, called, inlined, vector_loop
from accelnn.backends.numba.kernels.arguments import Mask, work_in
from accelnn.backends.numba.kernels.forward import forward, share_units
from accelnn.backends.numba.kernels.launch import launch
from accelnn.backends.numba.kernels.losses import (
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
    loss_of_row,
    output_of,
    place,
    softmax_of_row,
    target,
)
from accelnn.backends.numba.kernels.meeting import is_abandoned, share
from accelnn.backends.numba.kernels.samples import read_samples
from accelnn.backends.numba.layout import OUTPUT_PANEL, OUTPUT_PANELS, OUTPUTS
from accelnn.backends.numba.team import Member
from accelnn.backends.numba.vectors import SHORT, at, width
from accelnn.formulas.binary_cross_entropy import EVEN

__all__ = ["BLOCK", "evaluate", "predict"]

# Samples per pass of small nets, so that they stay in cache: a multiple of `TALL`. Of others a pass
# has a whole block of rows, so that weights are read less often.
BLOCK = 48


@inlined
def forward_block(member, net, data, work, order, start, size):
    """Compute the scores of some samples; return their start in the work buffer."""
    myself, mask = Member(ZERO, ZERO + 1, member.meeting), Mask(ZERO, 1.0, ZERO)
    read_samples(myself, net, data, work, order, start, (ZERO, size), size)
    for layer in range(net.table.shape[0]):
        rows = (ZERO, size)
        units = share_units(myself, net.table[layer, OUTPUT_PANELS], rows)
        forward(net, data, work, mask, ZERO, ZERO, layer, rows, units)
    last = net.table.shape[0] - 1
    return net.table[last, OUTPUT_PANEL] * work.capacity * width(work.outputs)


@vector_loop
def predict(meeting, size, net, data, memory, order, as_scores, out):
    """Write the scores, or the outputs that the loss computes from them, row by row."""
    launch(predict_as, meeting, size, (net, data, memory, order, as_scores, out))


@called
def predict_as(member, net, data, memory, order, as_scores, out):
    """Do a member's share of `predict`."""
    work = work_in(memory, member.number, ZERO, data, ZERO)
    outputs = net.table[net.table.shape[0] - 1, OUTPUTS]
    probabilities = net.loss == CROSS_ENTROPY and not as_scores
    first, last = share(member, order.size, SHORT)
    for start in range(first, last, work.capacity):
        if is_abandoned(member):
            return
        size = min(work.capacity, last - start)
        z = forward_block(member, net, data, work, order, start, size)
        for row in range(size):
            if probabilities:
                softmax_of_row(work.outputs, z, work.capacity, row, outputs, work.outputs)
            for output in range(outputs):
                here = place(work.outputs, z, work.capacity, row, output)
                a = at(work.outputs, here)
                if not as_scores and net.loss != CROSS_ENTROPY:
                    a = output_of(net.loss, a)
                out[(start + row) * outputs + output] = a


@vector_loop
def evaluate(meeting, size, net, data, memory, order, losses, hits):
    """Write each sample's loss, and count the correctly classified samples.

    Under binary cross entropy, correct labels are counted.
    """
    launch(evaluate_as, meeting, size, (net, data, memory, order, losses, hits))


@called
def evaluate_as(member, net, data, memory, order, losses, hits):
    """Do a member's share of `evaluate`."""
    work = work_in(memory, member.number, ZERO, data, ZERO)
    outputs = net.table[net.table.shape[0] - 1, OUTPUTS]
    first, last = share(member, order.size, SHORT)
    for start in range(first, last, work.capacity):
        if is_abandoned(member):
            return
        size = min(work.capacity, last - start)
        z = forward_block(member, net, data, work, order, start, size)
        for row in range(size):
            sample = order[start + row]
            if net.loss == BINARY_CROSS_ENTROPY:
                hits[member.number] += right_labels(data, work, z, row, sample, outputs)
            else:
                hits[member.number] += is_hit(data, work, z, row, sample, outputs)
            # The last layer has no slopes, so their buffer holds the exponentials.
            losses[start + row] = loss_of_row(
                net, work.outputs, z, work.capacity, row, outputs, data, sample, work.slopes
            )


@inlined
def right_labels(data, work, z, row, sample, outputs):
    """Return how many labels are predicted correctly: a > 0 where t > ½; 0 if an output is NaN."""
    count = 0
    for output in range(outputs):
        value = at(work.outputs, place(work.outputs, z, work.capacity, row, output))
        if math.isnan(value):
            return 0
        if (value > 0.0) == (target(data, sample, output, outputs) > EVEN):
            count += 1
    return count


@inlined
def is_hit(data, work, z, row, sample, outputs):
    """Return 1 if the argmax of the scores is that of the target, 0 otherwise or for NaN."""
    best, label = 0, 0
    top = at(work.outputs, place(work.outputs, z, work.capacity, row, 0))
    highest = target(data, sample, 0, outputs)
    for output in range(outputs):
        value = at(work.outputs, place(work.outputs, z, work.capacity, row, output))
        if math.isnan(value):
            return 0
        if value > top:
            top, best = value, output
        t = target(data, sample, output, outputs)
        if t > highest:
            highest, label = t, output
    return 1 if best == label else 0
