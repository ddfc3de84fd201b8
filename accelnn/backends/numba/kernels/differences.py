"""The structured numerical gradient: only what a weight affects is evaluated again.

A vector holds the changes of one pre-activation by several weights of its unit. Weights with a zero
input change nothing and are skipped. Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import inlined, slow_loop
from accelnn.backends.numba.kernels.changes import (
    SUM_SQUARED_ERROR,
    Codes,
    activation_change,
    bend_of_activation,
    bend_of_loss,
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
    LANES,
    borrow,
    first_lanes,
    load,
    multiply_add,
    store,
    width,
    zeros,
)

__all__ = ["MARGIN", "NODES", "ROWS", "TABLES", "Difference", "Point", "Scratch", "differences"]

# The largest change of a score for which the change of the loss is computed as a power series; it
# is truncated at the first term below LAST_DIGIT.
SERIES_BELOW = 0.1
LAST_DIGIT = 1e-17
# Enough coefficients of log1p(x) / x for that.
TERMS = 20
# Changes of samples' losses are interpolated between 2 `NODES` Chebyshev nodes, by polynomials of
# the mean slope's even and odd part in the square of the move.
NODES = 4
# How many times farther than the moves a change must be analytic. An interpolation at 8 nodes is
# off by the 8th power of the inverse over 2**7, 2**-63 times the largest value in that circle.
MARGIN = 128.0
# The smallest move that is interpolated: its powers and reciprocal are far from under- and overflow.
SMALLEST_MOVE = 1e-100
# Weights of a unit whose inputs are listed at a time.
ROWS = 32


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
    reach, inverses : numpy.ndarray of shape (layers, samples)
        The largest absolute value of these inputs, and its inverse, or 0 if it is tiny.
    probabilities : numpy.ndarray
        Softmax of the scores, of shape (samples, outputs), flattened.
    weights : numpy.ndarray of shape (samples,)
        The sum of each sample's targets.
    largest : numpy.ndarray
        The largest absolute weight of each unit that feeds the scores.
    spreads, limits : numpy.ndarray
        See `bound_moves`; laid out as `pre`.
    coefficients : numpy.ndarray
        Of the polynomials, of shape (units / lanes, samples, terms, lanes) for each layer,
        flattened and concatenated.
    apart : numpy.ndarray of int64
        For each unit, the number of samples whose changes are not interpolated.
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
    inverses: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray
    largest: np.ndarray
    spreads: np.ndarray
    limits: np.ndarray
    coefficients: np.ndarray
    apart: np.ndarray


class Difference(NamedTuple):
    """A difference method.

    Attributes
    ----------
    steps, weights : numpy.ndarray
        Signed steps of one size, and the weights of the changes at them.
    step : float
        That size.
    odd : float
        What the part of a change that is an even function of the move contributes: 0 for a central
        difference, 1 or -1 for a one-sided one.
    terms : int
        How many coefficients each interpolation has.
    """

    steps: np.ndarray
    weights: np.ndarray
    step: float
    odd: float
    terms: int

    @classmethod
    def of(cls, terms: Sequence[tuple[float, float]], step: float) -> Difference:
        """Return a method, (point, weight) pairs as in `DIFFERENCES`, with a step."""
        points, weights = np.array(terms).T
        odd = float((weights * np.abs(points)).sum())
        return cls(points * step, weights / step, step, odd, 2 * NODES if odd else NODES)


class Tables(NamedTuple):
    """Constants.

    Attributes
    ----------
    series : numpy.ndarray
        The coefficients of log1p(x) / x.
    nodes : numpy.ndarray
        The positive Chebyshev nodes, the negative ones, and zeros that fill a vector.
    reciprocals : numpy.ndarray
        The inverses of the positive nodes, and of their squares.
    powers : numpy.ndarray
        The coefficient of each power of the squared move that interpolates 1 at one node, and 0 at
        the others, of shape (powers, nodes after the first), flattened.
    """

    series: np.ndarray
    nodes: np.ndarray
    reciprocals: np.ndarray
    powers: np.ndarray

    @classmethod
    def of(cls, lanes: int) -> Tables:
        """Return the constants for vectors of that length."""
        series = np.array([(-1.0) ** k / (k + 1) for k in range(TERMS)])
        nodes = np.cos((2 * np.arange(NODES) + 1) * np.pi / (4 * NODES))
        powers = np.linalg.inv(np.vander(nodes**2, increasing=True))[:, 1:]
        filling = np.zeros(-2 * NODES % lanes)
        return cls(
            series,
            np.concatenate([nodes, -nodes, filling]),
            np.concatenate([1.0 / nodes, 1.0 / nodes**2]),
            powers.reshape(-1),
        )


TABLES = Tables.of(LANES[np.float64])


class Scratch(NamedTuple):
    """Temporary buffers of one thread."""

    sums: np.ndarray
    moments: np.ndarray
    powers: np.ndarray
    largest: np.ndarray
    moves: np.ndarray
    moves_after: np.ndarray
    lanes: np.ndarray
    changes: np.ndarray
    counts: np.ndarray
    places: np.ndarray
    values: np.ndarray
    parts: np.ndarray

    @classmethod
    def of(cls, sizes: Sequence[int], samples: int, lanes: int) -> Scratch:
        """Return buffers for layers of these sizes."""
        moments, widest = -(-TERMS // lanes) * lanes, max(sizes)
        listed = ROWS * samples + 1
        return cls(
            np.empty(widest + 1),
            np.empty(moments),
            np.zeros(sizes[-1] * moments),
            np.empty(1),
            np.empty(widest * lanes),
            np.empty(widest * lanes),
            np.empty(4 * lanes),
            np.empty(2 * NODES + lanes),
            np.empty(ROWS, np.int64),
            np.empty(listed, np.int64),
            np.empty(listed),
            np.empty(listed),
        )


@slow_loop
def differences(member, point, difference, tables, scratch, out):
    """Write the flat gradient of the mean loss."""
    point, difference, tables, out = borrow((point, difference, tables, out))
    scratch = borrow(scratch)
    table, samples = point.table, point.weights.size
    last_layer = table.shape[0] - 1
    if last_layer > 0:
        first, last = share(member, table[last_layer, INPUTS], 1)
        for unit in range(first, last):
            point.largest[unit] = largest_direction(point, last_layer - 1, unit)
    wait(member)
    first, last = share(member, samples, 1)
    for sample in range(first, last):
        observe(point, sample, scratch.lanes)
        bound_moves(point, sample)
    wait(member)
    if is_abandoned(member):
        return
    pre, before, coefficients = 0, 0, 0
    for layer in range(table.shape[0]):
        outputs = table[layer, OUTPUTS]
        first, last = share(member, outputs, 1)
        for unit in range(first, last):
            evaluate_unit(
                point, difference, layer, unit, pre, before, coefficients, tables, scratch, out
            )
        pre += samples * outputs
        before += outputs
        coefficients += size_of_coefficients(point, difference, layer)
    wait(member)
    if is_abandoned(member):
        return
    interpolate(member, point, difference, tables)
    wait(member)
    if is_abandoned(member):
        return
    pre, before, coefficients = 0, 0, 0
    for layer in range(table.shape[0]):
        add_up(member, point, difference, layer, pre, before, coefficients, scratch, out)
        pre += samples * table[layer, OUTPUTS]
        before += table[layer, OUTPUTS]
        coefficients += size_of_coefficients(point, difference, layer)


@inlined
def evaluate_unit(
    point, difference, layer, unit, pre, before, coefficients, tables, scratch, out
):
    """Evaluate the changes by the weights of a unit.

    Where a sample's change is smooth, evaluate it at the nodes alone, and store mean slopes for
    `interpolate`; otherwise for every weight, and add these up in `out`.
    """
    sums, lane_values, changes = scratch.sums, scratch.lanes, scratch.changes
    table, samples, lanes = point.table, point.weights.size, width(point.values)
    inputs, outputs, flat = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, FLAT]
    terms = difference.terms
    block = coefficients + unit // lanes * (samples * terms * lanes) + unit % lanes
    prepare_unit(point, layer, unit, tables, scratch)
    point.apart[before + unit] = 0
    for sample in range(samples):
        here, start = pre + sample * outputs + unit, stretch(point, layer, sample)
        reach = point.reach[layer, sample] * difference.step
        is_smooth = SMALLEST_MOVE <= reach <= point.limits[here]
        is_smooth = is_smooth and point.inverses[layer, sample] > 0.0
        rounds, count = difference.steps.size, point.counts[layer, sample]
        if is_smooth:
            rounds, count = 1, 2 * NODES
        elif point.apart[before + unit] == 0:
            sums[:] = 0.0
        shape = prepare_series(point, difference, layer, unit, sample, scratch)
        for k in range(0, count, lanes):
            if is_smooth:
                values = load(tables.nodes, k)
            else:
                values = first_lanes(load(point.values, start + k), count - k, 0.0)
            total = zeros(point.values)
            for i in range(rounds):
                step, weight = difference.steps[i], difference.weights[i] / samples
                if is_smooth:
                    step, weight = reach, 1.0
                change = loss_change(
                    point, layer, unit, sample, here, values * step, shape, tables.series, scratch
                )
                total = total + change * weight
            store(changes, k if is_smooth else 0, total)
            if not is_smooth:
                for lane in range(min(count - k, lanes)):
                    sums[np.uint64(point.columns[start + k + lane])] += changes[lane]
        place = block + sample * terms * lanes
        if is_smooth:
            scale = 0.5 / (reach * samples)
            for k in range(NODES):
                above, below = changes[k], changes[NODES + k]
                point.coefficients[place + k * lanes] = (
                    (above - below) * scale * tables.reciprocals[k]
                )
                if terms > NODES:
                    point.coefficients[place + (NODES + k) * lanes] = (
                        (above + below) * scale * difference.odd * tables.reciprocals[NODES + k]
                    )
        else:
            point.apart[before + unit] += 1
            for k in range(terms):
                point.coefficients[place + k * lanes] = 0.0
    if point.apart[before + unit] > 0:
        for k in range(inputs + table[layer, HAS_BIAS]):
            out[np.uint64(flat + k * outputs + unit)] = sums[k]


@inlined
def size_of_coefficients(point, difference, layer):
    """Return how many coefficients a layer has, with room for whole vectors of units."""
    lanes = width(point.values)
    blocks = (point.table[layer, OUTPUTS] + lanes - 1) // lanes
    return blocks * point.weights.size * difference.terms * lanes


@inlined
def interpolate(member, point, difference, tables):
    """Turn the mean slopes at the nodes into coefficients of powers of the squared move."""
    lanes, size = width(point.values), 0
    for layer in range(point.table.shape[0]):
        size += size_of_coefficients(point, difference, layer)
    first, last = share(member, size // (NODES * lanes), 1)
    array, powers = point.coefficients, tables.powers
    for place in range(first * NODES * lanes, last * NODES * lanes, NODES * lanes):
        # Differences of slopes are small, and exact as far as rounding of the slopes goes.
        slope = load(array, place)
        one = load(array, place + lanes) - slope
        two = load(array, place + 2 * lanes) - slope
        three = load(array, place + 3 * lanes) - slope
        store(array, place, slope + (powers[0] * one + powers[1] * two + powers[2] * three))
        for k in range(1, NODES):
            coefficient = powers[3 * k] * one + powers[3 * k + 1] * two + powers[3 * k + 2] * three
            store(array, place + k * lanes, coefficient)


@inlined
def add_up(member, point, difference, layer, pre, before, coefficients, scratch, out):
    """Write the sums over the samples of the interpolated changes, some rows of weights."""
    table, samples, lanes = point.table, point.weights.size, width(point.values)
    inputs, outputs, flat = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, FLAT]
    terms, lane_values, array = difference.terms, scratch.lanes, point.coefficients
    fewest, most = samples, 0
    for unit in range(before, before + outputs):
        fewest, most = min(fewest, point.apart[unit]), max(most, point.apart[unit])
    if fewest == samples:
        return
    first, last = share(member, inputs + table[layer, HAS_BIAS], 1)
    for top in range(first, last, ROWS):
        rows = min(ROWS, last - top)
        for row in range(rows):
            scratch.counts[row] = list_samples(
                point, difference, layer, top + row, pre, row * samples, scratch
            )
        for unit in range(0, outputs, lanes):
            block = coefficients + unit * samples * terms
            for row in range(rows):
                total = zeros(array)
                for k in range(row * samples, row * samples + scratch.counts[row]):
                    place, value = block + scratch.places[k], scratch.values[k]
                    part = scratch.parts[k]
                    square = part * part
                    slope = load(array, place + 3 * lanes)
                    slope = slope * square + load(array, place + 2 * lanes)
                    slope = slope * square + load(array, place + lanes)
                    slope = slope * square + load(array, place)
                    if terms > NODES:
                        odd = load(array, place + 7 * lanes)
                        odd = odd * square + load(array, place + 6 * lanes)
                        odd = odd * square + load(array, place + 5 * lanes)
                        odd = odd * square + load(array, place + 4 * lanes)
                        slope = slope + odd * part
                    total = total + slope * value
                to = flat + (top + row) * outputs + unit
                if most == 0 and unit + lanes <= outputs:
                    store(out, to, total)
                    continue
                store(lane_values, 0, total)
                for lane in range(min(lanes, outputs - unit)):
                    apart = out[to + lane] if point.apart[before + unit + lane] > 0 else 0.0
                    out[to + lane] = lane_values[lane] + apart


@inlined
def list_samples(point, difference, layer, row, pre, start, scratch):
    """List the samples whose input at `row` is not zero; return how many."""
    inputs, samples = point.table[layer, INPUTS], point.weights.size
    stride = difference.terms * width(point.values)
    count = start
    for sample in range(samples):
        value = 1.0
        if row < inputs and layer == 0:
            value = point.x[np.uint64(sample * inputs + row)]
        elif row < inputs:
            value = point.after[np.uint64(pre - (samples - sample) * inputs + row)]
        scratch.places[np.uint64(count)] = sample * stride
        scratch.values[np.uint64(count)] = value
        scratch.parts[np.uint64(count)] = value * point.inverses[layer, sample]
        count += value != 0.0
    return count - start


@inlined
def largest_direction(point, layer, unit):
    """Return the largest absolute value of `direction` over the scores."""
    largest = 0.0
    for output in range(point.table[point.table.shape[0] - 1, OUTPUTS]):
        largest = max(largest, abs(direction(point, layer, unit, output)))
    return largest


@inlined
def bound_moves(point, sample):
    """Store how far each pre-activation of a sample may move for its change to be smooth.

    The change of the loss is then analytic for complex moves up to `MARGIN` times as far, and its
    interpolation at 2 `NODES` Chebyshev nodes is exact to rounding. What limits a move m of a unit
    is `bend` m <= 1, for every unit that it reaches; `spread` is what a move of a unit's output
    adds up to in them.
    """
    table, samples = point.table, point.weights.size
    last, end = table.shape[0] - 1, point.pre.size - width(point.pre)
    for layer in range(last, -1, -1):
        outputs = table[layer, OUTPUTS]
        end -= samples * outputs
        here, parameter = end + sample * outputs, point.parameters[layer]
        for unit in range(outputs):
            if layer == last:
                bend, spread = bend_of_loss(point.loss), 0.0
            else:
                x = point.pre[here + unit]
                bend, kink, gain = bend_of_activation(table[layer, ACTIVATION], x, parameter)
                bend = max(bend, kink / MARGIN)
                spread = gain * reached(point, sample, layer, unit, end + samples * outputs)
            point.spreads[here + unit] = spread
            point.limits[here + unit] = 1.0 / (MARGIN * max(bend, spread, SMALLEST_MOVE))


@inlined
def reached(point, sample, layer, unit, after):
    """Return the bend of what a move of a unit's output reaches, with the layer after at `after`."""
    last = point.table.shape[0] - 1
    if layer == last - 1:
        return bend_of_loss(point.loss) * point.largest[unit]
    outputs = point.table[layer + 1, OUTPUTS]
    weights, here = point.table[layer + 1, FLAT] + unit * outputs, after + sample * outputs
    worst, total = 0.0, 0.0
    for k in range(outputs):
        weight = abs(point.flat[np.uint64(weights + k)])
        worst = max(worst, weight / (MARGIN * point.limits[np.uint64(here + k)]))
        total += weight * point.spreads[np.uint64(here + k)]
    return max(worst, total)


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
    point.inverses[layer, sample] = 1.0 / reach if reach >= SMALLEST_MOVE else 0.0


