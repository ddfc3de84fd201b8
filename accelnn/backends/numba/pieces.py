"""Batches of many samples, computed piece by piece, so that a piece stays in cache."""

import math

import numpy as np

from accelnn.backends.numba.dataset import NOTHING
from accelnn.backends.numba.kernels.arguments import Rule
from accelnn.backends.numba.kernels.updates import STORE_GRADIENT
from accelnn.backends.numba.layout import Layout
from accelnn.backends.numba.vectors import LANES

__all__ = ["NO_SQUARES", "gradient_rule", "most_samples", "rows_of_pieces"]

# Numbers in the samples, outputs, slopes and errors of a piece, which stay in cache; but several
# times as many as parameters, because its gradient is added to that of the other pieces.
PIECE, TIMES = 300_000, 2
# Rate and coefficients, which `STORE_GRADIENT` does not use.
ONE, ONE_EACH = np.ones(1), np.ones((2, 1))
# The argument of a step without clipping.
NO_SQUARES = np.zeros(0)


def most_samples(layout: Layout, dtype: np.dtype) -> int:
    """Return how many samples a piece may have."""
    row = (layout.input_panels + 3 * layout.output_panels) * LANES[dtype.type]
    return max(1, max(PIECE, TIMES * layout.size) // row)


def rows_of_pieces(batch: int, most: int) -> int:
    """Return how many samples of a batch a piece has, of which the last may have fewer."""
    return -(-batch // -(-batch // most))


def gradient_rule(out: np.ndarray) -> Rule:
    """Return the rule by which the gradient of a batch is stored."""
    none = NOTHING[out.dtype]
    return Rule(STORE_GRADIENT, ONE, 0.0, 0.0, out, ONE, ONE_EACH, 0, 0, math.inf, none, NO_SQUARES)
