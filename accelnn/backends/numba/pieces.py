"""Gradients of many samples, computed piece by piece, so that a piece stays in cache.

Pieces are the batches of one call of the training kernel under `STORE_GRADIENT`.
"""

import math

import numpy as np

from accelnn.backends.numba.dataset import NOTHING
from accelnn.backends.numba.kernels.arguments import Rule
from accelnn.backends.numba.kernels.updates import STORE_GRADIENT
from accelnn.backends.numba.layout import Layout
from accelnn.backends.numba.vectors import LANES, SHORT

__all__ = ["NO_SQUARES", "gradient_rule", "samples_of_piece", "shares_of_pieces"]

# Numbers in the samples, outputs, slopes and errors of a piece: a gradient of 10,000 samples took
# as long with half or twice as many, and longer with a tenth or ten times as many.
PIECE = 800_000
# Its samples at least, of however many inputs: its gradient is added to that of the others.
LEAST = 96
# The share of a single piece, and rate and coefficients that `STORE_GRADIENT` does not use.
ONE, ONE_EACH = np.ones(1), np.ones((2, 1))
# The argument of a step without clipping.
NO_SQUARES = np.zeros(0)


def samples_of_piece(layout: Layout, dtype: np.dtype) -> int:
    """Return how many samples a piece has: an odd number of blocks of `SHORT`.

    If panels were a multiple of a page apart, their rows would share a few sets of the L1 cache,
    which took 6 % longer.
    """
    row = (layout.input_panels + 3 * layout.output_panels) * LANES[dtype.type]
    return (max(LEAST, PIECE // row) // SHORT | 1) * SHORT


def shares_of_pieces(samples: int, piece: int) -> np.ndarray:
    """Return how much each piece counts for the mean of all samples."""
    if samples <= piece:
        return ONE
    starts = np.arange(0, samples, piece)
    return np.minimum(samples - starts, piece) / samples


def gradient_rule(out: np.ndarray, shares: np.ndarray) -> Rule:
    """Return the rule by which the sum of all pieces' gradients, times their shares, is stored."""
    none = NOTHING[out.dtype]
    return Rule(
        STORE_GRADIENT, ONE, 0.0, 0.0, out, shares, ONE_EACH, 0, 0, math.inf, none, NO_SQUARES
    )
