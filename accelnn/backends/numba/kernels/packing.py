"""Between a net's flat buffer and its panels."""

import numpy as np

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

__all__ = ["pack", "unpack"]


@loop
def pack(table, lanes, flat, packed):
    """Copy parameters, row by row in `flat`, into panels."""
    for layer in range(table.shape[0]):
        inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
        start = table[layer, FLAT]
        for column in range(outputs):
            place = _place(table, layer, lanes, column)
            for row in range(inputs):
                packed[np.uint64(place + row * lanes)] = flat[
                    np.uint64(start + row * outputs + column)
                ]
            if table[layer, HAS_BIAS]:
                packed[table[layer, BIAS] + column] = flat[start + inputs * outputs + column]


@loop
def unpack(table, lanes, packed, flat):
    """Copy parameters, or their gradients, from panels back into rows."""
    for layer in range(table.shape[0]):
        inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
        start = table[layer, FLAT]
        for column in range(outputs):
            place = _place(table, layer, lanes, column)
            for row in range(inputs):
                flat[np.uint64(start + row * outputs + column)] = packed[
                    np.uint64(place + row * lanes)
                ]
            if table[layer, HAS_BIAS]:
                flat[start + inputs * outputs + column] = packed[table[layer, BIAS] + column]


@inlined
def _place(table, layer, lanes, column):
    """Return where a column of weights starts in the panels."""
    rows = table[layer, INPUT_PANELS] * lanes
    return table[layer, WEIGHTS] + (column // lanes) * rows * lanes + column % lanes
