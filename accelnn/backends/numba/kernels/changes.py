"""Changes f(x + d) - f(x) of activations and losses, vectorised, without cancellation."""

import math

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.formulas import sigmoid
from accelnn.backends.numba.kernels.activations import ACTIVATIONS
from accelnn.backends.numba.vectors import (
    absolute,
    exp_and_expm1,
    filled,
    load,
    maximum,
    store,
    where_positive,
    width,
    zeros,
)

__all__ = [
    "CHANGES",
    "LOSS_CHANGES",
    "activation",
    "activation_change",
    "cross_entropy_change",
    "cross_entropy_series",
    "logistic_parts",
    "squared_error_change",
]

# The activations and losses whose changes are implemented here.
CHANGES = ("sigmoid", "relu", "tanh")
LOSS_CHANGES = ("cross_entropy", "sum_squared_error")
SIGMOID, RELU, TANH = map(ACTIVATIONS.index, CHANGES)
# Moves above HUGE bring exp near overflow; sums below SHRUNK bring log1p near its pole at -1.
HUGE = 350.0
SHRUNK = -0.5
# Below this, s (1 - s) is close to underflow and loses digits.
SMALLEST = 1e-290


@inlined
def activation(kind, x):
    """Return f(x) for a scalar."""
    if kind == RELU:
        return max(x, 0.0)
    if kind == TANH:
        return math.tanh(x)
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


@inlined
def logistic_parts(kind, x):
    """Return s(x) and 1 - s(x), for tanh those of 2x, which `activation_change` takes."""
    x = 2.0 * x if kind == TANH else x
    e = math.exp(-abs(x))
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    return (large, small) if x >= 0.0 else (small, large)


@inlined
def activation_change(kind, x, s, rest, d):
    """Return f(x + d) - f(x) for a vector d and a scalar x with its `logistic_parts`."""
    if kind == RELU:
        if x > 0.0:
            return maximum(d, filled(d, -x))
        return maximum(d + x, filled(d, 0.0))
    if kind == TANH:
        return 2.0 * logistic_change(2.0 * x, s, rest, 2.0 * d)
    return logistic_change(x, s, rest, d)


@inlined
def logistic_change(x, s, rest, d):
    """Return s(x + d) - s(x) = s (1 - s) expm1(d) / (1 - s + s exp(d)).

    Evaluated for d <= 0; a positive d is mirrored by s(x) = 1 - s(-x). Where s (1 - s) underflows,
    the change is s(x + d) or -s(-x - d), because s(x) or 1 - s(x) is negligible.
    """
    if s * rest < SMALLEST:
        after, _ = sigmoid.activate((d + x) if x < 0.0 else -1.0 * (d + x))
        return after if x < 0.0 else -1.0 * after
    s_of_sign = where_positive(d, filled(d, rest), filled(d, s))
    rest_of_sign = where_positive(d, filled(d, s), filled(d, rest))
    exp, expm1 = exp_and_expm1(-1.0 * absolute(d))
    change = (s * rest) * expm1 / (rest_of_sign + s_of_sign * exp)
    return where_positive(d, -1.0 * change, change)


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
def squared_error_change(scores, targets, row, outputs, moves):
    """Return Σ d (a - t + ½ d) for moves of all outputs, one vector per output."""
    lanes = width(moves)
    change = zeros(moves)
    for output in range(outputs):
        d = load(moves, output * lanes)
        change = change + d * (0.5 * d + (scores[row + output] - targets[row + output]))
    return change
