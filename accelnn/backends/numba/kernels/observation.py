"""The forward pass of samples whose loss is differenced."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.kernels.changes import Codes, units
from accelnn.backends.numba.kernels.interpolation import SMALLEST_MOVE
from accelnn.backends.numba.kernels.losses import CROSS_ENTROPY
from accelnn.backends.numba.layout import ACTIVATION, FLAT, HAS_BIAS, INPUTS, OUTPUTS
from accelnn.backends.numba.vectors import load, store, width

__all__ = ["Point", "activate_units", "note_inputs", "observe", "stretch"]


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
