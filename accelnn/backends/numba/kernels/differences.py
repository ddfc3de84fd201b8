"""The structured numerical gradient: only what a weight affects is evaluated again.

A sample's loss depends on a weight through the move of one pre-activation, input times step. Its
change is evaluated at 8 moves, and interpolated for the inputs of all weights of the unit, if it is
known to be smooth enough for that to be exact to rounding; otherwise it is evaluated for every
weight. Nothing uses a derivative.

A vector holds the changes for several moves of one pre-activation. Weights with a zero input change
nothing and are skipped. Everything is float64.
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

__all__ = [
    "TABLES",
    "Difference",
    "Fits",
    "Inputs",
    "Point",
    "Scratch",
    "coefficients_per_sample",
    "differences",
]

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
# The smallest move that is interpolated, whose square and inverse are normal numbers.
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


def coefficients_per_sample(sizes: Sequence[int], lanes: int, terms: int = 2 * NODES) -> int:
    """Return how many numbers the interpolations of a sample take, by default at most."""
    return sum(-(-size // lanes) for size in sizes[1:]) * lanes * terms


class Fits(NamedTuple):
    """Interpolations of the changes by the weights of a unit, for each unit and sample.

    Attributes
    ----------
    bends : numpy.ndarray of shape (layers, 5)
        The numbers of the `Bend` of each hidden layer's activation, and last that of the loss.
    spreads, limits : numpy.ndarray
        See `bound_moves`; laid out as `Point.pre`.
    inverses : numpy.ndarray of shape (layers, samples)
        Those of `Point.reach`, or 0 where it is tiny.
    coefficients : numpy.ndarray
        Of the polynomials, of shape (units / lanes, samples, terms, lanes) for each layer,
        flattened and concatenated.
    apart : numpy.ndarray of int64
        For each unit, the number of samples whose changes are not interpolated.
    """

    bends: np.ndarray
    spreads: np.ndarray
    limits: np.ndarray
    inverses: np.ndarray
    coefficients: np.ndarray
    apart: np.ndarray

    @classmethod
    def of(
        cls, bends: np.ndarray, sizes: Sequence[int], samples: int, terms: int, lanes: int
    ) -> Fits:
        """Return buffers for a net with layers of these sizes."""
        units, size = sum(sizes[1:]), samples * coefficients_per_sample(sizes, lanes, terms)
        return cls(
            bends,
            np.empty(samples * units),
            np.empty(samples * units),
            np.empty((len(bends), samples)),
            # Zeros, because the lanes beyond the last unit of a layer take part in sums.
            np.zeros(size),
            np.empty(units, np.int64),
        )


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
    w: np.ndarray
    largest: np.ndarray
    moments: np.ndarray
    powers: np.ndarray
    moves: np.ndarray
    moves_after: np.ndarray
    lanes: np.ndarray
    changes: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, sizes: Sequence[int], lanes: int) -> Scratch:
        """Return buffers for layers of these sizes."""
        moments, widest = -(-TERMS // lanes) * lanes, max(sizes)
        return cls(
            np.empty(widest + 1),
            np.empty(sizes[-1]),
            np.empty(sizes[-2]),
            np.empty(moments),
            np.zeros(sizes[-1] * moments),
            np.empty(widest * lanes),
            np.empty(widest * lanes),
            np.empty(4 * lanes),
            np.empty(2 * NODES + lanes),
            np.empty(2 * NODES),
        )


class Inputs(NamedTuple):
    """The samples whose input to a row of weights is not zero, for `ROWS` rows.

    Attributes
    ----------
    counts : numpy.ndarray of int64
        How many of each row.
    places : numpy.ndarray of int64
        Where a sample's coefficients start.
    values, parts : numpy.ndarray
        The input, and as a part of `Point.reach`.
    """

    counts: np.ndarray
    places: np.ndarray
    values: np.ndarray
    parts: np.ndarray

    @classmethod
    def of(cls, samples: int) -> Inputs:
        """Return buffers."""
        # With one more, because a zero is written and not counted.
        size = ROWS * samples + 1
        return cls(
            np.empty(ROWS, np.int64), np.empty(size, np.int64), np.empty(size), np.empty(size)
        )


@slow_loop
def differences(member, point, fits, difference, tables, scratch, listed, out):
    """Write the flat gradient of the mean loss.

    Where a sample's change is smooth, it is evaluated at the nodes alone, and the mean slopes are
    interpolated; otherwise it is evaluated for every weight.
    """
    point, fits, difference = borrow(point), borrow(fits), borrow(difference)
    tables, scratch, listed, out = borrow((tables, scratch, listed, out))
    sums, lane_values, changes = scratch.sums, scratch.lanes, scratch.changes
    table, samples, lanes = point.table, point.weights.size, width(point.values)
    end, terms, coefficients = table.shape[0] - 1, difference.terms, fits.coefficients
    scores, weights = table[end, OUTPUTS], table[end, FLAT]
    # On every thread, because a barrier costs more.
    for unit in range(table[end, INPUTS]):
        scratch.largest[unit] = find_direction(point.flat, weights + unit * scores, scratch.w)
    first, last = share(member, samples, 1)
    for sample in range(first, last):
        observe(point, sample, fits.inverses, lane_values)
        bound_moves(table, point.flat, point.pre, fits, scratch.largest, sample)
    wait(member)
    if is_abandoned(member):
        return
    pre, before, blocks = 0, 0, 0
    for layer in range(end + 1):
        inputs, outputs, flat = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, FLAT]
        first, last = share(member, outputs, 1)
        for unit in range(first, last):
            largest, apart = 0.0, 0
            if layer >= end - 1:
                start = weights + unit * scores if layer < end else -1 - unit
                largest = find_direction(point.flat, start, scratch.w)
                take_powers(scratch.w, tables.series, scratch.powers, scratch.moments.size)
            for sample in range(samples):
                here, start = pre + sample * outputs + unit, stretch(point, layer, sample)
                move = point.reach[layer, sample] * difference.step
                is_smooth = SMALLEST_MOVE <= move <= fits.limits[here]
                is_smooth = is_smooth and fits.inverses[layer, sample] > 0.0
                rounds, count = 1, 2 * NODES
                if not is_smooth:
                    rounds, count = difference.steps.size, point.counts[layer, sample]
                    if apart == 0:
                        sums[:] = 0.0
                    apart += 1
                shape = 0, 0.0, 0.0
                if layer >= end - 1:
                    shape = prepare_series(point, sample, largest * move, scratch)
                for k in range(0, count, lanes):
                    if is_smooth:
                        values = load(tables.nodes, k)
                    else:
                        values = first_lanes(load(point.values, start + k), count - k, 0.0)
                    total = zeros(point.values)
                    for i in range(rounds):
                        d = values * (move if is_smooth else difference.steps[i])
                        change = loss_change(
                            point, layer, unit, sample, here, d, shape, tables.series, scratch
                        )
                        factor = 1.0 if is_smooth else difference.weights[i] / samples
                        total = total + change * factor
                    if is_smooth:
                        store(changes, k, total)
                        continue
                    store(lane_values, 0, total)
                    for lane in range(min(count - k, lanes)):
                        sums[np.uint64(point.columns[start + k + lane])] += lane_values[lane]
                place = ((blocks + unit // lanes) * samples + sample) * terms * lanes + unit % lanes
                scale = 0.5 / (move * samples) if is_smooth else 0.0
                for k in range(terms):
                    above, below = changes[k % NODES], changes[k % NODES + NODES]
                    change = above - below if k < NODES else difference.odd * (above + below)
                    change *= scale * tables.reciprocals[k]
                    scratch.slopes[k] = change if is_smooth else 0.0
                for k in range(0, terms, NODES):
                    interpolate(
                        scratch.slopes, k, tables.powers, coefficients, place + k * lanes, lanes
                    )
            fits.apart[before + unit] = apart
            if apart > 0:
                for k in range(inputs + table[layer, HAS_BIAS]):
                    out[np.uint64(flat + k * outputs + unit)] = sums[k]
        pre, before = pre + samples * outputs, before + outputs
        blocks += (outputs + lanes - 1) // lanes
    wait(member)
    if is_abandoned(member):
        return
    pre, before, blocks = 0, 0, 0
    for layer in range(end + 1):
        outputs = table[layer, OUTPUTS]
        x, row = (point.x, 0) if layer == 0 else (point.after, pre - samples * table[layer, INPUTS])
        place = blocks * samples * terms * lanes
        add_up(member, table, layer, x, row, fits, before, place, terms, listed, lane_values, out)
        pre, before = pre + samples * outputs, before + outputs
        blocks += (outputs + lanes - 1) // lanes


@inlined
def interpolate(slopes, i, powers, array, place, stride):
    """Write the coefficients of powers of the squared move that fit mean slopes at the nodes."""
    slope = slopes[i]
    # Small differences, in which the large coefficients of high powers lose little.
    one, two, three = slopes[i + 1] - slope, slopes[i + 2] - slope, slopes[i + 3] - slope
    for k in range(NODES):
        of_power = powers[3 * k] * one + powers[3 * k + 1] * two + powers[3 * k + 2] * three
        array[np.uint64(place + k * stride)] = slope + of_power if k == 0 else of_power


@inlined
def add_up(member, table, layer, x, row, fits, before, first, terms, listed, lane_values, out):
    """Write the sums over the samples of the interpolated changes, for some rows of weights.

    Sample s has its inputs at ``x[row + s * inputs]``.
    """
    array, apart, inverses = fits.coefficients, fits.apart, fits.inverses
    lanes, samples = width(array), inverses.shape[1]
    inputs, outputs, flat = table[layer, INPUTS], table[layer, OUTPUTS], table[layer, FLAT]
    fewest, most = samples, 0
    for unit in range(before, before + outputs):
        fewest, most = min(fewest, apart[unit]), max(most, apart[unit])
    if fewest == samples:
        return
    top, end = share(member, inputs + table[layer, HAS_BIAS], 1)
    for here in range(top, end, ROWS):
        rows = min(ROWS, end - here)
        for i in range(rows):
            start = count = np.uint64(i * samples)
            for sample in range(samples):
                value = 1.0
                if here + i < inputs:
                    value = x[np.uint64(row + sample * inputs + here + i)]
                listed.places[count] = sample * terms * lanes
                listed.values[count] = value
                listed.parts[count] = value * inverses[layer, sample]
                count += np.uint64(value != 0.0)
            listed.counts[i] = count - start
        for unit in range(0, outputs, lanes):
            block = first + unit * samples * terms
            for i in range(rows):
                total = zeros(array)
                for k in range(i * samples, i * samples + listed.counts[i]):
                    place, part = block + listed.places[k], listed.parts[k]
                    square = part * part
                    slope = polynomial_of(array, place, square)
                    if terms > NODES:
                        slope = slope + polynomial_of(array, place + NODES * lanes, square) * part
                    total = total + slope * listed.values[k]
                to = flat + (here + i) * outputs + unit
                if most == 0 and unit + lanes <= outputs:
                    store(out, to, total)
                    continue
                store(lane_values, 0, total)
                for lane in range(min(lanes, outputs - unit)):
                    has_rest = apart[before + unit + lane] > 0
                    out[to + lane] = lane_values[lane] + (out[to + lane] if has_rest else 0.0)


@inlined
def polynomial_of(array, i, x):
    """Return the polynomial in x with `NODES` vectors of coefficients."""
    lanes = width(array)
    result = load(array, i + 3 * lanes)
    for k in range(2, -1, -1):
        result = result * x + load(array, i + k * lanes)
    return result


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
def bound_moves(table, flat, pre, fits, largest, sample):
    """Store how far each pre-activation of a sample may move for its change to be smooth.

    The change of the loss is then analytic for complex moves up to `MARGIN` times as far, and its
    interpolation at 2 `NODES` Chebyshev nodes is exact to rounding. A unit's bend is the inverse of
    how far it may move itself, and its spread that of how far for the sake of all units after it.
    `largest` is the largest absolute weight of each unit that feeds the scores.
    """
    bends, samples, last = fits.bends, fits.inverses.shape[1], table.shape[0] - 1
    here, of_loss = fits.limits.size, bends[last, 0]
    for layer in range(last, -1, -1):
        outputs, after = table[layer, OUTPUTS], here + sample * table[min(layer + 1, last), OUTPUTS]
        here -= samples * outputs
        for unit in range(outputs):
            place, bend, spread = here + sample * outputs + unit, of_loss, 0.0
            if layer < last:
                x = pre[place]
                if layer == last - 1:
                    spread = of_loss * largest[unit]
                else:
                    size = table[layer + 1, OUTPUTS]
                    weights, worst = table[layer + 1, FLAT] + unit * size, 0.0
                    for k in range(size):
                        weight = abs(flat[np.uint64(weights + k)])
                        worst = max(worst, weight / fits.limits[np.uint64(after + k)])
                        spread += weight * fits.spreads[np.uint64(after + k)]
                    spread = max(spread, worst / MARGIN)
                spread *= bends[layer, 1] if x > 0.0 else bends[layer, 2]
                kink = bends[layer, 4] / max(abs(x), SMALLEST_MOVE)
                bend = max(bends[layer, 0] + bends[layer, 3] * abs(x), kink / MARGIN)
            fits.spreads[place] = spread
            fits.limits[place] = 1.0 / (MARGIN * max(bend, spread, SMALLEST_MOVE))


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
def stretch(point, layer, sample):
    """Return where the inputs of a layer and sample start; each has padding for a vector load."""
    samples, lanes = point.weights.size, width(point.values)
    start = 0
    for i in range(layer):
        start += samples * (point.table[i, INPUTS] + lanes)
    return start + sample * (point.table[layer, INPUTS] + lanes)


@inlined
def observe(point, sample, inverses, lane_values):
    """Do the forward pass of a sample, and store what the differences need."""
    table, samples = point.table, point.weights.size
    pre = 0
    for layer in range(table.shape[0]):
        inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
        here, before = pre + sample * outputs, pre - (samples - sample) * inputs
        note_inputs(point, layer, sample, before, inverses)
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
def note_inputs(point, layer, sample, before, inverses):
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
    inverses[layer, sample] = 1.0 / reach if reach >= SMALLEST_MOVE else 0.0


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
