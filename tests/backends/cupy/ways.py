"""Fused engines and their ways of training, as parameters of tests."""

import pytest

__all__ = ["ENGINES", "WAYS"]

WAYS = ("one launch", "graph", "tiles", "products")
ON_CPU, ON_DEVICE = (getattr(pytest.mark, name) for name in ("cuda_on_cpu", "gpu"))
# Of the fixture `training_backend`.
ENGINES = (
    pytest.param(("numba", "numba"), id="numba"),
    *(pytest.param(("cupy on cpu", way), marks=ON_CPU, id=f"{way} on cpu") for way in WAYS),
    *(pytest.param(("cupy", way), marks=ON_DEVICE, id=way) for way in (*WAYS, "resident")),
)
