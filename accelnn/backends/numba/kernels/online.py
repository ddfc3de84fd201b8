"""Updates with one sample at a time, as in online learning.

A weight of the first layer is then used for a single product each way, so that reading it is most
of the work. An update therefore computes the layer's output for the next sample as well: weights
are read once for both, and threads need not meet in between. Numbers are added in the same order
as elsewhere.

Meanwhile other threads may still read the output for this sample, so the next one's is written to
another row of the panels: samples take row 0 and row 1 in turns.
"""

from accelnn.backends.numba._jit import ZERO, called, inlined
from accelnn.backends.numba.kernels.arguments import Data, Rule
from accelnn.backends.numba.kernels.backward import update_bias
from accelnn.backends.numba.kernels.forward import activate_panel
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.samples import expand_sample, prefetch_samples
from accelnn.backends.numba.kernels.updates import OWN_RULE, STORE_GRADIENT, move_by, rates_of
from accelnn.backends.numba.layout import (
    BIAS,
    HAS_BIAS,
    INPUT_PANELS,
    INPUTS,
    OUTPUT_PANEL,
    OUTPUT_PANELS,
    PANEL,
    WEIGHTS,
)
from accelnn.backends.numba.vectors import load, multiply_add, store, width, zeros

__all__ = ["begin_online", "is_online", "update_online"]


def is_online(data: Data, rule: Rule, batch: int) -> bool:
    """Return whether updates of one sample each compute the first layer's next output as well.

    Not those whose gradient is needed as a whole, nor where single non-zeros are stored.
    """
    # Numba would compile a set for `in`.
    is_single = rule.kind != STORE_GRADIENT and rule.kind != OWN_RULE  # noqa: PLR1714
    return batch == 1 and is_single and rule.squares.size == 0 and (data.quads or not data.sparse)


@called
def begin_online(member, net, data, work, mask, rule, step, order):
    """Compute the first layer's output for the first sample, of which `work` has the buffers."""
    panels = share(member, net.table[0, OUTPUT_PANELS], 1)
    x, next_ = read_row(net, data, work, order[0], ZERO)
    rows = x, ZERO - 1, next_
    update_and_multiply(net, work, mask, step - 1, rule, step, rows, panels)


@called
def update_online(member, net, data, works, mask, rule, step, order, piece, index):
    """Update the first layer, and compute its output for the next sample.

    `works` are the buffers of samples with an even index and of those with an odd one.
    """
    work = works[0]
    own = member.number * (work.scratch.size // member.size)
    update_bias(member, net, work, rule, step, piece, ZERO, own)
    # After the last sample, once more for that one: nothing reads it.
    here, there = piece.start, min(piece.start + 1, order.size - 1)
    panels = share(member, net.table[0, OUTPUT_PANELS], 1)
    prefetch_samples(net, data, order, here + 2, min(here + 3, order.size), piece.size)
    # Once more, because a thread that sat out a trial has not read it as the next one.
    x, sample = read_row(net, data, work, order[here], index)
    x, next_ = read_row(net, data, work, order[there], index + 1)
    rows = x, sample, next_
    following = works[0] if index % 2 else works[1]
    # The number of the next update is this one's step.
    update_and_multiply(net, following, mask, step, rule, step, rows, panels)


@inlined
def read_row(net, data, work, sample, index):
    """Return an array in which a sample is dense, and where: of quads, this thread's own copy."""
    if not data.quads:
        return data.x, sample * net.table[0, INPUTS]
    start = work.samples + index % 2 * net.table[0, INPUT_PANELS] * width(work.outputs)
    expand_sample(net, data, work, sample, start)
    return work.outputs, start


@called
def update_and_multiply(net, work, mask, number, rule, step, rows, panels):
    """Update some panels of weights by one row, and multiply them by another.

    `rows` are the array of both and where each starts, the former at -1 if there is no update. For
    the latter are `work` and the `number` of its update. Biases have been updated.
    """
    table, params, z, lanes = net.table, net.params, work.outputs, width(work.outputs)
    (x, sample, next_), rates = rows, rates_of(rule, step, False)  # noqa: FBT003
    for panel in range(panels[0], panels[1]):
        target = (table[0, OUTPUT_PANEL] + panel) * work.capacity * lanes
        here, error, sum_ = table[0, WEIGHTS] + panel * table[0, PANEL], zeros(z), zeros(z)
        if table[0, HAS_BIAS]:
            sum_ = load(params, table[0, BIAS] + panel * lanes)
        if sample >= 0:
            error = load(work.errors, target)
        for k in range(table[0, INPUTS]):
            weights = load(params, here + k * lanes)
            if sample >= 0:
                g = multiply_add(x, sample + k, error, zeros(z))
                weights = move_by(rule, rates, params, here + k * lanes, g)
            sum_ = multiply_add(x, next_ + k, weights, sum_)
        store(z, target, sum_)
        if table.shape[0] > 1:
            activate_panel(net, work, mask, number, ZERO, ZERO, panel, ZERO, ZERO + 1)
