"""Every kernel under AddressSanitizer and ThreadSanitizer, which find what is planted."""

import functools
import subprocess
from pathlib import Path

import pytest

from accelnn.backends.cupy.source import Variant, kernel_source

pytestmark = pytest.mark.cuda_on_cpu

FOLDER = Path(__file__).parent
FLAGS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # It does not know the fences of the grid's barrier, which a test of the source looks at.
    "thread": ["-fsanitize=thread", "-DGRID_BARRIER_ELSEWHERE"],
}
VARIANT = Variant("float32", has_pixels=True, has_labels=True)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return ``build(sanitizer, source)``, which builds each program once."""

    @functools.cache
    def build(sanitizer, source=None):
        folder = tmp_path_factory.mktemp(sanitizer)
        text = f'#include "cuda_on_cpu.h"\n{source or kernel_source()}\n'
        (folder / "watched.cpp").write_text(text + '#include "one_of_each.cpp"\n')
        command = ["g++", "-O1", "-g", "-pthread", f"-I{FOLDER}", "-Wno-unknown-pragmas"]
        command += [*VARIANT.options, "-std=c++20", *FLAGS[sanitizer]]
        program = folder / "watched"
        subprocess.run([*command, str(folder / "watched.cpp"), "-o", str(program)], check=True)
        return program

    return build


def _run(program, grid=(4, 16), missing=0):
    command = [str(program), *map(str, grid), str(missing)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("sanitizer", FLAGS)
def test_all_kernels_are_clean(sanitizer, build):
    """With several tiles of inputs to a block, and with parts of sums."""
    program = build(sanitizer)
    for grid in [(4, 16), (3, 5), (4, 64)]:
        done = _run(program, grid)
        assert done.returncode == 0, done.stderr[-3000:]


def test_a_planted_overrun_is_found(build):
    """A block has a byte less of shared memory than it uses."""
    done = _run(build("address"), missing=1)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


# What is left out, and a grid on which that is a race.
RACES = {
    "sums over a block go on before their parts are there": (
        "        } else if (thread < 32) {\n            __syncwarp();\n        }",
        "        }",
        (4, 16),
    ),
    "inputs are overwritten by the next tile while others read them": (
        "            __syncthreads();\n            if (thread < count)",
        "            if (thread < count)",
        (3, 5),
    ),
    "errors of other blocks are summed before they are there": (
        "        grid_barrier(flags + ARRIVED);\n        if (flags[STOPPED])",
        "        if (flags[STOPPED])",
        (4, 16),
    ),
    "gradients are summed before their parts are there": (
        "            shared[threadIdx.x] = sum;\n            __syncthreads();",
        "            shared[threadIdx.x] = sum;",
        (4, 64),
    ),
}


@pytest.mark.parametrize("what", RACES)
def test_a_planted_race_is_found(what, build):
    right, wrong, grid = RACES[what]
    assert kernel_source().count(right) == 1
    done = _run(build("thread", kernel_source().replace(right, wrong)), grid)
    assert done.returncode != 0
    assert "data race" in done.stderr
