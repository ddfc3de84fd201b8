"""The structured numerical gradient: only what a weight affects is evaluated again.

A sample's loss depends on a weight through the move of one pre-activation, input times step. Its
change is evaluated at 8 moves, and interpolated for the inputs of all weights of the unit, if it is
known to be smooth enough for that to be exact to rounding; otherwise it is evaluated for every
weight. Nothing uses a derivative.

A vector holds the changes for several moves of one pre-activation. Weights with a zero input change
nothing and are skipped. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import called, inlined, slow_loop
from accelnn.backends.numba.kernels.interpolation import (
    NODES,
    SMALLEST_MOVE,
    bound_moves,
    interpolate,
    polynomial_of,
)
from accelnn.backends.numba.kernels.launch import launch
from accelnn.backends.numba.kernels.meeting import is_abandoned, share, wait
from accelnn.backends.numba.kernels.observation import observe, stretch
from accelnn.backends.numba.kernels.propagation import (
    TERMS,
    find_direction,
    loss_change,
    prepare_series,
    take_powers,
)
from accelnn.backends.numba.layout import FLAT, HAS_BIAS, INPUTS, OUTPUTS
from accelnn.backends.numba.vectors import first_lanes, load, rows_at, store, width, zeros

__all__ = ["Difference", "Inputs", "Scratch", "differences"]

# Weights of a unit whose inputs are listed at a time.
ROWS = 32


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


class Scratch(NamedTuple):
    """Temporary buffers, a row for each thread."""

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
    def of(cls, sizes: Sequence[int], lanes: int, threads: int) -> Scratch:
        """Return buffers for layers of these sizes."""
        moments, widest = -(-TERMS // lanes) * lanes, max(sizes)
        lengths = (
            widest + 1,
            sizes[-1],
            sizes[-2],
            moments,
            sizes[-1] * moments,
            widest * lanes,
            widest * lanes,
            4 * lanes,
            2 * NODES + lanes,
            2 * NODES,
        )
        return cls(*(np.zeros((threads, length)) for length in lengths))


class Inputs(NamedTuple):
    """The samples whose input to a row of weights is not zero, for `ROWS` rows of each thread.

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
    def of(cls, samples: int, threads: int) -> Inputs:
        """Return buffers."""
        # With one more, because a zero is written and not counted.
        shape = threads, ROWS * samples + 1
        counts = np.empty((threads, ROWS), np.int64)
        return cls(counts, np.empty(shape, np.int64), np.empty(shape), np.empty(shape))


@slow_loop
def differences(meeting, size, point, fits, difference, tables, scratch, listed, out):
    """Write the flat gradient of the mean loss.

    Where a sample's change is smooth, it is evaluated at the nodes alone, and the mean slopes are
    interpolated; otherwise it is evaluated for every weight.
    """
    arguments = point, fits, difference, tables, scratch, listed, out
    launch(differences_as, meeting, size, arguments)


@called
def differences_as(member, point, fits, difference, tables, scratch_of_all, listed_of_all, out):
    """Do a member's share of `differences`."""
    scratch = rows_at(scratch_of_all, member.number)
    listed = rows_at(listed_of_all, member.number)
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
            if is_abandoned(member):
                return
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
                        for k in range(sums.size):
                            sums[k] = 0.0
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
