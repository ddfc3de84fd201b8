"""What calls a user's functions, for kernels that know its address alone."""

from collections.abc import Callable

from numba import carray

from accelnn.backends.numba.vectors import load, store

__all__ = ["NUMBER", "STRETCH_OF_NUMBERS", "STRETCH_OF_VECTORS"]


def templates(key: int) -> tuple[Callable[..., None], Callable[..., None], Callable[..., float]]:
    """Return the sources, which find `value`, `slope`, `function` and `LANES` among their globals.

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

    return stretch_of_vectors, stretch_of_numbers, number


STRETCH_OF_VECTORS, STRETCH_OF_NUMBERS, NUMBER = templates(0)
