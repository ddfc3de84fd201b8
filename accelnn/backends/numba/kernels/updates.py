"""Update rules, on packed parameters: a stretch of them, or one vector after another."""

from accelnn.backends.numba._jit import called, inlined
from accelnn.backends.numba.formulas import chosen, names_with_code, parts_of
from accelnn.backends.numba.vectors import (
    call_update,
    load,
    load_like,
    load_rows,
    store,
    store_rows,
    width,
)
from accelnn.formulas._table import RULES as ALL

__all__ = ["OWN_RULE", "RULES", "STORE_GRADIENT", "move_by", "rates_of", "update"]

# Kernels identify a rule by its index.
RULES = names_with_code(ALL)
# A user's rule, whose code is called by its address.
OWN_RULE = len(RULES)
# In place of a rule: keep the gradient, and the parameters as they are.
STORE_GRADIENT = -1


@inlined
def add_decay(p, g, rate, factor):
    """Return the parameters and the gradient after weight decay, of rules without one of their own.

    It is part of the gradient, whatever the rate.
    """
    return p, g + factor * p


def in_place(rule_update, states):
    """Return the update of one vector of parameters in place, by a rule with so many states.

    It returns the vector.
    """

    @inlined
    def move(p, g, rate, scale, numbers, params, slots, here, stride):
        state = load_rows(slots, here, stride, p, states)
        moved = rule_update(p, g, rate, scale, numbers, *state)
        store(params, here, moved[0])
        store_rows(slots, here, stride, moved[1:])
        return moved[0]

    return move


updates = parts_of(RULES, "update")
moves = {name: in_place(part, ALL[name]().slots) for name, part in updates.items()}
move = inlined(chosen(moves, "p, g, rate, scale, numbers, params, slots, here, stride"))
decay_of = inlined(chosen(parts_of(RULES, "decay", add_decay), "p, g, rate, factor"))


@inlined
def rates_of(rule, step, is_bias):
    """Return the learning rate, the two coefficients and the decay of an update."""
    row, decay = step - rule.done - 1, rule.decay_of_biases if is_bias else rule.decay_of_weights
    return rule.rates[row], rule.coefficients[0, row], rule.coefficients[1, row], decay


@inlined
def move_by(rule, rates, params, here, g):
    """Move the vector ``params[here]`` by its gradient, and return it.

    The state is in the same place. Of all rules but a user's own.
    """
    rate, first, second, decay = rates
    p, slots = load_like(g, params, here), rule.slots
    if decay > 0.0:
        p, g = decay_of(rule.kind, p, g, rate, decay)
    return move(rule.kind, p, g, first, second, rule.numbers, params, slots, here, params.size)


@called
def update(rule, step, params, start, gradient, gradient_start, count, is_bias):
    """Move ``params[start : start + count]`` by a gradient, with the state in the same places.

    `count` is a multiple of the width.
    """
    rates = rates_of(rule, step, is_bias)
    if rule.kind == OWN_RULE:
        # For the zero gradients that pad a panel it may compute anything: no other lane sees it.
        rate, _, _, decay = rates
        g, stride = gradient_start, params.size
        call_update(
            rule.code, params, start, gradient, g, rule.slots, stride, count, rate, step, decay
        )
        return
    for i in range(0, count, width(params)):
        move_by(rule, rates, params, start + i, load(gradient, gradient_start + i))
