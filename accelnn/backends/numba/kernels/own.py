"""Templates of the code that kernels call by its address, around a user's functions."""

from collections.abc import Callable
from typing import Any

from numba import carray

from accelnn.backends.numba.vectors import (
    load,
    load_numbers,
    load_rows,
    store,
    store_numbers,
    store_rows,
)

__all__ = [
    "CHANGE_OF_LOSS",
    "CHANGE_OF_NUMBERS",
    "CHANGE_OF_OWN_LOSS",
    "CHANGE_OF_VECTORS",
    "NUMBER",
    "STRETCH_OF_NUMBERS",
    "STRETCH_OF_VECTORS",
    "UNITS_OF_NUMBERS",
    "UNITS_OF_VECTORS",
    "UPDATE_OF_NUMBERS",
    "UPDATE_OF_VECTORS",
    "each",
]


def templates(key: int) -> tuple[Callable[..., Any], ...]:
    """Return the sources, which find the functions, `LANES` and `STATES` among their globals.

    The key is in their closure, by which Numba tells one's cached code from another's.
    """

    def stretch_of_vectors(z, slopes, count):
        if key >= 0:
            z, slopes = carray(z, (count,)), carray(slopes, (count,))
            for i in range(0, count, LANES):  # noqa: F821
                x = load(z, i)
                store(slopes, i, slope(x))  # noqa: F821
                store(z, i, value(x))  # noqa: F821

    def stretch_of_numbers(z, slopes, count):
        if key >= 0:
            z, slopes = carray(z, (count,)), carray(slopes, (count,))
            for i in range(count):
                x = float(z[i])
                slopes[i] = slope(x)  # noqa: F821
                z[i] = value(x)  # noqa: F821

    def number(a, t):
        return function(a, t) if key >= 0 else 0.0  # noqa: F821

    def update_of_vectors(params, gradient, slots, stride, count, rate, k, decay):
        if key >= 0:
            params, gradient = carray(params, (count,)), carray(gradient, (count,))
            slots = carray(slots, (count,))
            for i in range(0, count, LANES):  # noqa: F821
                p, g = load(params, i), load(gradient, i)
                if decay > 0.0:
                    g = g + decay * p
                state = load_rows(slots, i, stride, p, STATES)  # noqa: F821
                moved = update(p, g, rate, float(k), *state)  # noqa: F821
                store(params, i, moved[0])
                store_rows(slots, i, stride, moved[1:])

    def update_of_numbers(params, gradient, slots, stride, count, rate, k, decay):
        if key >= 0:
            params, gradient = carray(params, (count,)), carray(gradient, (count,))
            slots = carray(slots, (count,))
            for i in range(count):
                p, g = float(params[i]), float(gradient[i])
                if decay > 0.0:
                    g += decay * p
                state = load_numbers(slots, i, stride, STATES)  # noqa: F821
                moved = update(p, g, rate, float(k), *state)  # noqa: F821
                params[i] = moved[0]
                store_numbers(slots, i, stride, moved[1:])

    def units_of_vectors(numbers, parameter):
        if key >= 0:
            numbers = carray(numbers, (4 * LANES,))  # noqa: F821
            x = load(numbers, 0)
            s, rest = parts(0, x)  # noqa: F821
            store(numbers, LANES, activate(0, x, parameter)[0])  # noqa: F821
            store(numbers, 2 * LANES, s)  # noqa: F821
            store(numbers, 3 * LANES, rest)  # noqa: F821

    def units_of_numbers(numbers, parameter):
        if key >= 0:
            numbers = carray(numbers, (4 * LANES,))  # noqa: F821
            for i in range(LANES):  # noqa: F821
                numbers[i + LANES] = value(float(numbers[i]))  # noqa: F821
                numbers[i + 2 * LANES] = numbers[i + 3 * LANES] = numbers[i + LANES]  # noqa: F821

    def change_of_vectors(numbers, x, parameter, s, rest):
        if key >= 0:
            numbers = carray(numbers, (LANES,))  # noqa: F821
            store(numbers, 0, change(0, load(numbers, 0), x, parameter, s, rest))  # noqa: F821

    def change_of_numbers(numbers, x, parameter, s, rest):
        if key >= 0:
            numbers = carray(numbers, (LANES,))  # noqa: F821
            for i in range(LANES):  # noqa: F821
                numbers[i] = value(x + numbers[i]) - s  # noqa: F821

    def change_of_loss(numbers, a, t, parameter):
        if key >= 0:
            numbers = carray(numbers, (LANES,))  # noqa: F821
            store(numbers, 0, change(0, load(numbers, 0), a, t, parameter))  # noqa: F821

    def change_of_own_loss(numbers, a, t, parameter):
        if key >= 0:
            numbers, before = carray(numbers, (LANES,)), function(a, t)  # noqa: F821
            for i in range(LANES):  # noqa: F821
                numbers[i] = function(a + numbers[i], t) - before  # noqa: F821

    return (
        stretch_of_vectors,
        stretch_of_numbers,
        number,
        update_of_vectors,
        update_of_numbers,
        units_of_vectors,
        units_of_numbers,
        change_of_vectors,
        change_of_numbers,
        change_of_loss,
        change_of_own_loss,
    )


(
    STRETCH_OF_VECTORS,
    STRETCH_OF_NUMBERS,
    NUMBER,
    UPDATE_OF_VECTORS,
    UPDATE_OF_NUMBERS,
    UNITS_OF_VECTORS,
    UNITS_OF_NUMBERS,
    CHANGE_OF_VECTORS,
    CHANGE_OF_NUMBERS,
    CHANGE_OF_LOSS,
    CHANGE_OF_OWN_LOSS,
) = templates(0)


def each(function: Callable[..., Any], arguments: int) -> Callable[..., None]:
    """Return the source of a loop that calls a compiled function of several results.

    Its arguments are rows of one array, as its results are.
    """

    def loop(given, found):
        for i in range(found.shape[1]):
            numbers = load_numbers(given, i, given.shape[1], arguments)
            store_numbers(found, i, found.shape[1], function(*numbers))

    return loop
