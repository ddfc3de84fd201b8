"""The compiled kernels, and a Numba that is absent, broken or short of a cache folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn.backends.numpy import NumpyBackend

OPS = ("softmax", "log_softmax", "sigmoid_delta")
NO_NUMBA = """
import sys
from importlib.machinery import PathFinder

class WithoutNumba(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] == "numba"
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [WithoutNumba if finder is PathFinder else finder for finder in sys.meta_path]
"""
ASK = """
import json
import numpy as np, accelnn
try:
    accelnn.get_backend("numba")
except accelnn.errors.BackendUnavailableError as error:
    row = next(row for row in accelnn.list_backends() if row.name == "numba")
    print(json.dumps([
        str(error), error.reason, row, accelnn.get_backend("auto").name,
        accelnn.relu(np.array([-1.0, 2.0])).tolist(),
    ]))
"""
COMPUTE = """
import json
import numpy as np, accelnn
from accelnn.backends.numba.kernels import ops as kernels

b = accelnn.get_backend("numba")
draw = np.random.default_rng(0)
x, d = draw.normal(scale=3.0, size=(2, 40, 7))
results = {}
for dtype in ORDER:
    a, c = x.astype(dtype), d.astype(dtype)
    for op, arguments in (("softmax", [a]), ("log_softmax", [a]), ("sigmoid_delta", [a, c])):
        y = getattr(b, op)(*arguments)
        assert y.dtype == np.dtype(dtype), (op, y.dtype)
        results[f"{op} {dtype}"] = y.tobytes().hex()
