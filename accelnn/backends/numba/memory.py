"""The memory in which a call of a kernel computes."""

import numpy as np

from accelnn.backends.numba.kernels.arguments import Memory
from accelnn.backends.numba.kernels.training import AHEAD
from accelnn.backends.numba.layout import Layout, aligned_empty, aligned_zeros
from accelnn.backends.numba.vectors import LANES, SHORT

__all__ = ["memory_of_passes", "memory_of_updates", "samples_of_piece"]

# Threads that each gather all samples of a batch, if these stay in cache.
OWN_SAMPLES = 2
# Numbers in the samples, outputs, slopes and errors of one piece of a gradient: with half as many,
# or twice, that of 10,000 samples took as long, with a tenth or ten times as many it took longer.
PIECE = 800_000
# Bytes of the column of a non-zero of compressed samples, and of where those of a row are.
COLUMN, ROW = 2, 16


def samples_of_piece(layout: Layout, dtype: np.dtype) -> int:
    """Return of how many samples a gradient is computed at a time, so that they stay in cache."""
    row = (layout.input_panels + 3 * layout.output_panels) * LANES[dtype.type]
    return max(1, PIECE // (row * SHORT)) * SHORT


def memory_of_passes(
    layout: Layout, dtype: np.dtype, rows: int, threads: int, *, compressed: bool
) -> Memory:
    """Return memory for forward passes, of so many rows at a time in each of the threads."""
    panel = rows * LANES[dtype.type]
    outputs, samples = layout.output_panels * panel, layout.input_panels * panel
    samples, columns, places = _of_samples(samples, dtype, rows, 1, compressed=compressed)
    whole = 2 * outputs + samples + columns + places
    numbers = aligned_empty(whole * threads, dtype)
    return Memory(rows, samples, 1, outputs, outputs, 0, 0, columns, places, numbers)


def memory_of_updates(
    layout: Layout,
    dtype: np.dtype,
    batch: int,
    threads: int,
    *,
    with_samples: bool,
    compressed: bool,
    updates: bool,
) -> Memory:
    """Return memory for batches that all threads share."""
    capacity = -(-batch // SHORT) * SHORT
    panel = capacity * LANES[dtype.type]
    outputs = layout.output_panels * panel
    samples = layout.input_panels * panel if with_samples else 0
    # Two threads gather a batch each for itself in less time than one takes to fetch from the
    # other's cache what that has just written. Where prepared non-zeros are, each looks up.
    own = not with_samples or (threads <= OWN_SAMPLES and samples <= AHEAD)
    copies = threads if own else 1
    samples, columns, rows = _of_samples(samples, dtype, capacity, threads, compressed=compressed)
    scratch = layout.scratch * threads
    whole = 3 * outputs + scratch + copies * (samples + columns + rows)
    # Only a step's last lanes must be zero, because they are added to the filling of panels.
    make = aligned_zeros if updates else aligned_empty
    numbers = make(whole, dtype)
    return Memory(
        capacity, samples, copies, outputs, outputs, outputs, scratch, columns, rows, numbers
    )


def _of_samples(
    samples: int, dtype: np.dtype, capacity: int, threads: int, *, compressed: bool
) -> tuple[int, int, int]:
    """Return how many numbers one copy of the samples, of columns and of places of rows takes."""
    columns = 0
    if compressed:
        # A vector is written after the non-zeros that each thread compresses.
        samples += threads * LANES[dtype.type]
        columns = samples * COLUMN // dtype.itemsize
    return samples, columns, capacity * ROW // dtype.itemsize
