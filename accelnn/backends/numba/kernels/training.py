"""The training kernel, which does many updates per call."""

import math

from accelnn.backends.numba._jit import ZERO, called, inlined, vector_loop
from accelnn.backends.numba.kernels.arguments import Piece, ends_batch, work_in
from accelnn.backends.numba.kernels.backward import (
    has_finite_errors,
    input_errors,
    output_errors,
    update_layer,
    update_sparse_layer,
)
from accelnn.backends.numba.kernels.clipping import update_clipped
from accelnn.backends.numba.kernels.forward import forward, rows_of_block, share_units
from accelnn.backends.numba.kernels.launch import launch
from accelnn.backends.numba.kernels.meeting import (
    clock,
    go_alone,
    goes_alone,
    is_abandoned,
    share,
    wait,
    watch,
)
from accelnn.backends.numba.kernels.online import begin_online, is_online, update_online
from accelnn.backends.numba.kernels.samples import read_samples
from accelnn.backends.numba.kernels.updates import STORE_GRADIENT
from accelnn.backends.numba.layout import INPUTS, OUTPUT_PANELS
from accelnn.backends.numba.team import FASTER, HELD_UP, PERIODS, Member
from accelnn.backends.numba.vectors import SHORT, flush_denormals, restore, width

__all__ = ["AHEAD", "train"]

# How long threads wait for each other depends on where the system runs them. After so many updates
# the team is timed for as many, and then one thread alone: in calls of many updates, each of which
# is so few samples times packed parameters that one thread may be faster.
TRIAL, MANY, LITTLE = 16, 256, 2_000_000
# Numbers in the samples of a piece above which the next one is not prefetched, because it would
# drive this one from the cache.
AHEAD = 250_000
is_online_ = inlined(is_online)


@vector_loop
def train(meeting, size, net, data, rule, mask, memory, row_losses, order, batch, done, losses):
    """Do one update per batch of `order`, after `done` earlier ones, and write each batch's loss.

    A non-finite loss stops the training before its update. `losses` is initially NaN, and stays so
    for batches that are not reached. Under `STORE_GRADIENT` it is NaN as well if the gradient must
    be computed without leaving out zeros.

    A batch is done in pieces of as many rows as the memory holds, so that a piece stays in cache;
    the gradient of the batch is the sum of theirs.
    """
    arguments = net, data, rule, mask, memory, row_losses, order, batch, done, losses
    launch(train_as, meeting, size, arguments)


@inlined
def forward_pass(member, net, data, work, mask, update_number, order, piece, rows, own, layer):
    """Compute the outputs of a piece, from `layer` on.

    Before the first, a thread reads all samples, if they are its `own`, or for all threads its
    `rows` of them.
    """
    depth, myself = net.table.shape[0], Member(ZERO, ZERO + 1, member.meeting)
    block = rows_of_block(width(work.outputs))
    reader, read = (myself, (ZERO, piece.size)) if own else (member, rows)
    if layer == 0:
        read_samples(reader, net, data, work, order, piece.start, read, piece.size)
        if not own:
            wait(member)
    while layer < depth and not is_abandoned(member):
        panels, is_last = net.table[layer, OUTPUT_PANELS], layer == depth - 1
        # One thread computes all scores of a sample, because softmax needs them together.
        top, bottom = rows if is_last else (ZERO, piece.size)
        # Lists of quads are read from the first to the last row at once.
        step = piece.size if layer == 0 and work.quads else block
        for row in range(top, bottom, step):
            part = (row, min(row + step, bottom))
            units = share_units(myself if is_last else member, panels, part)
            forward(net, data, work, mask, update_number, piece.done, layer, part, units)
        if not is_last:
            wait(member)
        layer += 1


