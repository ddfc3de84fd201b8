"""The cache of compiled code on disk: shared, damaged, out of date."""

import json
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

import accelnn

# Two kernels that compile in a moment; what they compute is `x` again, in pieces.
PACK = """
import json
import numpy as np, accelnn
from accelnn.backends.numba.kernels import nonzeros

x, found = np.eye(9, 20) + 2.0 * np.eye(9, 20, 7), {}
for dtype in DTYPES:
    data = accelnn.prepare(x, np.zeros(9, int), backend="numba", dtype=dtype)
    assert data.kernel_data.sparse
    found[dtype] = data.x.tolist()
kernels = (nonzeros.count_nonzeros, nonzeros.copy_nonzeros)
print(json.dumps([sum(len(kernel.stats.cache_misses) for kernel in kernels), found]))
"""
SINGLE = f"DTYPES = ['float32']\n{PACK}"
BOTH = f"DTYPES = ['float32', 'float64']\n{PACK}"
X = (np.eye(9, 20) + 2.0 * np.eye(9, 20, 7)).tolist()
KERNELS = 2


@pytest.fixture(autouse=True)
def _needs_numba(compiled):
    assert compiled.name == "numba"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Return a folder for the cache of the first test that fills it."""
    return tmp_path_factory.mktemp("cache") / "filled"


@pytest.fixture
def pack(python, tmp_path):
    """Return ``pack(code, *folders)``: how many kernels a new process compiles, and its results.

    All use one cache folder, that of the test.
    """

    def run(code, *folders):
        return json.loads(python(code, *folders, NUMBA_CACHE_DIR=str(tmp_path / "cache")))

    return run


def _files(tmp_path, pattern):
    files = sorted((tmp_path / "cache").rglob(pattern))
    assert files
    return files


def _copy_of_package(tmp_path):
    copy = tmp_path / "site" / "accelnn"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(accelnn.__file__).parent, copy, ignore=ignored)
    return copy


def test_what_one_process_compiles_the_next_one_loads(pack):
    assert pack(BOTH) == [2 * KERNELS, {"float32": X, "float64": X}]
    assert pack(BOTH) == [0, {"float32": X, "float64": X}]


def test_processes_that_compile_at_once(pack):
    codes = [f"DTYPES = {dtypes!r}\n{PACK}" for dtypes in (["float32"], ["float64"])] * 2
    with ThreadPoolExecutor(len(codes)) as pool:
        answers = list(pool.map(pack, codes))
    assert [found for _, found in answers] == [{"float32": X}, {"float64": X}] * 2
    # What one of them wrote may have cost another's entry in the index, never its meaning.
    assert pack(BOTH)[1] == {"float32": X, "float64": X}


def _random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(500))


def _nothing(path):
    path.write_bytes(b"")


def _class_that_does_not_exist(path):
    lost = b"caccelnn.backends.numba.kernels.arguments\nLost\n."
    path.write_bytes(pickle.dumps(numba.__version__) + lost)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("nbi", _random_bytes),
        ("nbi", _nothing),
        ("nbi", _class_that_does_not_exist),
        ("nbc", _random_bytes),
        ("nbc", _nothing),
        ("nbc", Path.unlink),
    ],
)
def test_damage_costs_a_compilation(pack, tmp_path, once, kind, damage):
    if not once.exists():
        assert pack(SINGLE) == [KERNELS, {"float32": X}]
        shutil.copytree(tmp_path / "cache", once)
    shutil.copytree(once, tmp_path / "cache", dirs_exist_ok=True)
    for path in _files(tmp_path, f"*.{kind}"):
        damage(path)
    assert pack(SINGLE) == [KERNELS, {"float32": X}]
    assert pack(SINGLE) == [0, {"float32": X}]


def test_code_for_another_dtype_under_the_same_name_is_not_run(pack, tmp_path):
    """As processes leave it that save at once, each under the first name that is free."""
    pack(BOTH)
    for path in _files(tmp_path, "*.1.nbc"):
        shutil.copy(path, re.sub(r"\.1\.nbc$", ".2.nbc", str(path)))
    compiled, found = pack(BOTH)
    assert compiled > 0
    assert found == {"float32": X, "float64": X}
    # Emptying the index has taken away what was right, too.
    pack(BOTH)
    assert pack(BOTH) == [0, found]


def test_a_change_in_a_file_that_a_kernel_calls(pack, tmp_path):
    copy = _copy_of_package(tmp_path)
    helper = copy / "backends" / "numba" / "kernels" / "meeting.py"
    original = helper.read_text()
    # Nobody gets a part of the work.
    changed = original.replace("return min(first, count), min(last, count)", "return 0, 0")
    assert changed != original
    for source, x in ((original, X), (changed, np.zeros((9, 20)).tolist())):
        helper.write_text(source)
        assert pack(SINGLE, copy.parent) == [KERNELS, {"float32": x}]
        assert pack(SINGLE, copy.parent) == [0, {"float32": x}]


def test_a_change_in_any_file_of_the_compiled_code_counts(python, tmp_path):
    copy = _copy_of_package(tmp_path)
    code = """
