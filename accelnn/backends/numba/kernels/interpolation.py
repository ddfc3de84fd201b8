"""Changes of a sample's loss as polynomials in the move of one pre-activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.kernels.propagation import TERMS
from accelnn.backends.numba.layout import FLAT, OUTPUTS
from accelnn.backends.numba.vectors import LANES, load, width

__all__ = [
    "MARGIN",
    "NODES",
    "SMALLEST_MOVE",
    "TABLES",
    "Fits",
    "Tables",
    "bound_moves",
    "coefficients_per_sample",
    "interpolate",
    "polynomial_of",
]

# Changes of samples' losses are interpolated between 2 `NODES` Chebyshev nodes, by polynomials of
# the mean slope's even and odd part in the square of the move.
NODES = 4
# How many times farther than the moves a change must be analytic. An interpolation at 8 nodes is
# off by the 8th power of the inverse over 2**7, 2**-63 times the largest value in that circle.
MARGIN = 128.0
# The smallest move that is interpolated, whose square and inverse are normal numbers.
SMALLEST_MOVE = 1e-100


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
def interpolate(slopes, i, powers, array, place, stride):
    """Write the coefficients of powers of the squared move that fit mean slopes at the nodes."""
    slope = slopes[i]
    # Small differences, in which the large coefficients of high powers lose little.
    one, two, three = slopes[i + 1] - slope, slopes[i + 2] - slope, slopes[i + 3] - slope
    for k in range(NODES):
        of_power = powers[3 * k] * one + powers[3 * k + 1] * two + powers[3 * k + 2] * three
        array[np.uint64(place + k * stride)] = slope + of_power if k == 0 else of_power


@inlined
def polynomial_of(array, i, x):
    """Return the polynomial in x with `NODES` vectors of coefficients."""
    lanes = width(array)
    result = load(array, i + 3 * lanes)
    for k in range(2, -1, -1):
        result = result * x + load(array, i + k * lanes)
    return result
