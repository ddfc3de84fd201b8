"""Kernels have no more instructions than they had, and products little besides multiply-adds."""

import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
from machine_code import RECORD, densest, kernels_of, size

pytestmark = pytest.mark.nvrtc("nvdisasm")

ARCHITECTURES = (80, 90, 120)
# Instructions may grow by this factor; otherwise, see scripts/cuda_kernels.py --record.
MOST_GROWTH = 1.05


@pytest.fixture(params=ARCHITECTURES, ids="sm_{}".format)
def architecture(request):
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def kernels(architecture, dtype):
    return _compiled_once(dtype, architecture)


@cache
def _compiled_once(dtype, architecture):
    with tempfile.TemporaryDirectory() as folder:
        return kernels_of(dtype, architecture, Path(folder))


@pytest.mark.parametrize("name", ["tile_values", "train_resident", "train_tiles"])
def test_loops_of_products_are_mostly_multiply_adds(kernels, name):
    """Two thirds at least: eight terms of a sum are then at most twelve instructions."""
    loop = densest(kernels[name])
    assert loop.multiply_adds >= 32
    assert 3 * loop.multiply_adds >= 2 * loop.instructions, loop


def test_no_kernel_has_grown(kernels, dtype, architecture):
    """Neither all of it, nor its densest loop for as many multiply-adds."""
    from cupy_backends.cuda.libs import nvrtc

    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    if recorded["nvrtc"] != list(nvrtc.getVersion()):
        pytest.skip("another compiler than that of the record")
    before = recorded["kernels"][f"{dtype} sm_{architecture}"]
    assert kernels.keys() == before.keys()
    for name, lines in kernels.items():
        instructions, in_loop, multiply_adds = before[name]
        assert size(lines) <= MOST_GROWTH * instructions, name
        loop = densest(lines)
        assert loop.instructions * multiply_adds <= MOST_GROWTH * in_loop * loop.multiply_adds, name
