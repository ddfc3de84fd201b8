"""Batches of many samples are computed piece by piece, so that a piece stays in cache."""

import numpy as np

from accelnn.backends.numba.layout import Layout
from accelnn.backends.numba.vectors import LANES

__all__ = ["most_samples", "rows_of_pieces"]

# Numbers in the samples, outputs, slopes and errors of a piece, which stay in cache; but several
# times as many as parameters, because its gradient is added to that of the other pieces.
PIECE, TIMES = 300_000, 2


def most_samples(layout: Layout, dtype: np.dtype) -> int:
    """Return how many samples a piece may have."""
    row = (layout.input_panels + 3 * layout.output_panels) * LANES[dtype.type]
    return max(1, max(PIECE, TIMES * layout.size) // row)


def rows_of_pieces(batch: int, most: int) -> int:
    """Return how many samples of a batch a piece has, of which the last may have fewer."""
    return -(-batch // -(-batch // most))
