"""The arguments of kernels."""

from typing import NamedTuple

import numpy as np

from accelnn.backends.numba._jit import inlined
from accelnn.backends.numba.vectors import QUAD, part_as, width

__all__ = ["Data", "Mask", "Memory", "Net", "Piece", "Rule", "Work", "ends_batch", "work_in"]


class Net(NamedTuple):
    """An architecture and its packed parameters; see `accelnn.backends.numba.layout`.

    `parameters` has that of each hidden layer's activation, and last that of the loss. `loss` is a
    number, or `OWN_CODE` for a user's loss, called by the addresses of its functions.
    """

    table: np.ndarray
    params: np.ndarray
    parameters: np.ndarray
    loss: int
    loss_value: int
    loss_slope: int


class Data(NamedTuple):
    """Samples, dense in `x` or sparse, and targets; unused arrays are empty.

    The non-zeros of sample s are ``values[starts[s] : starts[s + 1]]``, in `columns`. If they are
    `quads`, `columns` are numbers of quads, and each has `QUAD` of the `values`; or, if those are
    bytes divided by a number, one of the `codes`, and `values` are that divisor and whether
    quotients are rounded to single precision. The weight of sample s is ``weights[s]``, or 1 if
    `weights` is empty. Of single non-zeros, `codes` have another type.
    """

    sparse: bool
    quads: bool
    x: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    codes: np.ndarray
    labelled: bool
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Rule(NamedTuple):
    """An optimiser: its number, its hyperparameters, and its state in packed buffers.

    Under `STORE_GRADIENT` nothing is updated, and `slots` is a flat buffer for the gradient. If
    `gradient` is not empty, it is a packed buffer for the gradient of a batch that has several
    pieces; or, if `squares` is not empty, of any batch: until it is known whether its norm, from
    sums of squares of its parts, is more than `clip`.
    ``rates[i]`` is the learning rate of update number ``done + i + 1``. `code` is the address of a
    user's own.
    """

    kind: int
    numbers: np.ndarray
    decay_of_weights: float
    decay_of_biases: float
    slots: np.ndarray
    rates: np.ndarray
    coefficients: np.ndarray
    done: int
    code: int
    clip: float
    gradient: np.ndarray
    squares: np.ndarray


class Mask(NamedTuple):
    """Dropout: see `accelnn.formulas._dropout`. Without any, `threshold` is 0."""

    threshold: int
    scale: float
    seed: int


class Piece(NamedTuple):
    """Some rows of a batch: `size` samples from ``order[start]`` on, after `done` of `batch`."""

    start: int
    size: int
    done: int
    batch: int


class Memory(NamedTuple):
    """The memory of `Work`: how many numbers each of its arrays has, for each thread or for all.

    `samples` is the size of one copy of the samples, and `copies` how many there are. With each are
    `rows`, where their non-zeros begin and end, or those of every quad; and `columns`, the rows of
    quads, if they are listed.
    """

    capacity: int
    samples: int
    copies: int
    outputs: int
    slopes: int
    errors: int
    scratch: int
    columns: int
    rows: int
    numbers: np.ndarray


class Work(NamedTuple):
    """Buffers of a piece: outputs, slopes of the activations, errors, and scratch per thread.

    All but `scratch` hold panels of `capacity` rows, a multiple of `SHORT`. The samples, if they
    are `gathered`, are in `outputs` from `samples` on, and dense rows else start at `begins`. If
    they are `sparse`, the non-zeros of a row are ``values[begins[row] : ends[row]]``, in `columns`.
    If they are `quads`, those of number q are from ``q * capacity`` to ``ends[q]``: their rows are
    in `columns`, and each has `QUAD` of the `values`.
    """

    capacity: int
    samples: int
    outputs: np.ndarray
    slopes: np.ndarray
    errors: np.ndarray
    scratch: np.ndarray
    sparse: bool
    quads: bool
    gathered: bool
    begins: np.ndarray
    ends: np.ndarray
    columns: np.ndarray
    values: np.ndarray


@inlined
def ends_batch(piece):
    """Return whether no rows of the batch come after a piece."""
    return piece.done + piece.size == piece.batch


@inlined
def work_in(memory, number, copy, data, row):
    """Return the buffers of number `number` in a memory, and one of its copies of the samples.

    Quads take the place of dense samples. The outputs start with those of a `row`.
    """
    # Where each buffer starts in those of this number, and where they end.
    samples = memory.outputs
    slopes = samples + memory.samples * memory.copies
    errors = slopes + memory.slopes
    scratch = errors + memory.errors
    columns = scratch + memory.scratch
    rows = columns + memory.columns * memory.copies
    end = rows + memory.rows * memory.copies
    numbers = memory.numbers
    own = part_as(numbers, numbers, number * end, end)
    samples += copy * memory.samples
    columns += copy * memory.columns
    rows += copy * memory.rows
    column_numbers, values = data.columns, data.values
    if memory.columns > 0:
        column_numbers = part_as(data.columns, own, columns, memory.samples // QUAD)
        values = part_as(data.values, own, samples, memory.samples)
    return Work(
        memory.capacity,
        samples,
        part_as(own, own, row * width(numbers), slopes - row * width(numbers)),
        part_as(own, own, slopes, memory.slopes),
        part_as(own, own, errors, memory.errors),
        part_as(own, own, scratch, memory.scratch),
        data.sparse or memory.columns > 0,
        memory.columns > 0,
        memory.samples > 0 and memory.columns == 0,
        part_as(data.starts, own, rows, memory.capacity),
        part_as(data.starts, own, rows + memory.rows // 2, memory.capacity),
        column_numbers,
        values,
    )
