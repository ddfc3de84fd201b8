"""Every kernel under AddressSanitizer and ThreadSanitizer, which find what is planted."""

import functools
import subprocess
from pathlib import Path

import pytest

from accelnn.backends.cupy.resident import layout_of
from accelnn.backends.cupy.source import Variant, kernel_source

pytestmark = pytest.mark.cuda_on_cpu

FOLDER = Path(__file__).parent
FLAGS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # It does not know the fences of the grid's barrier, which a test of the source looks at.
    "thread": ["-fsanitize=thread", "-DGRID_BARRIER_ELSEWHERE"],
}
VARIANT = Variant("float32", has_pixels=True, has_labels=True)


LAYOUT = layout_of(
    VARIANT, (9, 5, 3), 6, bias=True, slots=2, processors=7, shared=100_000, threads=32
)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return ``build(sanitizer, source, main, options)``, which builds each program once."""

    @functools.cache
    def build(sanitizer, source=None, main="one_of_each.cpp", options=()):
        folder = tmp_path_factory.mktemp(sanitizer)
        text = f'#include "cuda_on_cpu.h"\n{source or kernel_source()}\n#include "{main}"\n'
        (folder / "watched.cpp").write_text(text)
        command = ["g++", "-O1", "-g1", "-pthread", f"-I{FOLDER}", "-Wno-unknown-pragmas"]
        command += ["-DTHREADS_OF_THE_PROCESSOR"]
        command += [*VARIANT.options, *options, "-std=c++20", *FLAGS[sanitizer]]
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
    "phases begin before all blocks have ended the one before": (
        "            if (phases[i].meets) {",
        "            if (phases[i].meets && operation != LOSSES) {",
        (4, 16),
    ),
    "a tile's factors are read before all threads have stored theirs": (
        "            }\n            __syncthreads();\n            if (base + DEPTH < end) {",
        "            }\n            if (base + DEPTH < end) {",
        (3, 5),
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


def _watch_resident(build, sanitizer, change=None, missing=0):
    source = kernel_source("resident.cu")
    if change is not None:
        right, wrong = change
        assert source.count(right) == 1
        source = source.replace(right, wrong)
    program = build(sanitizer, source, "resident.cpp", tuple(LAYOUT.options))
    command = [str(program), str(missing)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("sanitizer", FLAGS)
def test_the_kernel_that_keeps_a_net_is_clean(sanitizer, build):
    """Over two launches of three steps, of which the last is short."""
    done = _watch_resident(build, sanitizer)
    assert done.returncode == 0, done.stderr[-3000:]
    assert min(LAYOUT.rows, LAYOUT.columns) > 1


def test_an_overrun_of_the_kernel_that_keeps_a_net_is_found(build):
    """A block has not the last numbers of what it uses."""
    done = _watch_resident(build, "address", missing=64)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


# What is left out of the kernel that keeps a net.
RESIDENT_RACES = {
    "a sample's values are sent before they are there": (
        """            __syncthreads();
            constexpr int LOSS_THREADS""",
        "            constexpr int LOSS_THREADS",
    ),
    "weights are updated before their gradients are there": (
        """        gradients(now, d, sums);
        __syncthreads();""",
        "        gradients(now, d, sums);",
    ),
}


@pytest.mark.parametrize("what", RESIDENT_RACES)
def test_a_race_of_the_kernel_that_keeps_a_net_is_found(what, build):
    done = _watch_resident(build, "thread", RESIDENT_RACES[what])
    assert done.returncode != 0
    assert "data race" in done.stderr
