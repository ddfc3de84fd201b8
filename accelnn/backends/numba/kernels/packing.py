"""Conversion between a net's flat buffer and its panels."""

from accelnn.backends.numba._jit import ZERO, inlined, loop
from accelnn.backends.numba.layout import (
    BIAS,
    FLAT,
    HAS_BIAS,
    INPUT_PANELS,
    INPUTS,
    OUTPUTS,
    WEIGHTS,
)
from accelnn.backends.numba.vectors import load, load_first, part_as, store, store_first, width

__all__ = ["copy_parameters"]


@loop
def copy_parameters(table, flat_array, packed_array, into_panels):
    """Copy parameters, or their gradients, from rows in a flat array to panels, or back."""
    # References to arrays would be counted for every vector.
    flat = part_as(flat_array, flat_array, ZERO, flat_array.size)
    packed = part_as(packed_array, packed_array, ZERO, packed_array.size)
    lanes = width(flat)
    for layer in range(table.shape[0]):
        outputs, rows = table[layer, OUTPUTS], table[layer, INPUTS]
        panel_size = table[layer, INPUT_PANELS] * lanes * lanes
        for first in range(0, outputs, lanes):
            count = min(lanes, outputs - first)
            in_flat = table[layer, FLAT] + first
            in_panel = table[layer, WEIGHTS] + first // lanes * panel_size
            for row in range(rows):
                here, there = in_flat + row * outputs, in_panel + row * lanes
                copy(flat, here, packed, there, count, into_panels)
            if table[layer, HAS_BIAS]:
                here, there = in_flat + rows * outputs, table[layer, BIAS] + first
                copy(flat, here, packed, there, count, into_panels)


@inlined
def copy(flat, here, packed, there, count, into_panels):
    """Copy up to one vector of numbers from `flat` to `packed`, or back."""
    if into_panels:
        copy_numbers(flat, here, packed, there, count)
    else:
        copy_numbers(packed, there, flat, here, count)


@inlined
def copy_numbers(a, a_start, b, b_start, count):
    """Copy up to one vector of numbers."""
    if count == width(a):
        store(b, b_start, load(a, a_start))
    else:
        store_first(b, b_start, load_first(a, a_start, count), count)
