"""The memory in which a call of a kernel computes."""

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from accelnn.backends.numba.kernels.arguments import Memory
from accelnn.backends.numba.kernels.evaluation import BLOCK
from accelnn.backends.numba.kernels.training import AHEAD
from accelnn.backends.numba.layout import OUTPUT_PANELS, Layout, aligned_empty, aligned_zeros
from accelnn.backends.numba.vectors import LANES, QUAD, SHORT, rows_at_once

__all__ = ["Workspace", "memory_of_passes", "memory_of_updates"]

# Threads that each gather all samples of a batch, if these stay in cache and each needs all.
OWN_SAMPLES = 2
# Samples per pass whose quads are listed: the more there are, the longer the lists.
LONG = 144
# Bytes of parameters that stay in L2 cache; and of larger nets, samples for which a thread is of
# use.
SMALL, LEAST = 500_000, 240
# Bytes of the number of a row that has a listed quad; and of where those of a quad, or what a row
# has, begin and end.
ROW_NUMBER, BEGIN_AND_END = 2, 16


class Workspace:
    """Arrays that one call of an engine's `train` leaves to the next.

    The system fills new memory with zeros page by page, when it is first written: for the arrays of
    a wide net, that takes a tenth of the time of an update.

    Attributes
    ----------
    engine : object
        Whose they are.
    rule : tuple or None
        A built-in rule, and what kernels are told of it.
    """

    def __init__(self, engine: object) -> None:
        self.engine = engine
        self.rule: tuple[object, tuple[int, int, np.ndarray]] | None = None
        self._arrays: dict[str, tuple[Hashable, np.ndarray]] = {}

    def zeros(self, name: str, size: int, dtype: np.dtype, kind: Hashable = None) -> np.ndarray:
        """Return zeros, or what was left in the array of this name, if its size and kind match."""
        key = size, dtype, kind
        if name not in self._arrays or self._arrays[name][0] != key:
            self._arrays[name] = key, aligned_zeros(size, dtype)
        return self._arrays[name][1]


def memory_of_passes(
    layout: Layout,
    dtype: np.dtype,
    size: int,
    samples: int,
    threads: int,
    *,
    with_samples: bool,
    quads: bool,
) -> tuple[Memory, int]:
    """Return memory for forward passes of so many parameters, and how many threads have some.

    It has a place for dense samples, or for their `quads`.
    """
    panels = layout.input_panels if with_samples else 0, layout.output_panels
    lanes = LANES[dtype.type]
    is_small = size * dtype.itemsize < SMALL
    *sizes, threads, whole = _sizes_of_passes(
        panels, lanes, dtype.itemsize, samples, threads, is_small, quads
    )
    return Memory._make((*sizes, aligned_empty(whole, dtype))), threads


# A loop makes the same call again and again, and computing this takes longer than looking it up.
@lru_cache(maxsize=128)
def _sizes_of_passes(
    panels: tuple[int, int],
    lanes: int,
    itemsize: int,
    samples: int,
    threads: int,
    is_small: bool,  # noqa: FBT001 - of a cached function
    quads: bool,  # noqa: FBT001
) -> tuple[int, ...]:
    """Return the fields of a `Memory`, the threads that share it, and how much there is of it."""
    most, least = (BLOCK, BLOCK) if is_small else (rows_at_once(lanes), LEAST)
    threads = max(1, min(threads, -(-samples // least)))
    if quads:
        most = max(most, LONG)
    # As many passes for each thread, of as many samples.
    each = -(-samples // threads)
    each = -(-each // max(1, -(-each // most)))
    rows = max(1, -(-each // SHORT)) * SHORT
    inputs, outputs = (number * rows * lanes for number in panels)
    columns, places = _of_quads(panels[0] * lanes, itemsize, rows, quads=quads)
    whole = (2 * outputs + inputs + columns + places) * threads
    return rows, inputs, 1, outputs, outputs, 0, 0, columns, places, threads, whole


def memory_of_updates(
    layout: Layout,
    dtype: np.dtype,
    batch: int,
    threads: int,
    *,
    with_samples: bool,
    quads: bool,
    workspace: Workspace | None = None,
) -> Memory:
    """Return memory for batches that all threads share: with dense samples, or their `quads`.

    Updates need a workspace, of which it is a part.
    """
    first = int(layout.table[0, OUTPUT_PANELS])
    panels = (layout.input_panels if with_samples else 0, layout.output_panels, first)
    *sizes, whole = _sizes_of_updates(
        panels, LANES[dtype.type], dtype.itemsize, batch, threads, layout.scratch, quads
    )
    if workspace is None:
        return Memory._make((*sizes, aligned_empty(whole, dtype)))
    # The last lanes of an update must be zero, because they are added to the filling of panels.
    return Memory._make((*sizes, workspace.zeros("memory", whole, dtype, tuple(sizes))))


@lru_cache(maxsize=128)
def _sizes_of_updates(
    panels: tuple[int, int, int],
    lanes: int,
    itemsize: int,
    batch: int,
    threads: int,
    scratch: int,
    quads: bool,  # noqa: FBT001 - of a cached function
) -> tuple[int, ...]:
    """Return the fields of a `Memory`, and how much there is of it."""
    capacity = _capacity(batch)
    *sizes, first = panels
    samples, outputs = (number * capacity * lanes for number in sizes)
    # Two threads gather a batch each for itself in less time than one takes to fetch from the
    # other's cache what that has just written, unless they share the rows of a panel of the first
    # layer. Where prepared non-zeros are, each looks up; and each lists the quads of all samples,
    # which are sorted by column. A single row of quads is expanded by each.
    few = threads <= OWN_SAMPLES and (quads or (threads <= first and samples <= AHEAD))
    copies = threads if few or samples == 0 or batch == 1 else 1
    columns, rows = _of_quads(panels[0] * lanes, itemsize, capacity, quads=quads)
    scratch *= threads
    whole = 3 * outputs + scratch + copies * (samples + columns + rows)
    return capacity, samples, copies, outputs, outputs, outputs, scratch, columns, rows, whole


def _capacity(rows: int) -> int:
    """Return how many rows panels have for so many.

    An odd number of blocks: the numbers of one row are a panel apart, and a distance that is a
    power of two would have all of them compete for the same few lines of a cache.
    """
    return (-(-rows // SHORT) | 1) * SHORT


def _of_quads(inputs: int, itemsize: int, capacity: int, *, quads: bool) -> tuple[int, int]:
    """Return how many numbers one copy takes of the rows of quads, and of where they are."""
    columns = inputs // QUAD if quads else 0
    rows, places = columns * capacity * ROW_NUMBER, max(columns, capacity) * BEGIN_AND_END
    return -(-rows // itemsize), places // itemsize
