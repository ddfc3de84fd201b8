"""The structured numerical gradient: only what a weight affects is evaluated again.

A vector holds the changes of one pre-activation by several weights of its unit. Weights with a zero
input change nothing and are skipped. Everything is float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import inlined, slow_loop
from accelnn.backends.numba.kernels.changes import (
    SUM_SQUARED_ERROR,
    Codes,
    activation_change,
    cross_entropy_change,
    cross_entropy_series,
    sum_change,
    summand_change,
    units,
)
from accelnn.backends.numba.kernels.losses import CROSS_ENTROPY
from accelnn.backends.numba.kernels.meeting import is_abandoned, share, wait
from accelnn.backends.numba.layout import ACTIVATION, FLAT, HAS_BIAS, INPUTS, OUTPUTS
from accelnn.backends.numba.vectors import (
    borrow,
    first_lanes,
    load,
    store,
    width,
    zeros,
)

__all__ = ["SERIES", "Difference", "Point", "Scratch", "differences"]

# The largest change of a score for which the change of the loss is computed as a power series; it
# is truncated at the first term below LAST_DIGIT.
SERIES_BELOW = 0.1
LAST_DIGIT = 1e-17
# The coefficients of log1p(x) / x, enough for that.
SERIES = np.array([(-1.0) ** k / (k + 1) for k in range(20)])


class Point(NamedTuple):
    """A net, its parameters, and the forward pass of the samples.

    Attributes
    ----------
    table : numpy.ndarray of int64
        The layers; see `accelnn.backends.numba.layout`.
    flat : numpy.ndarray
        The parameters in buffer order.
    parameters : numpy.ndarray
        That of each hidden layer's activation, and last that of the loss.
    loss : int
        The number of the loss.
    codes : Codes or None
        None if all changes are in the kernel.
    x, targets : numpy.ndarray
        Of shape (samples, inputs) and (samples, outputs), flattened.
    pre, after, s, rest : numpy.ndarray
        Pre-activations, activations, and the `activation_parts` of the former, of shape
        (samples, outputs) for each layer, flattened and concatenated, with room for a vector.
    counts, columns, values : numpy.ndarray
        The non-zero inputs of each layer and sample, including the 1 that the bias multiplies:
        ``counts[layer, sample]`` of them from the start that `stretch` returns.
    reach : numpy.ndarray of shape (layers, samples)
        The largest absolute value of these inputs.
    probabilities : numpy.ndarray
        Softmax of the scores, of shape (samples, outputs), flattened.
    weights : numpy.ndarray of shape (samples,)
        The sum of each sample's targets.
    """

    table: np.ndarray
    flat: np.ndarray
    parameters: np.ndarray
    loss: int
    codes: Codes | None
    x: np.ndarray
    targets: np.ndarray
    pre: np.ndarray
    after: np.ndarray
    s: np.ndarray
    rest: np.ndarray
    counts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    reach: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray


class Difference(NamedTuple):
    """A difference method: signed steps, and the weights of the changes at them."""

    steps: np.ndarray
    weights: np.ndarray


class Scratch(NamedTuple):
    """Temporary buffers of one thread."""

    sums: np.ndarray
    moments: np.ndarray
    moves: np.ndarray
    moves_after: np.ndarray
    lanes: np.ndarray

    @classmethod
    def of(cls, widest: int, lanes: int) -> Scratch:
        """Return buffers for layers up to `widest`."""
        sizes = (widest + 1, SERIES.size, widest * lanes, widest * lanes, 4 * lanes)
        return cls(*(np.empty(size) for size in sizes))


@slow_loop
def differences(member, point, difference, series, scratch, out):
    """Write the flat gradient of the mean loss; each thread computes some units."""
    point, difference, series, out = borrow((point, difference, series, out))
    scratch = borrow(scratch)
    sums, lane_values = scratch.sums, scratch.lanes
    table, samples, lanes = point.table, point.weights.size, width(point.values)
    first, last = share(member, samples, 1)
    for sample in range(first, last):
        observe(point, sample, lane_values)
    wait(member)
    if is_abandoned(member):
        return
    pre = 0
    for layer in range(table.shape[0]):
        inputs, outputs, flat = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, FLAT]
        first, last = share(member, outputs, 1)
        for unit in range(first, last):
            sums[:] = 0.0
            for sample in range(samples):
                start, count = stretch(point, layer, sample), point.counts[layer, sample]
                shape = prepare_series(
                    point, difference, layer, unit, sample, series, scratch.moments
                )
                for k in range(0, count, lanes):
                    values = first_lanes(load(point.values, start + k), count - k, 0.0)
                    total = zeros(point.values)
                    for i in range(difference.steps.size):
                        here, d = pre + sample * outputs + unit, values * difference.steps[i]
                        change = loss_change(
                            point, layer, unit, sample, here, d, shape, series, scratch
                        )
                        total = total + change * (difference.weights[i] / samples)
                    store(lane_values, 0, total)
                    for lane in range(min(count - k, lanes)):
                        sums[np.uint64(point.columns[start + k + lane])] += lane_values[lane]
            for k in range(inputs + table[layer, HAS_BIAS]):
                out[flat + k * outputs + unit] = sums[k]
        pre += samples * outputs


@inlined
def stretch(point, layer, sample):
    """Return where the inputs of a layer and sample start; each has padding for a vector load."""
    samples, lanes = point.weights.size, width(point.values)
    start = 0
    for i in range(layer):
        start += samples * (point.table[i, INPUTS] + lanes)
    return start + sample * (point.table[layer, INPUTS] + lanes)


@inlined
def observe(point, sample, lane_values):
    """Do the forward pass of a sample, and store what the differences need."""
    table, samples = point.table, point.weights.size
    pre = 0
    for layer in range(table.shape[0]):
        inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
        here, before = pre + sample * outputs, pre - (samples - sample) * inputs
        note_inputs(point, layer, sample, before)
        start, weights = stretch(point, layer, sample), table[layer, FLAT]
        for output in range(outputs):
            point.pre[here + output] = 0.0
        for k in range(start, start + point.counts[layer, sample]):
            row, value = weights + point.columns[k] * outputs, point.values[k]
            for output in range(outputs):
                point.pre[np.uint64(here + output)] += value * point.flat[np.uint64(row + output)]
        if layer < table.shape[0] - 1:
            activate_units(point, layer, here, outputs, lane_values)
        pre += samples * outputs
    outputs = table[table.shape[0] - 1, OUTPUTS]
    scores = pre - (samples - sample) * outputs
    if point.loss != CROSS_ENTROPY:
        return
    top, exps_sum = -math.inf, 0.0
    for output in range(outputs):
        top = max(top, point.pre[scores + output])
    for output in range(outputs):
        exps_sum += math.exp(point.pre[scores + output] - top)
    for output in range(outputs):
        exp = math.exp(point.pre[scores + output] - top)
        point.probabilities[sample * outputs + output] = exp / exps_sum


@inlined
def activate_units(point, layer, here, outputs, lane_values):
    """Store the activations of a sample's units, and what their changes need.

    Vectors are stored number by number, because other threads write beyond the last unit.
    """
    lanes, kind = width(point.pre), point.table[layer, ACTIVATION]
    for k in range(here, here + outputs, lanes):
        x, count = load(point.pre, k), min(lanes, here + outputs - k)
        parameter = point.parameters[layer]
        after, s, rest = units(kind, point.codes, layer, x, parameter, lane_values)
        for vector, array in ((after, point.after), (s, point.s), (rest, point.rest)):
            store(lane_values, 0, vector)
            for lane in range(count):
                array[k + lane] = lane_values[lane]


@inlined
def note_inputs(point, layer, sample, before):
    """Store the non-zero inputs of a layer, and the 1 that the bias multiplies."""
    inputs, start = point.table[layer, INPUTS], stretch(point, layer, sample)
    count, reach = 0, 0.0
    for k in range(inputs + point.table[layer, HAS_BIAS]):
        if k == inputs:
            value = 1.0
        elif layer == 0:
            value = point.x[sample * inputs + k]
        else:
            value = point.after[before + k]
        if value != 0.0:
            point.columns[start + count] = k
            point.values[start + count] = value
            count += 1
            reach = max(reach, abs(value))
    point.counts[layer, sample] = count
    point.reach[layer, sample] = reach


@inlined
def prepare_series(point, difference, layer, unit, sample, series, moments):
    """Precompute what does not depend on the move, for a unit that feeds the scores directly.

    The scores then move by c w along a direction w. Return the number of terms of the series, zero
    if it is not used; Σ w t, or Σ w (a - t) for squared errors; and for these also ½ Σ w².
    """
    last = point.table.shape[0] - 1
    if layer < last - 1:
        return 0, 0.0, 0.0
    outputs = point.table[last, OUTPUTS]
    row = sample * outputs
    scores = point.pre.size - width(point.pre) - point.weights.size * outputs + row
    along, curve, largest = 0.0, 0.0, 0.0
    for output in range(outputs):
        w = direction(point, layer, unit, output)
        largest = max(largest, abs(w))
        if point.loss == CROSS_ENTROPY:
            along += w * point.targets[row + output]
        else:
            along += w * (point.pre[scores + output] - point.targets[row + output])
            curve += 0.5 * w * w
    if point.loss != CROSS_ENTROPY:
        return 0, along, curve
    bound = largest * point.reach[layer, sample] * abs(difference.steps[0])
    if not bound <= SERIES_BELOW:
        return 0, along, curve
    terms = 2
    term = bound * bound
    while term > LAST_DIGIT and terms < series.size:
        term *= 1.1 * bound
        terms += 1
    moments[:terms] = 0.0
    for output in range(outputs):
        w = direction(point, layer, unit, output)
        power = point.probabilities[row + output]
        for k in range(terms):
            power *= w / (k + 1)
            moments[k] += power
    return terms, along, curve


@inlined
def direction(point, layer, unit, output):
    """Return the derivative of a score with respect to a unit's output, or to a score itself."""
    last = point.table.shape[0] - 1
    if layer == last:
        return 1.0 if output == unit else 0.0
    return point.flat[point.table[last, FLAT] + unit * point.table[last, OUTPUTS] + output]


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
            store(moves, output * lanes, c * direction(point, layer, unit, output))
    else:
        carry_forward(point, layer, unit, sample, c, scratch)
    if point.loss != CROSS_ENTROPY:
        parameter = point.parameters[last]
        return sum_change(
            point.loss,
            point.codes,
            parameter,
            point.pre[scores:],
            point.targets,
            row,
            outputs,
            moves,
            scratch.lanes,
        )
    return cross_entropy_change(
        point.pre[scores:],
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
