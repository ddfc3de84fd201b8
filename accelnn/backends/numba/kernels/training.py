"""The training kernel, which does many updates per call."""

import math

from accelnn.backends.numba._jit import ZERO, called, vector_loop
from accelnn.backends.numba.kernels.arguments import work_in
from accelnn.backends.numba.kernels.backward import (
    has_finite_errors,
    input_errors,
    output_errors,
    update_layer,
    update_sparse_layer,
)
from accelnn.backends.numba.kernels.clipping import update_clipped
from accelnn.backends.numba.kernels.forward import ROWS, forward, read_samples, share_units
from accelnn.backends.numba.kernels.launch import launch
from accelnn.backends.numba.kernels.meeting import (
    clock,
    go_alone,
    goes_alone,
    is_abandoned,
    is_held_up,
    share,
    wait,
)
from accelnn.backends.numba.kernels.updates import STORE_GRADIENT
from accelnn.backends.numba.layout import OUTPUT_PANELS
from accelnn.backends.numba.team import Member
from accelnn.backends.numba.vectors import SHORT, flush_denormals, restore

__all__ = ["AHEAD", "train"]

# Numbers in the samples of a batch above which the next batch is not prefetched, because it would
# drive this one from the cache.
AHEAD = 250_000


@vector_loop
def train(meeting, size, net, data, rule, mask, memory, row_losses, order, batch, done, losses):
    """Do one update per batch of `order`, after `done` earlier ones, and write each batch's loss.

    A non-finite loss stops the training before its update. `losses` is initially NaN, and stays so
    for batches that are not reached. Under `STORE_GRADIENT` it is NaN as well if the gradient must
    be computed without compressing the samples.
    """
    arguments = net, data, rule, mask, memory, row_losses, order, batch, done, losses
    launch(train_as, meeting, size, arguments)


@called
def train_as(member, net, data, rule, mask, memory, row_losses, order, batch, done, losses):
    """Do a member's share of `train`."""
    work = work_in(memory, ZERO, member.number % memory.copies, data)
    myself = Member(ZERO, ZERO + 1, member.meeting)
    before = flush_denormals()
    depth, since = net.table.shape[0], clock()
    for index in range(losses.size):
        start = index * batch
        size = min(batch, order.size - start)
        rows = share(member, size, SHORT)
        own = memory.copies >= member.size
        top, bottom = (ZERO, size) if own else rows
        read_samples(member, net, data, work, order, start, top, bottom)
        if not own:
            wait(member)
        for layer in range(depth):
            panels, is_last = net.table[layer, OUTPUT_PANELS], layer == depth - 1
            # One thread computes all scores of a sample, because softmax needs them together.
            top, bottom = rows if is_last else (ZERO, size)
            for first in range(top, bottom, ROWS):
                part = (first, min(first + ROWS, bottom))
                units = share_units(myself if is_last else member, panels, part)
                forward(net, work, mask, done + index, layer, part, units)
            if not is_last:
                wait(member)
        output_errors(net, data, work, order, start, size, rows, row_losses)
        if member.number == 0 and is_held_up(member, since):
            go_alone(member)
        wait(member)
        if is_abandoned(member):
            break
        alone = goes_alone(member)

        # Every thread sums all rows, so that all get the same loss and decision.
        loss = 0.0
        for row in range(size):
            loss += row_losses[row]
        # Rounded to the dtype of the net, where it may overflow.
        loss = float(work.outputs.dtype.type(loss / size))
        if member.number == 0:
            losses[index] = loss
        if rule.kind != STORE_GRADIENT and not math.isfinite(loss):
            break
        step = done + index + 1
        for layer in range(depth - 1, 0, -1):
            input_errors(member, net, work, layer, size)
            wait(member)
            update_layer(member, net, data, work, rule, step, layer, size, order, order.size)
        if memory.columns > 0 and member.number == 0 and not has_finite_errors(net, work, size):
            # The products of zeros that are left out would be NaN. Only the thread that has written
            # the loss replaces it: without a hidden layer, no barrier is between.
            losses[index] = math.nan
        if work.sparse:
            update_sparse_layer(member, net, data, work, rule, step, order, start, size)
        else:
            following = start + size if memory.samples < AHEAD else order.size
            update_layer(member, net, data, work, rule, step, ZERO, size, order, following)
        if rule.gradient.size > 0:
            wait(member)
            update_clipped(member, net, rule, step)
        # The next update's first stage overwrites what this one's last stage reads.
        wait(member)
        if alone:
            if member.number > 0:
                break
            member = myself
    restore(before)
