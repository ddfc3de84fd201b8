"""Vectors in compiled code: as many numbers as two registers of this processor hold.

LLVM vectorises a loop when it can prove that it may; kernels that live from it say so instead. A
vector is loaded from an array, computed with by ``+ - * /``, where a number stands for itself in
every lane, and stored. Arrays are indexed flat and unchecked.
"""

from accelnn.backends.numba.vectors import _math, _operators  # noqa: F401 - define what + and exp are
from accelnn.backends.numba.vectors._calls import call_activation, call_loss, call_update
from accelnn.backends.numba.vectors._denormals import flush_denormals, restore
from accelnn.backends.numba.vectors._error_function import scaled_erfc
from accelnn.backends.numba.vectors._functions import (
    absolute,
    exp_and_expm1,
    first_lanes,
    largest,
    maximum,
    polynomial,
    root,
    total,
    where_positive,
)
from accelnn.backends.numba.vectors._memory import (
    at,
    borrow,
    filled,
    load,
    prefetch,
    store,
    width,
    zeros,
)
from accelnn.backends.numba.vectors._products import (
    add_products,
    multiply_add,
    rows_of_zeros,
    store_rows,
)
from accelnn.backends.numba.vectors._rows import load_numbers, load_rows, store_numbers
from accelnn.backends.numba.vectors._type import LANES, SHORT, TALL, WIDE

__all__ = [
    "LANES",
    "SHORT",
    "TALL",
    "WIDE",
    "absolute",
    "add_products",
    "at",
    "borrow",
    "call_activation",
    "call_loss",
    "call_update",
    "exp_and_expm1",
    "filled",
    "first_lanes",
    "flush_denormals",
    "largest",
    "load",
    "load_numbers",
    "load_rows",
    "maximum",
    "multiply_add",
    "polynomial",
    "prefetch",
    "restore",
    "root",
    "rows_of_zeros",
    "scaled_erfc",
    "store",
    "store_numbers",
    "store_rows",
    "total",
    "where_positive",
    "width",
    "zeros",
]
