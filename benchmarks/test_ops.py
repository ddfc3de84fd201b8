"""Every op of the conformance table, on every backend that can be used here."""

import zlib
from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn.testing import OP_CASES, OpCase

# A hidden layer of a batch; the outputs of a test set.
SHAPES = [(100, 50), (10_000, 10)]
BACKENDS = [info.name for info in accelnn.list_backends(load=True) if info.available]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", OP_CASES, ids=str)
def test_op(benchmark: Any, case: OpCase, backend: str, shape: tuple[int, int], dtype: str) -> None:
    """Call the op on the arguments that it is tested on."""
    home = accelnn.get_backend(backend)
    draw = np.random.default_rng(zlib.crc32(case.op.encode()))
    arguments = [home.asarray(a.astype(dtype)) for a in case.arguments(draw, shape)]
    op = getattr(home, case.op)

    def call() -> None:
        op(*arguments, *case.options)
        home.synchronize()

    with np.errstate(all="ignore"):
        call()
        benchmark.group = f"{case.op} {shape} {dtype}"
        benchmark(call)
