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

# Rows of all panels that are copied before the next ones: in a flat array, each row may be in a
# page of memory of its own.
ROWS = 64


@loop
def copy_parameters(table, flat_array, packed_array, into_panels, number, size):
    """Copy parameters, or their gradients, from rows in a flat array to panels, or back.

    Of every layer, copy part `number` of `size` parts.
    """
    # References to arrays would be counted for every vector.
    flat = part_as(flat_array, flat_array, ZERO, flat_array.size)
    packed = part_as(packed_array, packed_array, ZERO, packed_array.size)
    lanes = width(flat)
    for layer in range(table.shape[0]):
        outputs, rows = table[layer, OUTPUTS], table[layer, INPUTS]
        panel_size = table[layer, INPUT_PANELS] * lanes * lanes
        panels = (outputs + lanes - 1) // lanes
        panels_from, panels_to = panels * number // size, panels * (number + 1) // size
        for start in range(0, rows + 1, ROWS):
            for panel in range(panels_from, panels_to):
                count = min(lanes, outputs - panel * lanes)
                in_flat = table[layer, FLAT] + panel * lanes
                in_panel = table[layer, WEIGHTS] + panel * panel_size
                for row in range(start, min(start + ROWS, rows)):
                    here, there = in_flat + row * outputs, in_panel + row * lanes
                    copy(flat, here, packed, there, count, into_panels)
        for panel in range(panels_from, panels_to if table[layer, HAS_BIAS] else panels_from):
            count = min(lanes, outputs - panel * lanes)
            here = table[layer, FLAT] + rows * outputs + panel * lanes
            copy(flat, here, packed, table[layer, BIAS] + panel * lanes, count, into_panels)


@inlined
def copy(flat, here, packed, there, count, into_panels):
    """Copy up to one vector of numbers from `flat` to `packed`, followed by zeros, or back."""
    if count == width(flat):
        if into_panels:
            store(packed, there, load(flat, here))
        else:
            store(flat, here, load(packed, there))
    elif into_panels:
        store(packed, there, load_first(flat, here, count))
    else:
        store_first(flat, here, load(packed, there), count)