@called
def train_as(member, net, data, rule, mask, memory, row_losses, order, batch, done, losses):
    """Do a member's share of `train`."""
    copy = member.number % memory.copies
    work = work_in(memory, ZERO, copy, data, ZERO)
    # Of batches of one sample in turns; see `online`.
    works = work, work_in(memory, ZERO, copy, data, ZERO + 1)
    myself = Member(ZERO, ZERO + 1, member.meeting)
    before = flush_denormals()
    depth, since = net.table.shape[0], clock()
    index, done_rows, is_finite = ZERO, ZERO, True
    team, started, together = member, since, ZERO
    waited, periods = ZERO, ZERO
    on_trial = member.size > 1 and losses.size >= MANY and batch * net.params.size < LITTLE
    # Not every system has a clock.
    on_trial = on_trial and since != 0
    online = is_online_(data, rule, batch)
    if online:
        begin_online(member, net, data, work, mask, rule, done + 1, order)
        wait(member)
    while index < losses.size:
        if not on_trial or done_rows > 0:
            pass
        elif index == TRIAL:
            started = clock()
        elif index == 2 * TRIAL and member.number > 0:
            wait(member)
            if goes_alone(member) or is_abandoned(member):
                break
            index, on_trial = index + TRIAL, False
        elif index == 2 * TRIAL:
            together, started = clock() - started, clock()
            member = myself
        elif index == 3 * TRIAL:
            if clock() - started < together:
                go_alone(team, FASTER)
            else:
                member = team
            wait(team)
            on_trial = False
        if online:
            work = works[1] if index % 2 else works[0]
        first, update_number = index * batch, done + index
        rows_of_batch = min(batch, order.size - first)
        size = min(work.capacity, rows_of_batch - done_rows)
        piece = Piece(first + done_rows, size, done_rows, rows_of_batch)
        rows = share(member, size, SHORT)
        own = memory.copies >= member.size
        layer = ZERO + 1 if online else ZERO
        forward_pass(member, net, data, work, mask, update_number, order, piece, rows, own, layer)
        output_errors(net, data, work, order, piece, rows, row_losses)
        if member.number == 0:
            since, waited, periods = watch(member, since, waited, periods)
            if periods == PERIODS:
                go_alone(member, HELD_UP)
        wait(member)
        if is_abandoned(member):
            break
        alone = goes_alone(member)

        is_end = ends_batch(piece)
        if is_end:
            # Every thread sums all rows, so that all get the same loss and decision.
            loss = 0.0
            for row in range(rows_of_batch):
                loss += row_losses[row]
            # Rounded to the dtype of the net, where it may overflow.
            loss = float(work.outputs.dtype.type(loss / rows_of_batch))
            if member.number == 0:
                losses[index] = loss
            if rule.kind != STORE_GRADIENT and not math.isfinite(loss):
                break
        step = update_number + 1
        for layer in range(depth - 1, -1, -1):
            if is_abandoned(member):
                break
            following = order.size
            if layer > 0:
                input_errors(member, net, work, layer, size)
                wait(member)
            else:
                if work.quads and not data.quads and member.number == 0:
                    # The products of zeros that are left out would be NaN. Only the thread that has
                    # written the loss replaces it: without a hidden layer, no barrier is between.
                    is_finite = is_finite and has_finite_errors(net, work, size)
                    if is_end and not is_finite:
                        losses[index] = math.nan
                if data.quads or size * net.table[0, INPUTS] < AHEAD:
                    following = piece.start + size
            if layer == 0 and online:
                update_online(member, net, data, works, mask, rule, step, order, piece, index)
            elif layer == 0 and work.sparse and not work.quads:
                update_sparse_layer(member, net, data, work, rule, step, order, piece)
            else:
                update_layer(member, net, data, work, rule, step, layer, piece, order, following)
        if is_end and rule.squares.size > 0:
            wait(member)
            update_clipped(member, net, rule, step)
        # The next piece's first stage overwrites what this one's last stage reads.
        wait(member)
        if alone:
            if member.number > 0:
                break
            member, on_trial = myself, False
        done_rows += size
        if is_end:
            index, done_rows = index + 1, ZERO
    if on_trial and member.size < team.size:
        # It ended while the others waited.
        go_alone(team, FASTER)
        wait(team)
    restore(before)
