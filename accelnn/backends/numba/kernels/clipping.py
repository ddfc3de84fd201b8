"""Clipping of the gradient: all of it is kept until its norm is known."""

import math

from accelnn.backends._engine import CLIP_EPS
from accelnn.backends.numba._jit import called, inlined
from accelnn.backends.numba.kernels.meeting import share
from accelnn.backends.numba.kernels.updates import update
from accelnn.backends.numba.layout import BIAS, HAS_BIAS, INPUT_PANELS, OUTPUT_PANELS, WEIGHTS
from accelnn.backends.numba.vectors import load, store, total, width, zeros

__all__ = ["first_square_of_biases", "keep", "squares_of", "update_clipped"]


@called
def keep(rule, here, gradient, start, rows):
    """Keep some vectors of a step's gradient, and return the sum of their squares."""
    squares, lanes = zeros(gradient), width(gradient)
    for k in range(0, rows * lanes, lanes):
        g = load(gradient, start + k)
        store(rule.gradient, here + k, g)
        squares = squares + g * g
    return float(total(squares))


@inlined
def first_square_of_biases(net):
    """Return where the sums of squares of biases are, after those of weights."""
    lanes = width(net.params)
    return net.params.size // (lanes * lanes) + 1


def squares_of(size: int, lanes: int) -> int:
    """Return how many sums of squares so many packed parameters have."""
    return size // lanes**2 + 1 + size // lanes


@called
def update_clipped(member, net, rule, step):
    """Update this thread's part of all parameters by the gradient that was kept, scaled down."""
    table, lanes, squared = net.table, width(net.params), 0.0
    of_biases = first_square_of_biases(net)
    for layer in range(table.shape[0]):
        start = table[layer, WEIGHTS] // (lanes * lanes)
        for i in range(start, start + table[layer, OUTPUT_PANELS] * table[layer, INPUT_PANELS]):
            squared += rule.squares[i]
        start = of_biases + table[layer, BIAS] // lanes
        for i in range(start, start + table[layer, OUTPUT_PANELS] * table[layer, HAS_BIAS]):
            squared += rule.squares[i]
    # If the squared norm overflows, the factor is zero, as on other backends and in torch.
    norm = math.sqrt(net.params.dtype.type(squared)) + CLIP_EPS
    factor = net.params.dtype.type(rule.clip / norm if norm > rule.clip else 1.0)
    for layer in range(table.shape[0]):
        panels = table[layer, OUTPUT_PANELS]
        first, last = share(member, panels * table[layer, INPUT_PANELS], 1)
        weights, size = table[layer, WEIGHTS], lanes * lanes
        for here in range(weights + first * size, weights + last * size, size):
            update_scaled(net, rule, step, here, size, factor, False)  # noqa: FBT003
        if table[layer, HAS_BIAS]:
            first, last = share(member, panels, 1)
            here, count = table[layer, BIAS] + first * lanes, (last - first) * lanes
            update_scaled(net, rule, step, here, count, factor, True)  # noqa: FBT003


@inlined
def update_scaled(net, rule, step, start, count, factor, is_bias):
    """Update some parameters by their gradient times a factor."""
    for here in range(start, start + count, width(net.params)):
        store(rule.gradient, here, load(rule.gradient, here) * factor)
    update(rule, step, net.params, start, rule.gradient, start, count, is_bias)
