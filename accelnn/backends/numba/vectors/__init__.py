"""Explicit SIMD vectors in compiled code, each as wide as two registers of this CPU.

LLVM's auto-vectorisation is not guaranteed, so kernels whose speed depends on it use this type. A
vector is loaded from an array, used in ``+ - * /``, where a scalar is broadcast to all lanes, and
stored. Arrays are indexed flat and without bounds checks.
"""

from accelnn.backends.numba.vectors import _math, _operators  # noqa: F401 - register overloads
from accelnn.backends.numba.vectors._calls import (
    call_activation,
    call_in_place,
    call_loss,
    call_update,
)
from accelnn.backends.numba.vectors._denormals import flush_denormals, restore
from accelnn.backends.numba.vectors._dropout import dropout_factors
from accelnn.backends.numba.vectors._error_function import scaled_erfc
from accelnn.backends.numba.vectors._functions import (
    absolute,
    exp_and_expm1,
    first_lanes,
    largest,
    maximum,
    one_hot,
    polynomial,
    root,
    total,
    where_positive,
)
from accelnn.backends.numba.vectors._memory import (
    at,
    filled,
    load,
    load_first,
    load_like,
    part_as,
    per_line,
    prefetch,
    prefetch_near,
    rows_at,
    store,
    store_first,
    width,
    zeros,
)
from accelnn.backends.numba.vectors._nonzeros import (
    copy_quad,
    count_of,
    decode_quad,
    first_of,
    lanes_of_nonzeros,
    quads_of,
)
from accelnn.backends.numba.vectors._products import (
    add_products,
    add_products_of,
    first_half,
    multiply_add,
    rows_of,
    sum_products,
)
from accelnn.backends.numba.vectors._rows import (
    load_numbers,
    load_places,
    load_rows,
    side,
    store_numbers,
    store_rows,
    transpose_square,
)
from accelnn.backends.numba.vectors._type import (
    BROAD,
    DEEP,
    LANES,
    QUAD,
    SHORT,
    SQUARE,
    TALL,
    WIDE,
    rows_at_once,
)

__all__ = [
    "BROAD",
    "DEEP",
    "LANES",
    "QUAD",
    "SHORT",
    "SQUARE",
    "TALL",
    "WIDE",
    "absolute",
    "add_products",
    "add_products_of",
    "at",
    "call_activation",
    "call_in_place",
    "call_loss",
    "call_update",
    "copy_quad",
    "count_of",
    "decode_quad",
    "dropout_factors",
    "exp_and_expm1",
    "filled",
    "first_half",
    "first_lanes",
    "first_of",
    "flush_denormals",
    "lanes_of_nonzeros",
    "largest",
    "load",
    "load_first",
    "load_like",
    "load_numbers",
    "load_places",
    "load_rows",
    "maximum",
    "multiply_add",
    "one_hot",
    "part_as",
    "per_line",
    "polynomial",
    "prefetch",
    "prefetch_near",
    "quads_of",
    "restore",
    "root",
    "rows_at",
    "rows_at_once",
    "rows_of",
    "scaled_erfc",
    "side",
    "store",
    "store_first",
    "store_numbers",
    "store_rows",
    "sum_products",
    "total",
    "transpose_square",
    "where_positive",
    "width",
    "zeros",
]
