"""Every kernel under AddressSanitizer and ThreadSanitizer, which find what is planted."""

import subprocess
from pathlib import Path

import pytest

from accelnn.backends.cupy.source import SHARED_BYTES, Variant, kernel_source

pytestmark = pytest.mark.cuda_on_cpu

FOLDER = Path(__file__).parent
FLAGS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # It does not know the fences of the grid's barrier, which a test of the source looks at.
    "thread": ["-fsanitize=thread", "-DGRID_BARRIER_ELSEWHERE"],
}
VARIANT = Variant("float32", has_pixels=True, has_labels=True)


def _run(sanitizer, folder, source=None, bytes_each=SHARED_BYTES):
    text = f'#include "cuda_on_cpu.h"\n{source or kernel_source()}\n#include "one_of_each.cpp"\n'
    (folder / "watched.cpp").write_text(text)
    command = ["g++", "-O1", "-g", "-pthread", f"-I{FOLDER}", "-Wno-unknown-pragmas"]
    command += [*VARIANT.options, "-std=c++20", *FLAGS[sanitizer]]
    program = folder / "watched"
    subprocess.run([*command, str(folder / "watched.cpp"), "-o", str(program)], check=True)
    return subprocess.run(
        [str(program), str(bytes_each)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("sanitizer", FLAGS)
def test_all_kernels_are_clean(sanitizer, tmp_path):
    done = _run(sanitizer, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_planted_overrun_is_found(tmp_path):
    """A block has a few bytes less of shared memory than it uses: what lies there is nobody's."""
    done = _run("address", tmp_path, bytes_each=SHARED_BYTES - 1)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def test_a_planted_race_is_found(tmp_path):
    """Sums over a block go on before their parts are there."""
    right = "        __syncthreads();\n        if (thread < active / 2)"
    assert right in kernel_source()
    wrong = kernel_source().replace(right, "        if (thread < active / 2)")
    done = _run("thread", tmp_path, wrong)
    assert done.returncode != 0
    assert "data race" in done.stderr


def test_a_barrier_that_is_left_out_is_found(tmp_path):
    """Parameters move while other samples still read them."""
    right = "        grid_barrier(flags + ARRIVED);\n    }"
    assert right in kernel_source()
    wrong = kernel_source().replace(right, "    }")
    done = _run("thread", tmp_path, wrong)
    assert done.returncode != 0
    assert "data race" in done.stderr