print(json.dumps([type(kernels.softmax_rows._cache).__name__, results]))
"""


@pytest.fixture
def portable():
    return NumpyBackend()


def _arguments(op, x, d):
    return (x, d) if op == "sigmoid_delta" else (x,)


def _assert_same(actual, expected, ulps=8):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    eps = np.finfo(expected.dtype).eps
    np.testing.assert_allclose(actual, expected, rtol=ulps * eps, atol=ulps * eps)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2, 10, 15, 16, 17, 100])
def test_agrees_with_the_portable_body_on_both_sides_of_the_width(
    compiled, portable, op, dtype, width
):
    draw = np.random.default_rng(width)
    for shape in ((5, width), (2, 3, width), (width,), (0, width)):
        x, d = draw.normal(scale=3.0, size=(2, *shape)).astype(dtype)
        arguments = _arguments(op, x, d)
        _assert_same(getattr(compiled, op)(*arguments), getattr(portable, op)(*arguments))


def test_kernels_are_used_where_they_should_be(compiled, portable, monkeypatch):
    calls = []
    for name in ("softmax_rows", "log_softmax_rows", "sigmoid_delta"):
        kernel = getattr(compiled._ops, name)

        def counted(*arguments, kernel=kernel, name=name):
            calls.append(name)
            return kernel(*arguments)

        monkeypatch.setattr(compiled._ops, name, counted)
    x = np.ones((3, 16))
    compiled.softmax(x)
    compiled.log_softmax(x)
    compiled.sigmoid_delta(x, x)
    assert calls == ["softmax_rows", "log_softmax_rows", "sigmoid_delta"]
    compiled.softmax(np.ones((3, 17)))
    compiled.log_softmax(x.astype(np.float16))
    compiled.sigmoid_delta(x, x.astype(np.float32))
    portable.softmax(x)
    assert len(calls) == 3


def test_results_do_not_depend_on_which_dtype_was_compiled_first(compiled, python, tmp_path):
    assert compiled.name == "numba"
    found = []
    for i, order in enumerate((["float32", "float64"], ["float64", "float32"])):
        code = f"ORDER = {order!r}\n{COMPUTE}"
        cache, results = json.loads(python(code, NUMBA_CACHE_DIR=str(tmp_path / f"cache{i}")))
        assert cache == "FunctionCache"
        assert list((tmp_path / f"cache{i}").rglob("*.nbi")), "nothing was cached"
        found.append(results)
    assert found[0] == found[1]
    x, d = np.random.default_rng(0).normal(scale=3.0, size=(2, 40, 7))
    portable = NumpyBackend()
    for key, result in found[0].items():
        op, dtype = key.split()
        expected = getattr(portable, op)(*_arguments(op, x.astype(dtype), d.astype(dtype)))
        values = np.frombuffer(bytes.fromhex(result), dtype).reshape(expected.shape)
        _assert_same(values, expected)


@pytest.mark.parametrize("op", OPS)
def test_half_precision_and_foreign_byte_order_fall_back_and_are_right(compiled, op):
    draw = np.random.default_rng(1)
    x, d = draw.normal(size=(2, 6, 5))
    for dtype in (np.float16, np.longdouble, ">f4", ">f8"):
        arguments = [a.astype(dtype) for a in _arguments(op, x, d)]
        exact = [a.astype(np.float64) for a in arguments]
        e = np.exp(exact[0])
        expected = {
            "softmax": lambda e=e: e / e.sum(axis=-1, keepdims=True),
            "log_softmax": lambda e=e: np.log(e / e.sum(axis=-1, keepdims=True)),
            "sigmoid_delta": lambda x=exact: (
                1 / (1 + np.exp(-x[0] - x[1])) - 1 / (1 + np.exp(-x[0]))
            ),
        }[op]()
        y = getattr(compiled, op)(*arguments)
        assert y.dtype.kind == "f"
        assert y.dtype.itemsize == np.dtype(dtype).itemsize
        tolerance = 8 * max(float(np.finfo(dtype).eps), 2.0**-52)
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=tolerance, atol=tolerance)


def test_mixed_dtypes_are_promoted(compiled):
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    d = np.linspace(-1e-3, 2.0, 7)
    expected = 1 / (1 + np.exp(-x.astype(float) - d)) - 1 / (1 + np.exp(-x.astype(float)))
    for arguments, y in (
        ((x, d), expected),
        ((x.astype(np.float64), d.astype(np.float32)), expected),
    ):
        result = compiled.sigmoid_delta(*arguments)
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, y, rtol=2e-6)


def test_a_move_is_broadcast_against_its_place(compiled, portable):
    draw = np.random.default_rng(2)
    x, d = draw.normal(size=(4, 1, 3)), draw.normal(size=(5, 3))
    _assert_same(compiled.sigmoid_delta(x, d), portable.sigmoid_delta(x, d))
    place, moves = draw.normal(size=5), draw.normal(size=(9, 5))
    _assert_same(compiled.sigmoid_delta(place, moves), portable.sigmoid_delta(place, moves))
    _assert_same(
        compiled.sigmoid_delta(np.asarray(0.5), d), portable.sigmoid_delta(np.asarray(0.5), d)
    )


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_and_strided_inputs_are_read_and_left_alone(compiled, portable, op, dtype):
    draw = np.random.default_rng(3)
    whole = draw.normal(size=(2, 12, 20)).astype(dtype)
    layouts = (
        lambda a: a,
        lambda a: a[::2, ::3],
        lambda a: a[::-1, ::-1],
        lambda a: a.T[:, 3:],
        np.asfortranarray,
        lambda a: np.broadcast_to(a[0, :9], (4, 9)),
        lambda a: np.lib.stride_tricks.as_strided(a, (3, 4), (a.itemsize, a.itemsize)),
    )
    for lay_out in layouts:
        x, d = (lay_out(np.copy(a)) for a in whole)
        for a in (x, d):
            a.flags.writeable = False
        before = x.copy(), d.copy()
        arguments = _arguments(op, x, d)
        _assert_same(getattr(compiled, op)(*arguments), getattr(portable, op)(*arguments))
        np.testing.assert_array_equal((x, d), before)


def test_threads_that_compile_and_call_at_once_are_right(compiled, python, tmp_path):
    assert compiled.name == "numba"
    code = """
import threading
import numpy as np, accelnn
from accelnn.backends.numpy import NumpyBackend

portable = NumpyBackend()
draw = np.random.default_rng(0)
together = threading.Barrier(8)
failures, done, backends = [], [], set()

