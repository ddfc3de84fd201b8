"""The Numba type of SIMD vectors, and helpers that emit LLVM IR for it."""

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import models, register_model

__all__ = [
    "BROAD",
    "DEEP",
    "I32",
    "I64",
    "IS_X86",
    "LANES",
    "QUAD",
    "SHORT",
    "SQUARE",
    "TALL",
    "WIDE",
    "Vector",
    "call",
    "constant",
    "horner",
    "is_single",
    "lanes_before",
    "llvm_type",
    "load_vector",
    "pointer_to",
    "reduce",
    "rows_at_once",
    "splat",
    "store_vector",
]


def _features() -> set[str]:
    """Return the features of the CPU that Numba compiles for: the host, unless configured."""
    config: Any = numba.config
    if config.CPU_FEATURES is not None:
        return _named(config.CPU_FEATURES)
    return _named(get_host_cpu_features())


def _named(features: str) -> set[str]:
    return {feature[1:] for feature in features.split(",") if feature.startswith("+")}


IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_present = _features()
_wide = "avx512f" in _present
_REGISTER_BYTES = 64 if _wide else 32 if "avx" in _present else 16
_MANY_REGISTERS = _wide or not IS_X86

# Elements of a vector.
LANES = {np.float32: 2 * _REGISTER_BYTES // 4, np.float64: 2 * _REGISTER_BYTES // 8}
# Rows of a register block: `TALL` sums and their operands fit in registers. Remaining rows are
# computed in blocks of `SHORT`, a divisor of `TALL`, so blocks that start at a multiple of `SHORT`
# end at one. Transposed products have blocks of `WIDE` columns, a divisor of `LANES`.
SHORT = 4 if _MANY_REGISTERS else 2
TALL = 12 if _MANY_REGISTERS else 6
WIDE = min(4, *LANES.values())
# As many of these first as fit into `LANES` with a whole number of the former after them: there are
# registers for 12 sums, but 8 leave no rest of 32 or 16.
BROAD = 8 if _MANY_REGISTERS else TALL
# Columns of a sample that are stored together if one of them is not zero: the sums of so many
# vectors, and what is added to them, fit in registers. A divisor of `LANES`.
QUAD = 4
# Products that are summed before the next block, so that what they share stays in L1 cache: a
# multiple of `LANES`.
DEEP = 256


def rows_at_once(lanes: int) -> int:
    """Return how many rows of a matrix are multiplied by all panels of another before the next.

    `DEEP` columns of them take half of the L2 cache of usual processors: 512 KB of those with
    AVX-512, 256 KB of others. It is a multiple of `TALL`, and a few more than a power of two, which
    batches are, because all of the other matrix is read once for each.
    """
    return (16 * lanes // TALL + 1) * TALL


# Rows and columns of the blocks in which a matrix is transposed: a row of one is half a vector at
# most, so that all of them fit in registers.
SQUARE = {np.float32: min(_REGISTER_BYTES, 32) // 4, np.float64: min(_REGISTER_BYTES, 32) // 8}

I32 = ir.IntType(32)
I64 = ir.IntType(64)


class Vector(types.Type):
    """Numba's type of a vector of `LANES` numbers of one dtype, or of half as many."""

    def __init__(self, dtype: types.Float, *, half: bool = False) -> None:
        self.dtype = dtype
        self.half = half
        super().__init__(f"{'Half' if half else ''}Vector({dtype})")


def llvm_type(vector: Vector) -> ir.VectorType:
    parts = 2 if vector.half else 1
    if vector.dtype == types.float32:
        return ir.VectorType(ir.FloatType(), LANES[np.float32] // parts)
    return ir.VectorType(ir.DoubleType(), LANES[np.float64] // parts)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, llvm_type(vector))


def is_single(kind: ir.VectorType) -> bool:
    return isinstance(kind.element, ir.FloatType)


def pointer_to(context: Any, builder: Any, array_type: Any, array: Any, i: Any) -> Any:
    position = context.data_model_manager[array_type].get_field_position("data")
    return builder.gep(builder.extract_value(array, position), [i], inbounds=True)


def load_vector(builder: Any, pointer: Any, kind: ir.VectorType) -> Any:
    pointer = builder.bitcast(pointer, kind.as_pointer())
    return builder.load(pointer, align=4 if is_single(kind) else 8)


def store_vector(builder: Any, value: Any, pointer: Any) -> None:
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, pointer, align=4 if is_single(value.type) else 8)


def splat(builder: Any, number: Any, kind: ir.VectorType) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, I32(0))
    mask = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, mask)


def constant(kind: ir.VectorType, number: float) -> ir.Constant:
    rounded = float(np.float32(number)) if is_single(kind) else number
    return ir.Constant(kind, [rounded] * kind.count)


def call(builder: Any, name: str, *args: Any) -> Any:
    """Call an LLVM intrinsic whose operands and result have the same vector type."""
    kind = args[0].type
    full_name = f"llvm.{name}.v{kind.count}f{32 if is_single(kind) else 64}"
    signature = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, full_name), args)


def horner(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Return the sum of ``coefficients[k] * x**k``."""
    result = constant(x.type, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = call(builder, "fmuladd", result, x, constant(x.type, coefficient))
    return result


def lanes_before(builder: Any, count: Any, lanes: int) -> Any:
    """Return a mask of so many lanes, of which the first `count` are set."""
    kind = ir.VectorType(I64, lanes)
    numbers = ir.Constant(kind, list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, count, kind))


def reduce(builder: Any, x: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Reduce the lanes to a scalar by combining halves pairwise."""
    lanes, undefined = x.type.count, ir.Constant(x.type, ir.Undefined)
    while lanes > 1:
        lanes //= 2
        order = [(i + lanes) % x.type.count for i in range(x.type.count)]
        mask = ir.Constant(ir.VectorType(I32, x.type.count), order)
        x = combine(x, builder.shuffle_vector(x, undefined, mask))
    return builder.extract_element(x, I32(0))
