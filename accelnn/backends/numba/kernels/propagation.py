"""The change of a sample's loss for moves of one pre-activation, carried through later layers."""

from __future__ import annotations

import numpy as np

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.kernels.changes import (
    SUM_SQUARED_ERROR,
    activation_change,
    cross_entropy_change,
    cross_entropy_series,
    sum_change,
    summand_change,
)
from accelnn.backends.numba.kernels.losses import CROSS_ENTROPY
from accelnn.backends.numba.layout import ACTIVATION, FLAT, INPUTS, OUTPUTS
from accelnn.backends.numba.vectors import load, multiply_add, part_as, store, width, zeros

__all__ = ["TERMS", "find_direction", "loss_change", "prepare_series", "take_powers"]

# The largest change of a score for which the change of the loss is computed as a power series; it
# is truncated at the first term below LAST_DIGIT.
SERIES_BELOW = 0.1
LAST_DIGIT = 1e-17
# Enough coefficients of log1p(x) / x for that.
TERMS = 20


@inlined
def find_direction(flat, start, w):
    """Write the direction of the scores' moves by a unit; return its largest absolute value.

    The unit has its weights at `start`, or is the score number ``-1 - start``.
    """
    largest = 0.0
    for k in range(w.size):
        if start >= 0:
            w[k] = flat[np.uint64(start + k)]
        else:
            w[k] = 1.0 if k == -1 - start else 0.0
        largest = max(largest, abs(w[k]))
    return largest


@inlined
def take_powers(w, series, powers, size):
    """Write wᵏ / k! for every score, `size` numbers apart."""
    for output in range(w.size):
        power = 1.0
        for k in range(TERMS):
            power *= w[output] * abs(series[k])
            powers[np.uint64(output * size + k)] = power


@inlined
def prepare_series(point, sample, bound, scratch):
    """Precompute what does not depend on the move, for a unit that feeds the scores directly.

    The scores then move by c w along a direction w, at most by `bound`. Return the number of terms
    of the series, zero if it is not used; Σ w t, or Σ w (a - t) for squared errors; and for these
    also ½ Σ w².
    """
    outputs, lanes = scratch.w.size, width(point.pre)
    row, is_entropy = sample * outputs, point.loss == CROSS_ENTROPY
    scores = point.pre.size - lanes - point.weights.size * outputs + row
    along, curve = 0.0, 0.0
    for output in range(outputs):
        w, t = scratch.w[output], point.targets[np.uint64(row + output)]
        if not is_entropy:
            t = point.pre[np.uint64(scores + output)] - t
            curve += 0.5 * w * w
        along += w * t
    if not is_entropy or not bound <= SERIES_BELOW:
        return 0, along, curve
    terms, term, size = 2, bound * bound, scratch.moments.size
    while term > LAST_DIGIT and terms < TERMS:
        term *= 1.1 * bound
        terms += 1
    for k in range(0, terms, lanes):
        moments = zeros(point.pre)
        for output in range(outputs):
            powers = load(scratch.powers, output * size + k)
            moments = multiply_add(point.probabilities, row + output, powers, moments)
        store(scratch.moments, k, moments)
    return terms, along, curve


@inlined
def loss_change(point, layer, unit, sample, here, d, shape, series, scratch):
    """Return the change of a sample's loss for moves `d` of the pre-activation at `here`.

    `shape` is what `prepare_series` returned.
    """
    terms, along, curve = shape
    moves = scratch.moves
    last, lanes = point.table.shape[0] - 1, width(moves)
    c = d
    if layer < last:
        c = output_change(point, layer, here, d, scratch.lanes)
    outputs, row = point.table[last, OUTPUTS], sample * point.table[last, OUTPUTS]
    scores = point.pre.size - lanes - point.weights.size * outputs
    if layer >= last - 1:
        if point.loss == SUM_SQUARED_ERROR:
            return c * (curve * c + along)
        if layer == last and point.loss != CROSS_ENTROPY:
            a, t = point.pre[scores + row + unit], point.targets[row + unit]
            parameter = point.parameters[last]
            return summand_change(point.loss, point.codes, c, a, t, parameter, scratch.lanes)
        if terms > 0:
            weight = point.weights[sample]
            return cross_entropy_series(scratch.moments, terms, series, weight, c, along)
        for output in range(outputs):
            store(moves, output * lanes, c * scratch.w[output])
    else:
        carry_forward(point, layer, unit, sample, c, scratch)
    last_pre = part_as(point.pre, point.pre, scores, point.pre.size - scores)
    if point.loss != CROSS_ENTROPY:
        parameter = point.parameters[last]
        return sum_change(
            point.loss,
            point.codes,
            parameter,
            last_pre,
            point.targets,
            row,
            outputs,
            moves,
            scratch.lanes,
        )
    return cross_entropy_change(
        last_pre,
        point.probabilities,
        point.targets,
        row,
        outputs,
        point.weights[sample],
        moves,
        scratch.lanes,
    )


@inlined
def output_change(point, layer, here, d, lane_values):
    """Return the change of a unit's output for moves `d` of its pre-activation at `here`."""
    kind, codes = point.table[layer, ACTIVATION], point.codes
    x, parameter = point.pre[here], point.parameters[layer]
    s, rest = point.s[here], point.rest[here]
    return activation_change(kind, codes, layer, d, x, parameter, s, rest, lane_values)


@inlined
def carry_forward(point, layer, unit, sample, c, scratch):
    """Write the changes of all scores when a unit's output changes by c."""
    moves, moves_after = scratch.moves, scratch.moves_after
    table, samples, lanes = point.table, point.weights.size, width(moves)
    pre = 0
    for i in range(layer + 1):
        pre += samples * table[i, OUTPUTS]
    width_after = table[layer + 1, OUTPUTS]
    weights = table[layer + 1, FLAT] + unit * width_after
    for k in range(width_after):
        store(moves, k * lanes, c * point.flat[weights + k])
    for i in range(layer + 2, table.shape[0]):
        inputs, outputs, weights = table[i, INPUTS], table[i, OUTPUTS], table[i, FLAT]
        for k in range(outputs):
            store(moves_after, k * lanes, zeros(moves))
        for j in range(inputs):
            here, d = pre + sample * inputs + j, load(moves, j * lanes)
            change = output_change(point, i - 1, here, d, scratch.lanes)
            for k in range(outputs):
                after = load(moves_after, k * lanes)
                w = point.flat[weights + j * outputs + k]
                store(moves_after, k * lanes, after + change * w)
        for k in range(outputs):
            store(moves, k * lanes, load(moves_after, k * lanes))
        pre += samples * inputs
