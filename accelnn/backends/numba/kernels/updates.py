"""The optimisers, on a stretch of packed parameters."""

import math

from accelnn.backends._rules import DECAY_OF_BIASES, DECAY_OF_WEIGHTS, RULES
from accelnn.backends.numba._jit import called, inlined
from accelnn.backends.numba.vectors import call_update, load, root, store, width

__all__ = ["OWN_RULE", "at_step", "update"]

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, ADAMW = range(len(RULES))
# A user's, whose code is called by its address.
OWN_RULE = len(RULES)


@inlined
def at_step(rule, step):
    """Return the learning rate, and the factor of √s, of update number `step`, from 1."""
    rate = rule.rates[step - rule.done - 1]
    if rule.kind not in (ADAM, ADAMW):
        return rate, 1.0
    first, second = rule.numbers[1], rule.numbers[2]
    return rate / (1.0 - first**step), 1.0 / math.sqrt(1.0 - second**step)


@called
def update(rule, step, params, start, gradient, gradient_start, count, is_bias):
    """Move ``params[start : start + count]`` by a gradient, with the state in the same places.

    `count` is a multiple of the width. A negative kind stores the gradient in place of the state.
    """
    rate, correction = at_step(rule, step)
    kind, slot, second_slot = rule.kind, rule.slots, params.size
    a, b, eps = rule.numbers[1], rule.numbers[2], rule.numbers[3]
    decay = rule.numbers[DECAY_OF_BIASES if is_bias else DECAY_OF_WEIGHTS]
    if kind == OWN_RULE:
        # Of a gradient that is zero it may make anything where panels are filled up, which meets no
        # other lane.
        stride, g = params.size, gradient_start
        call_update(rule.code, params, start, gradient, g, slot, stride, count, rate, step, decay)
        return
    for i in range(0, count, width(params)):
        here, g = start + i, load(gradient, gradient_start + i)
        if kind < 0:
            store(slot, here, g)
            continue
        p = load(params, here)
        if decay > 0.0:
            if kind == ADAMW:
                p = (1.0 - rule.rates[step - rule.done - 1] * decay) * p
            else:
                g = g + decay * p
        if kind == SGD:
            store(params, here, p - rate * g)
            continue
        s = load(slot, here)
        if kind in (MOMENTUM, NESTEROV):
            s = a * s + g
            store(params, here, p - rate * (s if kind == MOMENTUM else g + a * s))
        elif kind == ADAGRAD:
            s = s + g * g
            store(params, here, p - rate * g / (root(s) + eps))
        elif kind == RMSPROP:
            s = a * s + (1.0 - a) * (g * g)
            store(params, here, p - rate * g / (root(s) + eps))
        else:
            s = a * s + (1.0 - a) * g
            v = b * load(slot, second_slot + here) + (1.0 - b) * (g * g)
            store(slot, second_slot + here, v)
            store(params, here, p - rate * s / (root(v) * correction + eps))
        store(slot, here, s)
