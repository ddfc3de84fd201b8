"""Many steps of training in one call."""

import math

from accelnn.backends.numba._jit import ZERO, slow_loop
from accelnn.backends.numba.kernels.meeting import (
    clock,
    go_alone,
    goes_alone,
    is_abandoned,
    is_held_up,
    share,
    wait,
)
from accelnn.backends.numba.kernels.passes import (
    backward_first,
    backward_hidden,
    forward,
    gather,
    output_errors,
)
from accelnn.backends.numba.layout import OUTPUT_PANELS
from accelnn.backends.numba.team import Member
from accelnn.backends.numba.vectors import SHORT, borrow, flush_denormals, restore

__all__ = ["train"]


@slow_loop
def train(member, net, data, rule, work, row_losses, order, batch, done, losses):
    """Do one update per batch of `order`, after `done` of them, and write each batch's loss.

    A loss that is not finite ends a training before its update. `losses` is NaN from the start,
    so that what was not reached stays so.
    """
    member, net, data, rule, work = borrow((member, net, data, rule, work))
    row_losses, order, losses = borrow((row_losses, order, losses))
    before = flush_denormals()
    depth, since = net.table.shape[0], clock()
    for index in range(losses.size):
        start = index * batch
        size = min(batch, order.size - start)
        rows = share(member, size, SHORT)
        if not data.sparse:
            gather(net, data, work, order, start, rows[0], rows[1])
            wait(member)
        for layer in range(depth):
            panels, is_last = net.table[layer, OUTPUT_PANELS], layer == depth - 1
            # All scores of a sample are one thread's, which makes probabilities of them.
            own = (ZERO, panels) if is_last else share(member, panels, 1)
            forward(net, data, work, layer, order, start, own, rows if is_last else (ZERO, size))
            if not is_last:
                wait(member)
        output_errors(net, data, work, order, start, size, rows, row_losses)
        if member.number == 0 and is_held_up(member, since):
            go_alone(member)
        wait(member)
        if is_abandoned(member):
            break
        alone = goes_alone(member)

        # Every thread adds up all rows, so that all come to the same sum and decision.
        loss = 0.0
        for row in range(size):
            loss += row_losses[row]
        # Rounded to the dtype of the net, in which it may be infinite.
        loss = float(work.outputs.dtype.type(loss / size))
        if member.number == 0:
            losses[index] = loss
        if rule.kind >= 0 and not math.isfinite(loss):
            break
        step = done + index + 1
        for layer in range(depth - 1, 0, -1):
            backward_hidden(member, net, work, rule, step, layer, size)
            if layer > 1:
                wait(member)
        backward_first(member, net, data, work, rule, step, order, start, size)
        if depth == 1 or not data.sparse or alone:
            # The next step's first stage writes what this one's last still reads.
            wait(member)
        if alone:
            if member.number > 0:
                break
            member = Member(ZERO, ZERO + 1, member.meeting)
    restore(before)
