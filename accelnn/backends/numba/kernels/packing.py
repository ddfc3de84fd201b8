"""Between a net's flat buffer and its panels."""

from accelnn.backends.numba._jit import inlined, loop
from accelnn.backends.numba.layout import (
    BIAS,
    FLAT,
    HAS_BIAS,
    INPUT_PANELS,
    INPUTS,
    OUTPUTS,
    WEIGHTS,
)
from accelnn.backends.numba.vectors import at, load, store, width

__all__ = ["pack", "unpack"]


@loop
def pack(table, flat, packed):
    """Copy parameters, row by row in `flat`, into panels."""
    lanes = width(flat)
    for layer in range(table.shape[0]):
        outputs, rows = table[layer, OUTPUTS], table[layer, INPUTS]
        source, panel_size = table[layer, FLAT], table[layer, INPUT_PANELS] * lanes * lanes
        for first in range(0, outputs, lanes):
            count = min(lanes, outputs - first)
            target = table[layer, WEIGHTS] + first // lanes * panel_size
            for row in range(rows):
                copy(flat, source + row * outputs + first, packed, target + row * lanes, count)
            if table[layer, HAS_BIAS]:
                bias = table[layer, BIAS] + first
                copy(flat, source + rows * outputs + first, packed, bias, count)


@loop
def unpack(table, packed, flat):
    """Copy parameters, or their gradients, from panels back into rows."""
    lanes = width(flat)
    for layer in range(table.shape[0]):
        outputs, rows = table[layer, OUTPUTS], table[layer, INPUTS]
        target, panel_size = table[layer, FLAT], table[layer, INPUT_PANELS] * lanes * lanes
        for first in range(0, outputs, lanes):
            count = min(lanes, outputs - first)
            source = table[layer, WEIGHTS] + first // lanes * panel_size
            for row in range(rows):
                copy(packed, source + row * lanes, flat, target + row * outputs + first, count)
            if table[layer, HAS_BIAS]:
                bias = table[layer, BIAS] + first
                copy(packed, bias, flat, target + rows * outputs + first, count)


@inlined
def copy(a, a_start, b, b_start, count):
    """Copy up to a vector's length of numbers."""
    if count == width(a):
        store(b, b_start, load(a, a_start))
    else:
        for k in range(count):
            b[b_start + k] = at(a, a_start + k)
