"""The memory in which a call of a kernel computes."""

import numpy as np

from accelnn.backends.numba.kernels.arguments import Memory
from accelnn.backends.numba.kernels.evaluation import BLOCK
from accelnn.backends.numba.kernels.forward import ROWS
from accelnn.backends.numba.kernels.training import AHEAD
from accelnn.backends.numba.layout import Layout, aligned_empty, aligned_zeros
from accelnn.backends.numba.vectors import LANES, SHORT

__all__ = ["memory_of_passes", "memory_of_updates"]

# Threads that each gather all samples of a batch, if these stay in cache.
OWN_SAMPLES = 2
# Bytes of parameters that stay in L2 cache.
SMALL = 500_000
# Bytes of the column of a non-zero of compressed samples, and of where those of a row are.
COLUMN, BEGIN_AND_END = 2, 16


def memory_of_passes(
    layout: Layout, dtype: np.dtype, size: int, samples: int, threads: int, *, compressed: bool
) -> tuple[Memory, int]:
    """Return memory for forward passes of so many parameters, and how many threads have some."""
    rows = BLOCK if size * dtype.itemsize < SMALL else ROWS
    threads = max(1, min(threads, -(-samples // rows)))
    rows = min(rows, max(1, -(-samples // SHORT)) * SHORT)
    panel = rows * LANES[dtype.type]
    outputs, inputs = layout.output_panels * panel, layout.input_panels * panel
    inputs, columns, places = _of_samples(inputs, dtype, rows, 1, compressed=compressed)
    whole = 2 * outputs + inputs + columns + places
    numbers = aligned_empty(whole * threads, dtype)
    return Memory(rows, inputs, 1, outputs, outputs, 0, 0, columns, places, numbers), threads


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
    return samples, columns, capacity * BEGIN_AND_END // dtype.itemsize