@inlined
def prepare_unit(point, layer, unit, tables, scratch):
    """Precompute what the series of a unit that feeds the scores directly has for all samples.

    These are the largest |w|, for the direction w of the scores' moves, and wᵏ / k!.
    """
    last = point.table.shape[0] - 1
    if layer < last - 1 or point.loss != CROSS_ENTROPY:
        return
    size = scratch.moments.size
    scratch.largest[0] = largest_direction(point, layer, unit)
    for output in range(point.table[last, OUTPUTS]):
        w, power = direction(point, layer, unit, output), 1.0
        for k in range(tables.series.size):
            power *= w * abs(tables.series[k])
            scratch.powers[np.uint64(output * size + k)] = power


@inlined
def prepare_series(point, difference, layer, unit, sample, scratch):
    """Precompute what does not depend on the move, for a unit that feeds the scores directly.

    The scores then move by c w along a direction w. Return the number of terms of the series, zero
    if it is not used; Σ w t, or Σ w (a - t) for squared errors; and for these also ½ Σ w².
    """
    last = point.table.shape[0] - 1
    if layer < last - 1:
        return 0, 0.0, 0.0
    outputs, lanes = point.table[last, OUTPUTS], width(point.pre)
    row = sample * outputs
    scores = point.pre.size - lanes - point.weights.size * outputs + row
    along, curve = 0.0, 0.0
    for output in range(outputs):
        w = direction(point, layer, unit, output)
        if point.loss == CROSS_ENTROPY:
            along += w * point.targets[row + output]
        else:
            along += w * (point.pre[scores + output] - point.targets[row + output])
            curve += 0.5 * w * w
    if point.loss != CROSS_ENTROPY:
        return 0, along, curve
    bound = scratch.largest[0] * point.reach[layer, sample] * difference.step
    if not bound <= SERIES_BELOW:
        return 0, along, curve
    terms = 2
    term = bound * bound
    while term > LAST_DIGIT and terms < TERMS:
        term *= 1.1 * bound
        terms += 1
    size = scratch.moments.size
    for k in range(0, terms, lanes):
        moments = zeros(point.pre)
        for output in range(outputs):
            powers = load(scratch.powers, output * size + k)
            moments = multiply_add(point.probabilities, row + output, powers, moments)
        store(scratch.moments, k, moments)
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
