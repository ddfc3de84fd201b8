"""Changes f(x + d) - f(x) of activations and losses, vectorised, without cancellation."""

import math
from typing import NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload

from accelnn.backends.numba._jit import INLINED, inlined
from accelnn.backends.numba.formulas import chosen, parts_of, sum_squared_error
from accelnn.backends.numba.kernels.activations import ACTIVATIONS
from accelnn.backends.numba.kernels.losses import LOSSES
from accelnn.backends.numba.vectors import (
    call_in_place,
    exp_and_expm1,
    filled,
    load,
    maximum,
    store,
    width,
    zeros,
)

__all__ = [
    "COMMON",
    "SUM_SQUARED_ERROR",
    "Codes",
    "activation_change",
    "cross_entropy_change",
    "cross_entropy_series",
    "sum_change",
    "summand_change",
    "units",
]

# The first activations of the table are compiled into the kernel, and squared errors. The others
# have code of their own, called by its address, and the kernel is compiled once more for nets that
# need it: all formulas together take as long to compile as the rest, and the possibility of a call
# in the inner loop takes a tenth of its time.
COMMON = 3
SUM_SQUARED_ERROR = LOSSES.index("sum_squared_error")
# Moves above HUGE bring exp near overflow; sums below SHRUNK bring log1p near its pole at -1.
HUGE = 350.0
SHRUNK = -0.5


class Codes(NamedTuple):
    """Addresses of code for the changes of formulas that are not in the kernel.

    Attributes
    ----------
    units, changes : numpy.ndarray of int64
        Of each hidden layer's activation.
    loss : int
        Of the loss.
    """

    units: np.ndarray
    changes: np.ndarray
    loss: int


@inlined
def no_parts(x):
    """Return two vectors that nothing needs."""
    return x, x


names = ACTIVATIONS[:COMMON]
common_activation = inlined(chosen(parts_of(names, "activate"), "x, parameter"))
common_parts = inlined(chosen(parts_of(names, "parts", no_parts), "x"))
common_change = inlined(chosen(parts_of(names, "change"), "d, x, parameter, s, rest"))


def units(kind, codes, layer, x, parameter, lane_values):
    """Return f(x) and the parts of x for a vector of pre-activations, in compiled code."""
    raise NotImplementedError


def activation_change(kind, codes, layer, d, x, parameter, s, rest, lane_values):
    """Return f(x + d) - f(x) for a vector d and a scalar x with its parts, in compiled code."""
    raise NotImplementedError


def summand_change(kind, codes, d, a, t, parameter, lane_values):
    """Return the change for moves of one output, of a loss that is a sum, in compiled code."""
    raise NotImplementedError


@overload(units, jit_options=INLINED)
def _units(kind, codes, layer, x, parameter, lane_values):
    def of_kernel(kind, codes, layer, x, parameter, lane_values):
        s, rest = common_parts(kind, x)
        return common_activation(kind, x, parameter)[0], s, rest

    def of_either(kind, codes, layer, x, parameter, lane_values):
        if 0 <= kind < COMMON:
            s, rest = common_parts(kind, x)
            return common_activation(kind, x, parameter)[0], s, rest
        lanes = width(lane_values)
        store(lane_values, 0, x)
        call_in_place(codes.units[layer], lane_values, (parameter,))
        after, s = load(lane_values, lanes), load(lane_values, 2 * lanes)
        return after, s, load(lane_values, 3 * lanes)

    return of_kernel if isinstance(codes, types.NoneType) else of_either


@overload(activation_change, jit_options=INLINED)
def _activation_change(kind, codes, layer, d, x, parameter, s, rest, lane_values):
    def of_kernel(kind, codes, layer, d, x, parameter, s, rest, lane_values):
        return common_change(kind, d, x, parameter, s, rest)

    def of_either(kind, codes, layer, d, x, parameter, s, rest, lane_values):
        if 0 <= kind < COMMON:
            return common_change(kind, d, x, parameter, s, rest)
        store(lane_values, 0, d)
        call_in_place(codes.changes[layer], lane_values, (x, parameter, s, rest))
        return load(lane_values, 0)

    return of_kernel if isinstance(codes, types.NoneType) else of_either


@overload(summand_change, jit_options=INLINED)
def _summand_change(kind, codes, d, a, t, parameter, lane_values):
    def of_kernel(kind, codes, d, a, t, parameter, lane_values):
        return sum_squared_error.change(d, a, t)

    def of_either(kind, codes, d, a, t, parameter, lane_values):
        if kind == SUM_SQUARED_ERROR:
            return sum_squared_error.change(d, a, t)
        store(lane_values, 0, d)
        call_in_place(codes.loss, lane_values, (a, t, parameter))
        return load(lane_values, 0)

    return of_kernel if isinstance(codes, types.NoneType) else of_either


@inlined
def cross_entropy_series(moments, terms, signs, weight, c, along):
    """Return the change for scores moved by c w, where all |c w| are small.

    Σ p expm1(c w) is a power series in c with the coefficients `moments`, Σ p wᵏ / k!; log1p is one
    with the coefficients `signs`. `along` is Σ t w.
    """
    growth = filled(c, moments[terms - 1])
    for k in range(terms - 2, -1, -1):
        growth = growth * c + moments[k]
    growth = growth * c
    log = filled(c, signs[terms - 1])
    for k in range(terms - 2, -1, -1):
        log = log * growth + signs[k]
    return weight * (log * growth) - along * c


@inlined
def cross_entropy_change(scores, probabilities, targets, row, outputs, weight, moves, out):
    """Return the change for moves of all scores, one vector per score.

    T log1p(Σ p expm1(d)) - Σ t d; where that loses digits, which is where the change is large, the
    difference of two logsumexp instead.
    """
    lanes = width(moves)
    growth, linear, top = zeros(moves), zeros(moves), load(moves, 0)
    for output in range(outputs):
        d = load(moves, output * lanes)
        _, expm1 = exp_and_expm1(d)
        growth = growth + probabilities[row + output] * expm1
        linear = linear + targets[row + output] * d
        top = maximum(top, d)
    store(out, 0, growth)
    store(out, lanes, top)
    for lane in range(lanes):
        if out[lanes + lane] > HUGE or out[lane] < SHRUNK:
            out[lane] = plain_change(scores, row, outputs, moves, lane)
        else:
            out[lane] = math.log1p(out[lane])
    return weight * load(out, 0) - linear


@inlined
def plain_change(scores, row, outputs, moves, lane):
    """Return logsumexp(scores + moves) - logsumexp(scores)."""
    lanes = width(moves)
    before = after = -math.inf
    for output in range(outputs):
        before = max(before, scores[row + output])
        after = max(after, scores[row + output] + moves[output * lanes + lane])
    sum_before = sum_after = 0.0
    for output in range(outputs):
        score = scores[row + output]
        sum_before += math.exp(score - before)
        sum_after += math.exp(score + moves[output * lanes + lane] - after)
    return (after - before) + (math.log(sum_after) - math.log(sum_before))


@inlined
def sum_change(kind, codes, parameter, scores, targets, row, outputs, moves, lane_values):
    """Return the change for moves of all scores, one vector per score, of a sum over outputs."""
    change = zeros(moves)
    for output in range(outputs):
        d = load(moves, output * width(moves))
        a, t = scores[row + output], targets[row + output]
        change = change + summand_change(kind, codes, d, a, t, parameter, lane_values)
    return change