from pathlib import Path
from accelnn.backends.numba import _jit

stamp = _jit._stamp_of_all_kernels.__wrapped__
folder = Path(_jit.__file__).parent
before = stamp()
unseen, count = [], 0
for path in folder.rglob("*.py"):
    source = path.read_bytes()
    path.write_bytes(source + b"\\n# changed")
    if stamp() == before:
        unseen.append(path.name)
    path.write_bytes(source)
    count += 1
print(stamp() == before, unseen, count > 15)
"""
    assert python(code, copy.parent) == "True [] True"


def test_functions_that_only_kernels_call_are_not_made_machine_code(compiled):
    """Numba would do so for each by itself, and again in every function that calls it."""
    assert compiled.name == "numba"
    from accelnn.backends.numba._jit import called, uncached_loop

    @called
    def part(x):
        return x + 1.0

    @uncached_loop
    def kernel(x):
        return part(x) * 2.0

    assert kernel(1.0) == 4.0
    (inner,), (outer,) = part.overloads.values(), kernel.overloads.values()
    assert inner.library.get_pointer_to_function(inner.fndesc.mangled_name) == 0
    assert outer.library.get_pointer_to_function(outer.fndesc.mangled_name) != 0


def test_what_an_inlined_function_calls_is_not_inlined_too(compiled):
    """Numba hands the option on to what is compiled meanwhile."""
    assert compiled.name == "numba"
    from accelnn.backends.numba._jit import called, inlined, uncached_loop

    @called
    def part(x):
        return x + 1.0

    @inlined
    def between(x):
        return part(x) * 2.0

    @uncached_loop
    def kernel(x):
        return between(x) + part(x)

    assert kernel(1.0) == 6.0
    marks = [
        "alwaysinline" in next(iter(function.overloads.values())).library.get_llvm_str()
        for function in (part, between)
    ]
    assert marks == [False, True]


def test_what_loads_code_imports_no_compiler(python, tmp_path):
    """Numba would import what it needs to compile any function, before it looks for the code."""
    code = """
import sys
import numpy as np, accelnn
accelnn.prepare(np.eye(9), np.zeros(9, int), backend="numba", dtype="float32")
print("numba.typed.typeddict" in sys.modules)
"""
    cache = str(tmp_path / "cache")
    assert [python(code, NUMBA_CACHE_DIR=cache) for _ in range(2)] == ["True", "False"]


def test_a_process_says_how_long_its_kernels_were_compiled(python, tmp_path):
    code = """
import numpy as np, accelnn
from accelnn._compilation import seconds_compiled
x = np.eye(9, 20)
accelnn.prepare(x, np.zeros(9, int), backend="numpy")
nothing = seconds_compiled()
accelnn.prepare(x, np.zeros(9, int), backend="numba")
first = seconds_compiled()
accelnn.prepare(x, np.zeros(9, int), backend="numba")
print(nothing, first, seconds_compiled() - first)
"""
    nothing, first, again = map(
        float, python(code, NUMBA_CACHE_DIR=str(tmp_path / "cache")).split()
    )
    assert nothing == again == 0.0
    assert first > 0.0