def work(i):
    dtype = ("float32", "float64")[i % 2]
    x, d = np.random.default_rng(i).normal(size=(2, 200, 1 + i)).astype(dtype)
    together.wait()
    b = accelnn.get_backend("numba")
    backends.add(b)
    for _ in range(50):
        for op, arguments in (("softmax", [x]), ("log_softmax", [x]), ("sigmoid_delta", [x, d])):
            tolerance = 16 * np.finfo(dtype).eps
            expected = getattr(portable, op)(*arguments)
            if not np.allclose(getattr(b, op)(*arguments), expected, tolerance, tolerance):
                failures.append((i, op))
    done.append(i)

threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(sorted(done), failures, len(backends))
"""
    printed = python(code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert printed == "[0, 1, 2, 3, 4, 5, 6, 7] [] 1"


def test_works_where_no_cache_folder_can_be_written(compiled, python, tmp_path):
    assert compiled.name == "numba"
    package = Path(accelnn.__file__).parent
    copy = tmp_path / "site" / "accelnn"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    # A plain file where a folder has to be stops even the superuser.
    blocked = tmp_path / "blocked"
    kernels = copy / "backends" / "numba" / "kernels"
    for path in (blocked, kernels / "__pycache__", kernels.parent / "__pycache__"):
        path.write_text("")
    environment = dict.fromkeys(
        ("NUMBA_CACHE_DIR", "HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME"),
        str(blocked / "below"),
    )
    code = f"ORDER = ['float64', 'float32']\n{COMPUTE}"
    cache, results = json.loads(python(code, copy.parent, **environment))
    assert cache == "NullCache"
    assert results == json.loads(python(code))[1]


def test_a_cache_folder_that_is_lost_after_the_import_stops_nothing(compiled, python, tmp_path):
    assert compiled.name == "numba"
    code = f"""
import os, pathlib, shutil
import accelnn
accelnn.get_backend("numba")
folder = pathlib.Path(os.environ["NUMBA_CACHE_DIR"])
shutil.rmtree(folder)
folder.write_text("")
ORDER = ["float32"]
{COMPUTE}
"""
    cache, results = json.loads(python(code, NUMBA_CACHE_DIR=str(tmp_path / "cache")))
    assert cache == "FunctionCache"
    assert set(results) == {f"{op} float32" for op in OPS}


def test_a_setting_that_numba_refuses_is_named(python):
    message, reason, row, *_ = json.loads(python(ASK, NUMBA_NUM_THREADS="0"))
    assert reason == "import failed"
    assert message.startswith(
        "numba is installed, but importing it failed with ValueError: Number of threads specified "
        "must be > 0. The environment has "
    )
    assert "NUMBA_NUM_THREADS='0'" in message
    command = message.splitlines()[-1].split()
    assert command[0] == "unset"
    assert "NUMBA_NUM_THREADS" in command
    assert "reinstall" not in message
    assert row == ["numba", False, message.strip(), ""]


def test_a_numba_that_is_not_installed(python):
    message, reason, row, auto, result = json.loads(python(NO_NUMBA + ASK))
    assert reason == "not installed"
    assert message == (
        "the numba backend needs the package numba, which is not installed. Install it with:"
        "\n\n    pip install 'accelnn[numba]'\n"
    )
    assert row == ["numba", False, message.strip(), ""]
    assert auto != "numba"
    assert result == [0.0, 2.0]


@pytest.mark.parametrize(
    ("defect", "shown"),
    [
        ("raise ImportError('Numba needs NumPy 2.1 or less')", "ImportError: Numba needs NumPy"),
        ("import llvmlite_of_another_age", "ModuleNotFoundError: No module named 'llvmlite_of"),
        ("raise OSError('libtbb.so: cannot open')", "OSError: libtbb.so: cannot open"),
    ],
)
def test_a_numba_that_does_not_import(python, tmp_path, defect, shown):
    (tmp_path / "fake" / "numba").mkdir(parents=True)
    (tmp_path / "fake" / "numba" / "__init__.py").write_text(defect)
    message, reason, row, auto, result = json.loads(python(ASK, tmp_path / "fake"))
    assert reason == "import failed"
    assert message.startswith(f"numba is installed, but importing it failed with {shown}")
    assert message.endswith("\n\n    pip install --force-reinstall numba\n")
    assert row == ["numba", False, message.strip(), ""]
    assert auto != "numba"
    assert result == [0.0, 2.0]
